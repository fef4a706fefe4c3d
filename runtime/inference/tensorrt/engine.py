"""An engine, loaded: its tensors with static shapes, and the execution context that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.inference.tensorrt.engine_builder import EngineError, TrtLog


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """One input or output."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size_bytes(self) -> int:
        """Its memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Engine:
    """Deserialised on this device, with its scratch memory taken: running it allocates nothing more."""

    def __init__(self, trt: Any, data: bytes, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Sizes that the file left open become those of `shapes`.

        Raises:
            EngineError: made by another version or for another device, damaged, or too large for this device.
        """
        self._log = TrtLog(trt)
        self._runtime = trt.Runtime(self._log.logger)  # must live as long as the engine
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineError(f"TensorRT {trt.__version__} refuses the engine: {self._log.take()}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT {trt.__version__} has no memory for the engine: {self._log.take()}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = {name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        for name in inputs:
            if -1 in tuple(self._engine.get_tensor_shape(name)):
                self._context.set_input_shape(name, shapes[name])
        self.tensors = {name: self._describe(trt, name, name in inputs) for name in names}

    def set_address(self, name: str, address: int) -> None:
        """Where a tensor lies on the device from now on. Raises EngineError."""
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"TensorRT does not take address {address:#x} for tensor {name!r}: {self._log.take()}")

    def enqueue(self, stream_address: int) -> None:
        """Put one run into the stream. Raises EngineError."""
        if not self._context.execute_async_v3(stream_address):
            raise EngineError(f"TensorRT cannot enqueue the network: {self._log.take()}")

    def close(self) -> None:
        """Give context and engine back, in this order, while the driver still stands."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _describe(self, trt: Any, name: str, is_input: bool) -> EngineTensor:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise EngineError(f"tensor {name!r} has shape {list(shape)}: only static shapes can be captured")
        return EngineTensor(name, is_input, shape, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))))
