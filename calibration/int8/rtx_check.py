"""Builds a file for TensorRT on a machine without a GPU, with `tensorrt_rtx`, and says which layers run in INT8.

TensorRT for RTX has TensorRT's ONNX parser and graph compiler, and its builder needs no GPU: "CPU-only ahead-of-time"
builds are its default (docs.nvidia.com, TensorRT-RTX, "CPU-Only AOT and TensorRT-RTX Engines"). So what it refuses is
not worth taking to the vehicle. What it does not show is speed, nor the kernels that TensorRT chooses on the vehicle;
and an engine made here runs on RTX cards only, so it is thrown away.

With detailed profiling verbosity the builder logs the finished engine layer by layer, at severity VERBOSE, each layer
with the type of its inputs, constants and outputs. That log is read here, because the engine inspector would
have to load the engine, which does need a GPU.

    report = build_with_rtx(Path("model.trt.qdq.onnx"))
    report.errors                  # () when it builds
    report.int8_convolutions       # ONNX names of convolutions with int8 data and int8 weights
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

INSTALL_HINT = "pip install 'shadowrig[trt-check]'"
#: How the engine log calls a convolution; a transposed one is a convolution backward to its data.
CONVOLUTION_LAYERS = frozenset({"correlation", "convolution", "deconvolution", "conv", "deconv", "dgrad"})
ENGINE_LOG_START = "Layers:"
#: Messages kept of a build; a hopeless file logs one error per node.
MOST_MESSAGES = 200


class RtxNotInstalledError(ImportError):
    """`tensorrt_rtx` is not importable here; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """One layer of a finished engine."""

    kind: str
    onnx_nodes: tuple[str, ...]  # names of the ONNX nodes that went into it
    inputs: tuple[str, ...]  # data types: Int8, Half, Float, ...
    constants: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def convolves(self) -> bool:
        return self.kind in CONVOLUTION_LAYERS

    @property
    def is_int8(self) -> bool:
        """Bytes in and bytes as weights."""
        return bool(self.inputs) and self.inputs[0] == "Int8" and "Int8" in self.constants[:1]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build said. `errors` is empty when an engine came out."""

    version: str
    engine_bytes: int
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    layers: tuple[EngineLayer, ...]

    @property
    def convolutions(self) -> tuple[EngineLayer, ...]:
        return tuple(layer for layer in self.layers if layer.convolves)

    @property
    def int8_convolutions(self) -> tuple[str, ...]:
        """First ONNX node of every convolution that runs in INT8."""
        return tuple(layer.onnx_nodes[0] for layer in self.convolutions if layer.is_int8 and layer.onnx_nodes)


def build_with_rtx(path: Path) -> BuildReport:
    """Parse and build an ONNX file as a strongly typed network; nothing is written.

    Raises:
        RtxNotInstalledError: without `tensorrt_rtx`.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    trt = _import()
    logger = _collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data):
        errors = tuple(_parser_error(parser.get_error(index)) for index in range(min(parser.num_errors, MOST_MESSAGES)))
        return BuildReport(trt.__version__, 0, errors or ("the parser refused the file without a word",), (), ())
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    engine = builder.build_serialized_network(network, config)
    size = int(engine.nbytes) if engine is not None else 0
    errors = tuple(logger.errors) if engine is None else ()
    if engine is None and not errors:
        errors = ("the builder made no engine without a word",)
    return BuildReport(trt.__version__, size, errors, tuple(logger.warnings), read_engine_log(logger.engine_log))


def read_engine_log(log: str) -> tuple[EngineLayer, ...]:
    """Layers of the builder's engine information."""
    return tuple(layer for line in log.splitlines() if (layer := _read_layer(line)) is not None)


def _import() -> ModuleType:
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        raise RtxNotInstalledError(f"tensorrt_rtx is not installed ({error}); {INSTALL_HINT}") from error


def _collecting_logger(trt: ModuleType) -> Any:
    """A logger that keeps what is needed. The base class exists only once the wheel is imported."""

    class Collector(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.engine_log = ""

        def log(self, severity: Any, message: str) -> None:
            if message.startswith(ENGINE_LOG_START):
                self.engine_log = message
            elif severity <= trt.ILogger.Severity.ERROR and len(self.errors) < MOST_MESSAGES:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING and len(self.warnings) < MOST_MESSAGES:
                self.warnings.append(message)

    return Collector()


def _parser_error(error: Any) -> str:
    place = f"node {error.node()}"
    if error.node_name():
        place += f" {error.node_operator()} {error.node_name()}"
    return f"{place}: {error.desc()} ({error.code()})"


def _read_layer(line: str) -> EngineLayer | None:
    kind = re.search(r"LayerType: (\w+)", line)
    if not line.startswith("Name:") or kind is None:
        return None
    parts = {name: _types_in(line, name) for name in ("Inputs", "Constants", "Outputs")}
    nodes = tuple(re.findall(r"\[ONNX Layer: ([^\]]+)\]", line))
    return EngineLayer(kind.group(1), nodes, parts["Inputs"], parts["Constants"], parts["Outputs"])


def _types_in(line: str, part: str) -> tuple[str, ...]:
    """Data types in one bracketed list of a layer's line."""
    start = line.find(f"{part}: [")
    if start < 0:
        return ()
    depth, position = 0, line.index("[", start)
    for end in range(position, len(line)):
        depth += {"[": 1, "]": -1}.get(line[end], 0)
        if depth == 0:
            return tuple(re.findall(r"Datatype: (\w+)", line[position:end]))
    return ()
