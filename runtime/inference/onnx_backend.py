"""Backend `onnx`: ONNX Runtime on the CPU, the embedded default and the reference for every other.

Everything that a run touches is bound by address before it starts: images where capture left them (`image_feed`),
signals in a small buffer, outputs in a ring of NumPy arrays. A batch-1 network has one binding per ring set and camera,
whose outputs are that camera's rows of the same arrays, so that heads see one stacked batch either way.

Threads do not spin by default: a spinning thread takes a core from the stack that we must not starve.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.inference.backend import RING_LENGTH, BackendError, NetworkDescription, RawOutputs
from runtime.inference.bundle import ModelBundle
from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.heads.specification import tensors_of
from runtime.inference.image_feed import ImageFeed
from runtime.messages import Frameset, SignalReader

WARMUP_RUNS_PER_SLOT = 2
QUIET = 3  # ONNX Runtime's severity "error": its warnings about a graph are for whoever exports it

#: The bindings raise these, and their base is plain Exception: nothing narrower catches a failed load or run.
LIBRARY_ERRORS = tuple(
    value
    for value in vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    if isinstance(value, type) and issubclass(value, Exception)
)
RUN_ERRORS: tuple[type[Exception], ...] = (*LIBRARY_ERRORS, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class OnnxSettings:
    """How ONNX Runtime may use the machine."""

    threads: int = 1
    spinning: bool = False
    ring_length: int = RING_LENGTH

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= 256:
            raise ValueError(f"threads is {self.threads}; it must be 1 to 256")
        if not 1 <= self.ring_length <= 64:
            raise ValueError(f"ring_length is {self.ring_length}; it must be 1 to 64")


class OnnxBackend:
    """One file of a bundle, loaded. `role` is `fp32` or `cpu_int8`."""

    def __init__(
        self,
        bundle: ModelBundle,
        role: str,
        layout: BatchLayout,
        cameras: Sequence[str],
        settings: OnnxSettings | None = None,
        timer_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        settings = settings or OnnxSettings()
        self.description = _describe(bundle, role, settings)
        self.ring_length = settings.ring_length
        self._manifest = bundle.manifest
        self._layout = layout
        self._cameras = tuple(cameras)
        self._timer_ns = timer_ns
        self._rows = np.array([layout.row_of_camera[camera] for camera in cameras])
        self._feed = ImageFeed(bundle.manifest.images, layout, cameras)
        self._signals = [(entry, np.full(entry.shape, entry.unknown, np.float32)) for entry in bundle.manifest.signals]
        self._session: Any = _open_session(bundle, role, settings)
        shapes = _output_shapes(self._session, bundle, role)
        self._ring = [self._make_slot(index, shapes, bundle, role) for index in range(settings.ring_length)]
        self._next = 0

    def warmup(self) -> None:
        """Run on padding through the whole ring, so that arenas and caches have what a run needs."""
        frameset = self._padding()
        for _ in range(WARMUP_RUNS_PER_SLOT * self.ring_length):
            self.infer(frameset, None)

    def infer(self, frameset: Frameset, signals: SignalReader | None) -> RawOutputs:
        """See `Backend.infer`."""
        if self._session is None:
            raise BackendError(f"network {self.description.name!r} is closed")
        self._feed.check(frameset)
        started_ns = self._timer_ns()
        slot = self._ring[self._next]
        self._next = (self._next + 1) % self.ring_length
        self._fill_signals(signals)
        slot.outputs.row_present.fill(False)
        slot.outputs.row_present[self._rows] = frameset.present
        try:
            if self._layout.per_camera:
                self._run_cameras(slot, frameset)
            else:
                self._run(slot.bindings[0], self._feed.batch_address(frameset))
        except RUN_ERRORS as error:
            raise BackendError(f"network {self.description.file} failed while running: {error}") from error
        slot.outputs.infer_ns = self._timer_ns() - started_ns
        return slot.outputs

    def close(self) -> None:
        """Give the session back; arrays that somebody still holds stay readable."""
        self._session = None
        self._ring.clear()

    def _run_cameras(self, slot: _Slot, frameset: Frameset) -> None:
        for camera, binding in enumerate(slot.bindings):
            if frameset.present[camera]:
                self._run(binding, self._feed.camera_address(frameset, camera))
            else:
                for tensor in slot.arrays:
                    tensor[camera].fill(0)

    def _run(self, binding: Any, images_address: int) -> None:
        images = self._manifest.images
        binding.bind_input(images.name, "cpu", 0, images.dtype, images.shape, images_address)
        self._session.run_with_iobinding(binding)

    def _fill_signals(self, signals: SignalReader | None) -> None:
        for entry, buffer in self._signals:
            value = None if signals is None else signals.value(entry.signal)
            buffer.fill(entry.unknown if value is None or isinstance(value, str) else float(value))

    def _make_slot(self, index: int, shapes: dict[str, tuple[int, ...]], bundle: ModelBundle, role: str) -> _Slot:
        tensors: dict[str, NDArray[Any]] = {}
        for name, shape in shapes.items():
            stacked = (self._layout.rows, *shape[1:]) if self._layout.per_camera else shape
            tensors[name] = np.zeros(stacked, bundle.graphs[role].outputs[name].dtype)
        count = self._layout.rows if self._layout.per_camera else 1
        bindings = [self._bind(tensors, row if self._layout.per_camera else None, shapes) for row in range(count)]
        row_present = np.zeros(self._layout.rows, np.bool_)
        return _Slot(RawOutputs(index, tensors, row_present), tuple(tensors.values()), bindings)

    def _bind(self, tensors: dict[str, NDArray[Any]], row: int | None, shapes: dict[str, tuple[int, ...]]) -> Any:
        """A binding of every signal and output; the images' address follows on each run."""
        binding = self._session.io_binding()
        for entry, buffer in self._signals:
            binding.bind_input(entry.name, "cpu", 0, buffer.dtype.name, buffer.shape, buffer.ctypes.data)
        for name, tensor in tensors.items():
            view = tensor if row is None else tensor[row]
            binding.bind_output(name, "cpu", 0, tensor.dtype.name, shapes[name], view.ctypes.data)
        return binding

    def _padding(self) -> Frameset:
        count = len(self._cameras)
        images = self._manifest.images
        return Frameset(
            sequence=0,
            time_ns=0,
            cameras=self._cameras,
            present=np.ones(count, np.bool_),
            frame_time_ns=np.zeros(count, np.int64),
            frame_sequence=np.zeros(count, np.int64),
            images=np.full((count, *images.shape[1:]), images.pad_value, np.uint8),
        )


