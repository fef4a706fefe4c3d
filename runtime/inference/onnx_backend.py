"""Backend `onnx`: ONNX Runtime on the CPU, the embedded default and the reference for every other.

Everything that a run touches is bound by address before it starts: images where capture left them (`image_feed`),
signals in a small buffer, matrices of the rig in theirs, states in pairs that change places (`states`), outputs in a
ring of NumPy arrays. A batch-1 network has its bindings for each camera, whose outputs are that camera's rows of the
same arrays, so that heads see one stacked batch either way. `onnx_session` says what the library itself allocates.

Threads do not spin by default: a spinning thread takes a core from the stack that we must not starve. `onnx_threads`
chooses both by measurement where that is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.formats.source_image import SourceMemory
from runtime.inference.backend import BackendError, NetworkDescription, RawOutputs
from runtime.inference.bundle import ModelBundle
from runtime.inference.calibration_feed import calibration_values
from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.image_feed import ImageFeed
from runtime.inference.onnx_session import (
    RUN_ERRORS,
    OnnxSettings,
    Shapes,
    open_session,
    output_shapes,
    padding_feeds,
)
from runtime.inference.onnx_threads import choose_threads
from runtime.inference.padding import padding_frameset
from runtime.inference.states import StateMemory
from runtime.messages import Frameset, SignalReader
from runtime.rig import Rig

__all__ = ["OnnxBackend", "OnnxSettings"]

WARMUP_RUNS_PER_SLOT = 2


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
        rig: Rig | None = None,
    ) -> None:
        self._calibrations = calibration_values(bundle.manifest, layout, cameras, rig)
        matrices = {name: values[0] for name, values in self._calibrations.items()}
        settings, because = _settled(settings or OnnxSettings(), bundle, role, matrices)
        self.description = _describe(bundle, role, settings, because)
        self.ring_length = settings.ring_length
        self.sources: SourceMemory | None = None
        self._manifest = bundle.manifest
        self._layout = layout
        self._cameras = tuple(cameras)
        self._timer_ns = timer_ns
        self._rows = np.array([layout.row_of_camera[camera] for camera in cameras])
        self._feed = ImageFeed(bundle.manifest, layout, cameras)
        self._signals = [(entry, np.full(entry.shape, entry.unknown, np.float32)) for entry in bundle.manifest.signals]
        self._streams = layout.rows if layout.per_camera else 1
        self._states = StateMemory(bundle.manifest.states, self._streams)
        self._session: Any = open_session(bundle, role, settings)
        shapes = output_shapes(self._session, bundle, role, padding_feeds(bundle, matrices))
        self._ring = [self._make_slot(index, shapes, bundle, role) for index in range(settings.ring_length)]
        self._next = 0
        self._profiles = settings.profile is not None

    def warmup(self) -> None:
        """Run on padding through the whole ring, so that arenas and caches have what a run needs."""
        frameset = padding_frameset(self._cameras, self._manifest.images.image_spec, present=True)
        for _ in range(WARMUP_RUNS_PER_SLOT * self.ring_length):
            self.infer(frameset, None)
        self.reset()

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
                self._run(slot, 0, self._feed.addresses(frameset), frameset.time_ns)
        except RUN_ERRORS as error:
            raise BackendError(f"network {self.description.file} failed while running: {error}") from error
        slot.outputs.infer_ns = self._timer_ns() - started_ns
        return slot.outputs

    def reset(self) -> None:
        """See `Backend.reset`."""
        self._states.reset()

    def close(self) -> None:
        """Give the session back; arrays that somebody still holds stay readable."""
        if self._session is not None and self._profiles:
            self._session.end_profiling()
        self._session = None
        self._ring.clear()

    def _run_cameras(self, slot: _Slot, frameset: Frameset) -> None:
        for camera in range(self._layout.rows):
            if frameset.present[camera]:
                addresses = self._feed.camera_addresses(frameset, camera)
                self._run(slot, camera, addresses, frameset.time_ns)
            else:
                for tensor in slot.arrays:
                    tensor[camera].fill(0)

    def _run(self, slot: _Slot, stream: int, addresses: Sequence[int], time_ns: int) -> None:
        turn = self._states.begin(stream, time_ns)
        binding = slot.bindings[stream][turn]
        for images, address in zip(self._manifest.image_inputs, addresses, strict=True):
            binding.bind_input(images.name, "cpu", 0, images.dtype, images.shape, address)
        self._session.run_with_iobinding(binding)
        self._states.end(stream, time_ns)
        for read, shown in slot.shown_states[stream][turn]:
            np.copyto(shown, read)

    def _fill_signals(self, signals: SignalReader | None) -> None:
        for entry, buffer in self._signals:
            value = None if signals is None else signals.value(entry.signal)
            buffer.fill(entry.unknown if value is None or isinstance(value, str) else float(value))

    def _make_slot(self, index: int, shapes: Shapes, bundle: ModelBundle, role: str) -> _Slot:
        per_camera = self._layout.per_camera
        tensors: dict[str, NDArray[Any]] = {}
        for name, shape in shapes.items():
            stacked = (self._layout.rows, *shape[1:]) if per_camera else shape
            tensors[name] = np.zeros(stacked, bundle.graphs[role].outputs[name].dtype)
        #: By stream, the part of each tensor that its run writes.
        parts = [
            {name: tensor[stream : stream + 1] if per_camera else tensor for name, tensor in tensors.items()}
            for stream in range(self._streams)
        ]
        turns = range(self._states.turns)
        return _Slot(
            RawOutputs(index, tensors, np.zeros(self._layout.rows, np.bool_)),
            tuple(tensors.values()),
            [[self._bind(part, stream, turn) for turn in turns] for stream, part in enumerate(parts)],
            [[self._shown_states(part, stream, turn) for turn in turns] for stream, part in enumerate(parts)],
        )

    def _bind(self, outputs: dict[str, NDArray[Any]], stream: int, turn: int) -> Any:
        """A binding of everything but the images, whose address follows on each run."""
        binding = self._session.io_binding()
        states = self._manifest.states
        arrays = [(entry.name, buffer) for entry, buffer in self._signals]
        arrays += [(name, values[stream]) for name, values in self._calibrations.items()]
        arrays += zip((state.name for state in states), self._states.reads(stream, turn), strict=True)
        for name, array in arrays:
            binding.bind_input(name, "cpu", 0, array.dtype.name, array.shape, array.ctypes.data)
        fed = dict(zip((state.output for state in states), self._states.writes(stream, turn), strict=True))
        for name, array in {**outputs, **fed}.items():
            binding.bind_output(name, "cpu", 0, array.dtype.name, array.shape, array.ctypes.data)
        return binding

    def _shown_states(self, outputs: dict[str, NDArray[Any]], stream: int, turn: int) -> list[_Copy]:
        """States that heads read as well: an output has one address, so these are copied after the run."""
        written = zip(self._manifest.states, self._states.writes(stream, turn), strict=True)
        return [(array, outputs[state.output]) for state, array in written if state.output in outputs]


#: From where to where.
_Copy = tuple[NDArray[Any], NDArray[Any]]


@dataclass(slots=True)
class _Slot:
    """One set of the ring: what is handed out, the arrays behind it, and by stream and turn what writes them."""

    outputs: RawOutputs
    arrays: tuple[NDArray[Any], ...]
    bindings: list[list[Any]]
    shown_states: list[list[list[_Copy]]]


def _settled(
    settings: OnnxSettings, bundle: ModelBundle, role: str, matrices: dict[str, NDArray[np.float32]]
) -> tuple[OnnxSettings, str]:
    """Settings with a number of threads, and the measurement that chose it, if one was asked for."""
    if settings.threads != "auto":
        return settings, ""
    choice = choose_threads(bundle, role, settings, matrices)
    return replace(settings, threads=choice.threads, spinning=choice.spinning), choice.because


def _describe(bundle: ModelBundle, role: str, settings: OnnxSettings, because: str) -> NetworkDescription:
    return NetworkDescription(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        backend="onnx",
        precision="int8" if role == "cpu_int8" else "fp32",
        file=bundle.manifest.files[role].path,
        sha256=bundle.sha256(role),
        threads=int(settings.threads),
        engine=f"onnxruntime {onnxruntime.__version__}",
        spinning=settings.spinning,
        threads_because=because,
    )
