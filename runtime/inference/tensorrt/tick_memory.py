"""All memory of all ticks, taken once: pinned blocks on this side, and their twins on the device.

    stream        the one batch, or each camera of a network that runs once per camera
    input block   images and signals of one stream, one after another: one copy to the device for each run; only the
                  signals where images are prepared on the device, which has memory for them then
    output block  what heads read: one copy back for each run; the device has one, the host a ring of them
    constants     matrices of the rig: copied once, when the network is opened
    states        two on the device for each stream, which change places; they never come back unless a head reads them

Tensors begin on 256-byte boundaries. Outputs that nobody reads have memory on the device and are not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.inference.calibration_feed import Calibrations
from runtime.inference.manifest import Manifest
from runtime.inference.states import TURNS
from runtime.inference.tensorrt.driver import ALIGNMENT_BYTES, CudaDriver, CudaError, PinnedArray
from runtime.inference.tensorrt.engine import EngineTensor

Allocate = Callable[[int], int]


class BlockLayout:
    """Tensors one after another in a block, each on its boundary."""

    def __init__(self, tensors: Sequence[EngineTensor]) -> None:
        self.tensors = tuple(tensors)
        self.offsets: dict[str, int] = {}
        self.size_bytes = 0
        for tensor in tensors:
            self.offsets[tensor.name] = self.size_bytes
            self.size_bytes += -(-tensor.size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

    def views(self, block: PinnedArray) -> dict[str, NDArray[Any]]:
        """Each tensor as an array over the block."""
        found: dict[str, NDArray[Any]] = {}
        for tensor in self.tensors:
            start = self.offsets[tensor.name]
            found[tensor.name] = block[start : start + tensor.size_bytes].view(tensor.dtype).reshape(tensor.shape)
        return found

    def addresses(self, address: int) -> dict[str, int]:
        """Each tensor's address in a block at `address`."""
        return {name: address + offset for name, offset in self.offsets.items()}


class StreamMemory:
    """What one stream of framesets has to itself."""

    def __init__(
        self,
        driver: CudaDriver,
        allocate: Allocate,
        inputs: BlockLayout,
        made_there: BlockLayout,
        states: Sequence[EngineTensor],
    ) -> None:
        """`inputs` are copied to the device, `made_there` are written on it."""
        self.pinned_inputs = driver.pinned(inputs.size_bytes) if inputs.size_bytes else np.zeros(0, np.uint8)
        self.inputs = inputs.views(self.pinned_inputs)
        self.device_inputs = allocate(inputs.size_bytes)
        self.input_addresses = inputs.addresses(self.device_inputs)
        self.input_addresses |= made_there.addresses(allocate(made_there.size_bytes))
        self.state_addresses = [[allocate(state.size_bytes) for state in states] for _ in range(TURNS)]
        self.constant_addresses: dict[str, int] = {}


class TickMemory:
    """The memory of a network on a device. `free` gives the device's back; pinned arrays live while someone looks."""

    def __init__(
        self,
        driver: CudaDriver,
        tensors: Mapping[str, EngineTensor],
        manifest: Manifest,
        read_outputs: Sequence[str],
        streams: int,
        ring_length: int,
        images_made_there: bool = False,
    ) -> None:
        """Raises CudaError when there is not enough of it; then nothing is held."""
        self._driver = driver
        self._blocks: list[int] = []
        try:
            self._take(tensors, manifest, read_outputs, streams, ring_length, images_made_there)
        except CudaError:
            self.free()
            raise

    def slot_block(self, slot: int, stream: int) -> PinnedArray:
        """The part of a ring slot that a stream's run writes."""
        return self.ring[slot][stream * self.slot_bytes : (stream + 1) * self.slot_bytes]

    def slot_tensors(self, slot: int) -> dict[str, NDArray[Any]]:
        """The outputs of a ring slot, the streams' rows stacked: views of one pinned block, whatever its strides."""
        count = len(self.streams)
        found: dict[str, NDArray[Any]] = {}
        for first, layout in ((0, self.outputs), (self.outputs.size_bytes, self.shown)):
            for tensor in layout.tensors:
                start = first + layout.offsets[tensor.name]
                strides = np.empty(tensor.shape, tensor.dtype).strides
                shape = tensor.shape
                if count > 1:
                    shape, strides = (count, *shape[1:]), (self.slot_bytes, *strides[1:])
                found[tensor.name] = np.ndarray(shape, tensor.dtype, self.ring[slot].data, start, strides)
        return found

    def send_constants(self, stream: Any, calibrations: Calibrations) -> None:
        """Copy the matrices of the rig, once for all ticks. Raises CudaError."""
        for name, values in calibrations.items():
            for memory, value in zip(self.streams, values, strict=True):
                memory.constant_addresses[name] = self._allocate(value.nbytes)
                staged = self._driver.pinned(value.nbytes)
                staged[:] = np.frombuffer(value.tobytes(), np.uint8)
                self._driver.copy_to_device(memory.constant_addresses[name], staged, stream)
                self._driver.synchronise(stream)  # before the staging memory goes

    def free(self) -> None:
        """Give device memory back. Raises CudaError."""
        blocks, self._blocks = self._blocks, []
        for address in blocks:
            self._driver.free(address)

    def _take(
        self,
        tensors: Mapping[str, EngineTensor],
        manifest: Manifest,
        read_outputs: Sequence[str],
        streams: int,
        ring_length: int,
        images_made_there: bool,
    ) -> None:
        driver = self._driver
        images = [tensors[entry.name] for entry in manifest.image_inputs]
        signals = [tensors[entry.name] for entry in manifest.signals]
        inputs = BlockLayout(signals if images_made_there else [*images, *signals])
        made_there = BlockLayout(images if images_made_there else [])
        states = [tensors[entry.name] for entry in manifest.states]
        fed_back = {entry.output for entry in manifest.states}
        self.outputs = BlockLayout([tensors[name] for name in read_outputs if name not in fed_back])
        #: States that heads read as well: they lie behind the outputs in the ring, and come from their own place.
        self.shown = BlockLayout([tensors[name] for name in read_outputs if name in fed_back])
        known = {*read_outputs, *fed_back}
        unread = BlockLayout([entry for entry in tensors.values() if not entry.is_input and entry.name not in known])
        self.streams = [StreamMemory(driver, self._allocate, inputs, made_there, states) for _ in range(streams)]
        self.initial_states = [driver.pinned(entry.size_bytes) for entry in states]
        for block, entry, declared in zip(self.initial_states, states, manifest.states, strict=True):
            block.view(entry.dtype).fill(declared.initial)
        self.device_outputs = self._allocate(self.outputs.size_bytes)
        self.output_addresses = self.outputs.addresses(self.device_outputs)
        self.output_addresses |= unread.addresses(self._allocate(unread.size_bytes))
        self.slot_bytes = self.outputs.size_bytes + self.shown.size_bytes
        self.ring = [driver.pinned(streams * self.slot_bytes) for _ in range(ring_length)]

    def _allocate(self, size_bytes: int) -> int:
        if size_bytes == 0:
            return 0  # nothing lies there, and nobody asks for its address
        address = self._driver.allocate(size_bytes)
        self._blocks.append(address)
        return address