@dataclass(slots=True)
class _Slot:
    """One set of the ring: what is handed out, the arrays behind it, and the bindings that write them."""

    outputs: RawOutputs
    arrays: tuple[NDArray[Any], ...]
    bindings: list[Any]


def _describe(bundle: ModelBundle, role: str, settings: OnnxSettings) -> NetworkDescription:
    return NetworkDescription(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        backend="onnx",
        precision="int8" if role == "cpu_int8" else "fp32",
        file=bundle.manifest.files[role].path,
        sha256=bundle.sha256(role),
        threads=settings.threads,
        engine=f"onnxruntime {onnxruntime.__version__}",
    )


def _open_session(bundle: ModelBundle, role: str, settings: OnnxSettings) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.log_severity_level = QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
    path = bundle.file(role)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except RUN_ERRORS as error:
        raise BackendError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}") from error


def _output_shapes(session: Any, bundle: ModelBundle, role: str) -> dict[str, tuple[int, ...]]:
    """Static shapes of the outputs that heads read; a size the graph leaves open is found by running it once."""
    names = sorted({name for head in bundle.manifest.heads for name in tensors_of(head).values()})
    declared = {name: bundle.graphs[role].outputs[name].shape for name in names}
    if all(size is not None for shape in declared.values() for size in shape):
        return {name: tuple(int(size or 0) for size in shape) for name, shape in declared.items()}
    inputs = bundle.manifest.inputs
    feeds: dict[str, NDArray[Any]] = {entry.name: np.zeros(entry.shape, entry.dtype) for entry in inputs}
    try:
        results = session.run(names, feeds)
    except RUN_ERRORS as error:
        raise BackendError(f"network {bundle.file(role)} cannot run: {error}") from error
    return {name: tuple(result.shape) for name, result in zip(names, results, strict=True)}
