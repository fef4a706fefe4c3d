"""One CUDA graph for every run there can be (ring slot x stream x turn of the states), captured before the first tick.

A graph is: copy the input block to the device (and whatever `before` puts in front of the network), run the network,
copy the output block back. A tick launches one graph (a network that runs once per camera: one for each camera that is
there) and waits once. Addresses are part of a graph, so everything that differs between runs is another graph, and
nothing is ever bound again.

The network runs once for each turn before it is captured: TensorRT loads kernels and takes its last memory on the first
run, which a capture would not allow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runtime.inference.manifest import Manifest
from runtime.inference.states import TURNS
from runtime.inference.tensorrt.driver import CudaDriver
from runtime.inference.tensorrt.engine import Engine
from runtime.inference.tensorrt.tick_memory import TickMemory

#: Puts work in front of the network into the stream of a capture: `DeviceImages.before`.
Before = Callable[[Any], None]


class TickGraphs:
    """The graphs of one network. `launch` is all that a tick does."""

    def __init__(
        self,
        driver: CudaDriver,
        stream: Any,
        engine: Engine,
        memory: TickMemory,
        manifest: Manifest,
        before: Sequence[Before] = (),
    ) -> None:
        """`before` has one entry for each stream of `memory`, or none at all.

        Raises CudaError or EngineError when a run or its capture fails; nothing is left captured then.
        """
        self._driver = driver
        self._stream = stream
        self._engine = engine
        self._memory = memory
        self._manifest = manifest
        self._before = tuple(before)
        self.turns = TURNS if manifest.states else 1
        self._graphs: list[list[list[Any]]] = []
        try:
            self._capture_all()
        except Exception:  # whichever it was: what is captured already holds memory of the device
            self.free()
            raise

    def launch(self, slot: int, stream: int, turn: int) -> None:
        """Put one run into the stream. Raises CudaError."""
        self._driver.launch_graph(self._graphs[slot][stream][turn], self._stream)

    def free(self) -> None:
        """Give the graphs back. Raises CudaError."""
        graphs, self._graphs = self._graphs, []
        for by_stream in graphs:
            for by_turn in by_stream:
                for graph in by_turn:
                    self._driver.free_graph(graph)

    def _capture_all(self) -> None:
        for turn in range(self.turns):
            self._point(0, turn)
            self._put(0, 0, turn)
            self._driver.synchronise(self._stream)
        for slot in range(len(self._memory.ring)):
            by_stream: list[list[Any]] = []
            self._graphs.append(by_stream)
            for stream in range(len(self._memory.streams)):
                by_turn: list[Any] = []
                by_stream.append(by_turn)
                for turn in range(self.turns):
                    by_turn.append(self._capture(slot, stream, turn))

    def _capture(self, slot: int, stream: int, turn: int) -> Any:
        self._point(stream, turn)
        self._driver.begin_capture(self._stream)
        try:
            self._put(slot, stream, turn)
        except Exception:  # whichever it was: a stream that still captures would refuse every later run
            self._driver.abandon_capture(self._stream)
            raise
        return self._driver.end_capture(self._stream)

    def _point(self, stream: int, turn: int) -> None:
        """Tell the engine every address of this run."""
        own = self._memory.streams[stream]
        addresses = own.input_addresses | own.constant_addresses | self._memory.output_addresses
        for index, state in enumerate(self._manifest.states):
            addresses[state.name] = own.state_addresses[turn][index]
            addresses[state.output] = own.state_addresses[(turn + 1) % TURNS][index]
        for name in self._engine.tensors:
            self._engine.set_address(name, addresses[name])

    def _put(self, slot: int, stream: int, turn: int) -> None:
        """Put the whole run into the stream."""
        own, memory, driver = self._memory.streams[stream], self._memory, self._driver
        if own.pinned_inputs.nbytes:
            driver.copy_to_device(own.device_inputs, own.pinned_inputs, self._stream)
        if self._before:
            self._before[stream](self._stream)
        self._engine.enqueue(driver.stream_address(self._stream))
        target = memory.slot_block(slot, stream)
        if memory.outputs.size_bytes:
            driver.copy_to_host(target[: memory.outputs.size_bytes], memory.device_outputs, self._stream)
        states = {state.output: index for index, state in enumerate(self._manifest.states)}
        for tensor in memory.shown.tensors:
            start = memory.outputs.size_bytes + memory.shown.offsets[tensor.name]
            address = own.state_addresses[(turn + 1) % TURNS][states[tensor.name]]
            driver.copy_to_host(target[start : start + tensor.size_bytes], address, self._stream)
