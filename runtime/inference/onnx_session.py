"""Opens one file of a bundle with ONNX Runtime, for a single purpose: the same run, over and over, in the same memory.

Sizes that the graph leaves open are fixed to those of `model.yaml` before the graph is optimised (free dimension
overrides), so that every shape is static, and the library can plan its memory once: `enable_mem_pattern` makes the
first run's pattern one block, and `enable_cpu_mem_arena` keeps that block for the next run. The arena grows by what is
asked for and not by powers of two, and is never shrunk. Hence after the warm-up a run takes nothing from the system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.inference.backend import RING_LENGTH, BackendError
from runtime.inference.bundle import ModelBundle
from runtime.inference.heads.decoder import TensorShape
from runtime.inference.heads.specification import tensors_of

QUIET = 3  # ONNX Runtime's severity "error": its warnings about a graph are for whoever exports it

#: The bindings raise these, and their base is plain Exception: nothing narrower catches a failed load or run.
LIBRARY_ERRORS = tuple(
    value
    for value in vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    if isinstance(value, type) and issubclass(value, Exception)
)
RUN_ERRORS: tuple[type[Exception], ...] = (*LIBRARY_ERRORS, RuntimeError, ValueError)

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class OnnxSettings:
    """How ONNX Runtime may use the machine."""

    threads: int | Literal["auto"] = 1  # auto: chosen by measurement, with spinning, when the network is opened
    spinning: bool = False
    ring_length: int = RING_LENGTH
    #: Where ONNX Runtime writes its profile of every operator (a prefix of the file's name); None: nowhere.
    profile: Path | None = None

    def __post_init__(self) -> None:
        if self.threads != "auto" and not 1 <= self.threads <= 256:
            raise ValueError(f"threads is {self.threads}; it must be auto, or 1 to 256")
        if not 1 <= self.ring_length <= 64:
            raise ValueError(f"ring_length is {self.ring_length}; it must be 1 to 64")


def open_session(bundle: ModelBundle, role: str, settings: OnnxSettings) -> Any:
    """A session of the file with this role; `settings` name a number of threads. Raises BackendError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(settings.threads)
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.enable_mem_pattern = True
    options.enable_cpu_mem_arena = True
    options.log_severity_level = QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
    for symbol, size in open_sizes(bundle, role).items():
        options.add_free_dimension_override_by_name(symbol, size)
    if settings.profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(settings.profile)
    path = bundle.file(role)
    arena = {"arena_extend_strategy": "kSameAsRequested"}
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[("CPUExecutionProvider", arena)])
    except RUN_ERRORS as error:
        raise BackendError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}") from error


def open_sizes(bundle: ModelBundle, role: str) -> dict[str, int]:
    """What each size that the inputs leave open by name is here; raises BackendError where they contradict."""
    sizes: dict[str, int] = {}
    for entry in bundle.manifest.inputs:
        for symbol, size in zip(bundle.graphs[role].inputs[entry.name].symbols, entry.shape, strict=False):
            if symbol is None:
                continue
            if sizes.setdefault(symbol, size) != size:
                message = f"network {bundle.file(role)} calls two sizes {symbol!r}: {sizes[symbol]} and {size}"
                raise BackendError(f"{message} of input {entry.name!r} (fix: the shapes in model.yaml, or the export)")
    return sizes


def output_shapes(session: Any, bundle: ModelBundle, role: str, feeds: Mapping[str, NDArray[Any]]) -> Shapes:
    """Static shapes of the outputs that heads read; a size the graph leaves open is found by running `feeds` once."""
    names = sorted({name for head in bundle.manifest.heads for name in tensors_of(head).values()})
    declared: dict[str, TensorShape] = {name: bundle.graphs[role].outputs[name].shape for name in names}
    if all(size is not None for shape in declared.values() for size in shape):
        return {name: tuple(int(size or 0) for size in shape) for name, shape in declared.items()}
    try:
        results = session.run(names, dict(feeds))
    except RUN_ERRORS as error:
        raise BackendError(f"network {bundle.file(role)} cannot run: {error}") from error
    return {name: tuple(result.shape) for name, result in zip(names, results, strict=True)}


def padding_feeds(bundle: ModelBundle, calibrations: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """Every input of one run before anything is known: padding, unknown signals, initial states."""
    manifest = bundle.manifest
    feeds: dict[str, NDArray[Any]] = {entry.name: np.zeros(entry.shape, entry.dtype) for entry in manifest.image_inputs}
    feeds |= {entry.name: np.full(entry.shape, entry.unknown, np.float32) for entry in manifest.signals}
    feeds |= {entry.name: np.full(entry.shape, entry.initial, entry.dtype) for entry in manifest.states}
    return feeds | dict(calibrations)
