"""From an ONNX file to an engine: minutes of work on the very device that will run it.

TensorRT times its kernels while it builds, so nothing else should load the GPU, and nothing here is ever called while
the vehicle drives: `shadowrig model build` is the only caller. All work of an engine stays in one stream
(`max_aux_streams` 0), so that the tick's graph is a simple chain and its time is the sum of its parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.inference.tensorrt.engine_recipe import EngineRecipe

#: The library's last words that are kept for an error message.
KEPT_MESSAGES = 8


class EngineError(RuntimeError):
    """TensorRT does not build or load an engine; with what it said."""


class TrtLog:
    """TensorRT's log: warnings and errors, the newest few, for error messages. `logger` is what its classes take."""

    def __init__(self, trt: Any) -> None:
        self._messages: deque[str] = deque(maxlen=KEPT_MESSAGES)
        serious = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
        messages = self._messages

        # The base class is known only once a TensorRT has been found, hence a class in here.
        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in serious:
                    messages.append(message.strip())

        self.logger = Logger()

    def take(self) -> str:
        """What was said since the last time, on one line."""
        said = "; ".join(self._messages)
        self._messages.clear()
        return said or "it gave no reason"


def build_engine(trt: Any, onnx_path: Path, recipe: EngineRecipe, log: TrtLog | None = None) -> bytes:
    """The engine of `recipe`, serialised.

    Raises:
        EngineError: with the parser's or the builder's words.
        OSError: the file cannot be read.
    """
    log = log or TrtLog(trt)
    builder = trt.Builder(log.logger)
    network = builder.create_network(_bits(trt.NetworkDefinitionCreationFlag, recipe.network_flags))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse(onnx_path.read_bytes()):
        said = "; ".join(_parser_errors(parser)) or log.take()
        lint = f"'shadowrig calibrate lint {onnx_path}' names the node"
        fix = lint if recipe.precision == "int8" else "export it with another opset"
        raise EngineError(f"TensorRT {recipe.tensorrt} cannot parse {onnx_path}: {said} (fix: {fix})")
    data = builder.build_serialized_network(network, _configure(trt, builder, network, recipe))
    if data is None:
        raise EngineError(f"TensorRT {recipe.tensorrt} cannot build {onnx_path}: {log.take()}")
    return bytes(data)


def _configure(trt: Any, builder: Any, network: Any, recipe: EngineRecipe) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
    config.max_aux_streams = 0
    for name in recipe.builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    if recipe.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # ten bits of mantissa are not FP32
    shapes = dict(recipe.shapes)
    open_inputs = [tensor for tensor in map(network.get_input, range(network.num_inputs)) if -1 in tuple(tensor.shape)]
    if open_inputs:
        profile = builder.create_optimization_profile()
        for tensor in open_inputs:
            profile.set_shape(tensor.name, shapes[tensor.name], shapes[tensor.name], shapes[tensor.name])
        config.add_optimization_profile(profile)
    return config


def _bits(enumeration: Any, names: tuple[str, ...]) -> int:
    return sum(1 << int(getattr(enumeration, name)) for name in names)


def _parser_errors(parser: Any) -> Iterator[str]:
    for index in range(min(parser.num_errors, KEPT_MESSAGES)):
        error = parser.get_error(index)
        yield f"node {error.node()}: {error.desc()}"
