"""Backend `tensorrt`: framesets through a built engine on the GPU.

    the caller's thread                 the device's stream (lowest priority)
    images and signals -> pinned block
    launch one captured graph   ----->  copy in, network, copy back into the ring slot
    wait once                   <-----

Images are copied once on this side, from capture's ring into the pinned block that the graph reads (100 us for eight
320x192 images): a graph knows addresses, and capture's ring moves on. With `preprocess` on the device the graph begins
with the preprocessing kernel instead, and the prepared images come back from it (`device_feed`).

Everything else is as `Backend` promises. An error of the device spoils it for good, as CUDA's contexts go: the backend
then refuses every further frameset and says that the process has to be started again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.formats.source_image import SourceMemory
from runtime.inference.backend import RING_LENGTH, BackendError, NetworkDescription, RawOutputs
from runtime.inference.bundle import ModelBundle
from runtime.inference.calibration_feed import calibration_values
from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.heads.specification import tensors_of
from runtime.inference.image_feed import ImageFeed
from runtime.inference.padding import padding_frameset
from runtime.inference.states import ResetRule
from runtime.inference.tensorrt.device_feed import DeviceFeed, PinnedSources
from runtime.inference.tensorrt.driver import CudaError
from runtime.inference.tensorrt.engine import Engine
from runtime.inference.tensorrt.engine_builder import EngineError
from runtime.inference.tensorrt.engine_recipe import EngineRecipe
from runtime.inference.tensorrt.kernel_image import KernelImageError
from runtime.inference.tensorrt.kernel_trial import open_kernel
from runtime.inference.tensorrt.preprocess import PreprocessKernel
from runtime.inference.tensorrt.probe import Platform
from runtime.inference.tensorrt.tick_graphs import TickGraphs
from runtime.inference.tensorrt.tick_memory import TickMemory
from runtime.messages import Frameset, SignalReader
from runtime.rig import Rig

WARMUP_RUNS_PER_SLOT = 2


class TensorrtBackend:
    """One engine, loaded and captured. Open, run and close it; any thread may run it, one at a time."""

    def __init__(
        self,
        platform: Platform,
        engine_bytes: bytes,
        recipe: EngineRecipe,
        bundle: ModelBundle,
        layout: BatchLayout,
        cameras: Sequence[str],
        timer_ns: Callable[[], int] = time.perf_counter_ns,
        rig: Rig | None = None,
        ring_length: int = RING_LENGTH,
        preprocess: str = "host",
    ) -> None:
        """`preprocess` is host, device, or auto: on the device if its kernel can be trusted (`host_because` if not).

        Raises BackendError: the engine does not load, does not fit the bundle, or the device fails; KernelImageError
        where `device` is not to be had.
        """
        self.description = _describe(bundle, recipe, platform)
        self.ring_length = ring_length
        self._driver = platform.driver
        self._manifest = bundle.manifest
        self._layout = layout
        self._cameras = tuple(cameras)
        self._timer_ns = timer_ns
        self._rows = np.array([layout.row_of_camera[camera] for camera in cameras])
        self._feed = ImageFeed(bundle.manifest, layout, cameras)
        streams = layout.rows if layout.per_camera else 1
        self._rule = ResetRule(bundle.manifest.states, streams)
        self._turn = [0] * streams
        self._thread = threading.get_ident()
        self._refusal: str | None = None
        self.host_because = ""
        self.sources: SourceMemory | None = None
        self._on_device: DeviceFeed | None = None  # None: images are prepared on the CPU
        calibrations = calibration_values(bundle.manifest, layout, cameras, rig)
        with ExitStack() as undo:  # whatever fails, what was opened before is given back
            try:
                self._open(platform, engine_bytes, recipe, bundle, streams, preprocess, undo)
                self._memory.send_constants(self._stream, calibrations)
                before = () if self._on_device is None else self._on_device.before
                self._graphs = TickGraphs(
                    self._driver, self._stream, self._engine, self._memory, bundle.manifest, before
                )
            except (CudaError, EngineError) as error:
                raise BackendError(f"backend tensorrt cannot open {self.description.file}: {error}") from error
            undo.callback(self._graphs.free)
            self._undo = undo.pop_all()
        self._ring = [self._make_slot(index) for index in range(ring_length)]
        self._next = 0

    def warmup(self) -> None:
        """Run on padding through the whole ring and every turn: clocks rise and caches fill."""
        frameset = padding_frameset(self._cameras, self._manifest.images.image_spec, present=True)
        for _ in range(WARMUP_RUNS_PER_SLOT * self.ring_length):
            self.infer(frameset, None)
        self.reset()

    def infer(self, frameset: Frameset, signals: SignalReader | None) -> RawOutputs:
        """See `Backend.infer`."""
        if self._refusal is not None:
            raise BackendError(self._refusal)
        self._feed.check(frameset)
        started_ns = self._timer_ns()
        slot = self._next
        self._next = (slot + 1) % self.ring_length
        outputs = self._ring[slot]
        self._fill_signals(signals)
        outputs.row_present.fill(False)
        outputs.row_present[self._rows] = frameset.present
        try:
            self._follow_thread()
            if self._layout.per_camera:
                self._run_cameras(slot, outputs, frameset)
            else:
                if self._on_device is None:
                    self._feed.write(frameset, self._images[0])
                else:
                    self._on_device.show(frameset)
                self._launch(slot, 0, frameset.time_ns)
            self._driver.synchronise(self._stream)
            if self._on_device is not None:
                self._on_device.give_prepared(frameset)
        except CudaError as error:
            self._refusal = f"the GPU failed while {self.description.file} ran, and its context is lost: {error}"
            raise BackendError(self._refusal) from error
        outputs.infer_ns = self._timer_ns() - started_ns
        return outputs

    def reset(self) -> None:
        """See `Backend.reset`."""
        self._rule.reset()

    def close(self) -> None:
        """Give graphs, engine and device memory back; arrays that somebody still holds stay readable."""
        if self._refusal is not None:
            return  # closed already, or a lost context: nothing can be given back but by ending the process
        self._refusal = f"network {self.description.name!r} is closed"
        self._ring.clear()
        try:
            self._follow_thread()
            self._undo.close()
        except CudaError as error:
            raise BackendError(f"the GPU failed while {self.description.file} was closed: {error}") from error

    def _open(
        self,
        platform: Platform,
        engine_bytes: bytes,
        recipe: EngineRecipe,
        bundle: ModelBundle,
        streams: int,
        preprocess: str,
        undo: ExitStack,
    ) -> None:
        """Stream, engine and memory, each with its way back."""
        self._stream = self._driver.open_stream()
        undo.callback(self._driver.close_stream, self._stream)
        self._engine = Engine(platform.trt, engine_bytes, dict(recipe.shapes))
        undo.callback(self._engine.close)
        _check_fit(self._engine, bundle, recipe)
        read = sorted({name for head in bundle.manifest.heads for name in tensors_of(head).values()})
        kernel = self._kernel(preprocess)
        self._memory = TickMemory(
            self._driver, self._engine.tensors, bundle.manifest, read, streams, self.ring_length, kernel is not None
        )
        undo.callback(self._memory.free)
        if kernel is not None:
            own = [memory.input_addresses for memory in self._memory.streams]
            self._on_device = DeviceFeed(self._driver, kernel, bundle.manifest, own, self._layout, self._cameras)
            undo.callback(self._on_device.free)
            self.sources = PinnedSources(self._driver, bundle.manifest)
        self._images, self._signals = self._inputs()

    def _kernel(self, preprocess: str) -> PreprocessKernel | None:
        """The kernel, where the device is to prepare images. Raises KernelImageError where it has to and cannot."""
        if preprocess == "host":
            return None
        try:
            return open_kernel(self._driver, self._manifest.images.image_spec, self._stream)
        except KernelImageError as error:
            if preprocess == "device":
                raise
            self.host_because = f"images are prepared on the CPU: {error}"
            return None

    def _run_cameras(self, slot: int, outputs: RawOutputs, frameset: Frameset) -> None:
        for camera in range(self._layout.rows):
            if frameset.present[camera]:
                if self._on_device is None:
                    self._feed.write_camera(frameset, camera, self._images[camera][0])
                else:
                    self._on_device.show_camera(frameset, camera)
                self._launch(slot, camera, frameset.time_ns)
            else:
                for tensor in outputs.tensors.values():
                    tensor[camera].fill(0)

    def _launch(self, slot: int, stream: int, time_ns: int) -> None:
        """Put one run into the stream, after states that are due have begun anew."""
        turn = self._turn[stream]
        memory = self._memory
        for index, initial in enumerate(memory.initial_states):
            if self._rule.is_due(stream, index, time_ns):
                self._driver.copy_to_device(memory.streams[stream].state_addresses[turn][index], initial, self._stream)
        self._graphs.launch(slot, stream, turn)
        self._turn[stream] = (turn + 1) % self._graphs.turns
        self._rule.ran(stream, time_ns)

    def _follow_thread(self) -> None:
        """A CUDA context is current in a thread: the tick may run in another one than the opening."""
        thread = threading.get_ident()
        if thread != self._thread:
            self._driver.make_current()
            self._thread = thread

    def _fill_signals(self, signals: SignalReader | None) -> None:
        for entry, buffers in self._signals:
            value = None if signals is None else signals.value(entry.signal)
            known = entry.unknown if value is None or isinstance(value, str) else float(value)
            for buffer in buffers:
                buffer.fill(known)

    def _inputs(self) -> tuple[list[list[NDArray[Any]]], list[tuple[Any, list[NDArray[Any]]]]]:
        """By stream the image of each row, filled with padding; and by signal its buffer in each stream."""
        images: list[list[NDArray[Any]]] = []
        for memory in self._memory.streams:
            rows: list[NDArray[Any]] = []
            if self._on_device is None:
                rows = [row for entry in self._manifest.image_inputs for row in memory.inputs[entry.name]]
            self._feed.pad(rows)
            images.append(rows)
        streams = self._memory.streams
        signals = [(entry, [memory.inputs[entry.name] for memory in streams]) for entry in self._manifest.signals]
        return images, signals

    def _make_slot(self, index: int) -> RawOutputs:
        return RawOutputs(index, self._memory.slot_tensors(index), np.zeros(self._layout.rows, np.bool_))


def _describe(bundle: ModelBundle, recipe: EngineRecipe, platform: Platform) -> NetworkDescription:
    return NetworkDescription(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        backend="tensorrt",
        precision=recipe.precision,
        file=bundle.manifest.files[recipe.role].path,
        sha256=bundle.sha256(recipe.role),
        threads=1,
        engine=str(platform),
    )


def _check_fit(engine: Engine, bundle: ModelBundle, recipe: EngineRecipe) -> None:
    """The engine has the inputs that the bundle declares, and nothing else. Raises EngineError."""
    declared = {entry.name: (tuple(entry.shape), np.dtype(entry.dtype)) for entry in bundle.manifest.inputs}
    found = {tensor.name: (tensor.shape, tensor.dtype) for tensor in engine.tensors.values() if tensor.is_input}
    wrong = [
        f"{name}: engine {found.get(name)}, model.yaml {declared.get(name)}"
        for name in sorted(declared.keys() | found.keys())
        if declared.get(name) != found.get(name)
    ]
    missing = sorted(bundle.graphs[recipe.role].outputs.keys() - engine.tensors.keys())
    if wrong or missing:
        raise EngineError(f"the engine is not this network's: inputs {wrong}, missing outputs {missing}")
