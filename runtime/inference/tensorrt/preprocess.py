"""The preprocessing kernel on a device: loaded once, bound once to a parameter block, launched once a tick.

    module, image, _ = load_first(...)                     # or any bytes that the driver takes
    kernel = PreprocessKernel(driver, module)
    block = ParameterBlock(pinned, spec, rows, "uint8", lookup_table("uint8"))
    block.place_batch(input_tensor_address)
    launch = kernel.bind(block, device_address)
    ... each tick: block.point(row, addresses), copy the block to device_address on the stream, launch.enqueue(stream)

The launch's arguments never change, so it can be captured into a CUDA graph: what changes from tick to tick is the
block's content. Where host memory is mapped into the device's address space (Jetson) `device_address` may be the
pinned block's own and nothing is copied. `enqueue` allocates nothing and does not synchronise.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol

from runtime.inference.tensorrt.kernel_image import KERNEL_NAME
from runtime.inference.tensorrt.preprocess_block import ParameterBlock

#: As the kernel's source has it: a warp is a row of 32 pixels, so that neighbouring threads read neighbouring bytes.
BLOCK = (32, 8, 1)
#: cuLaunchKernel's arguments in their natural alignment: cameras, lookup, width, height, element bytes, pad value.
ARGUMENTS = struct.Struct("<QQiiii")


class LaunchingDriver(Protocol):
    """The part of the CUDA driver seam that a kernel needs."""

    def load_module(self, image: bytes, /) -> Any:
        """cuModuleLoadData."""

    def get_function(self, module: Any, name: str, /) -> Any:
        """cuModuleGetFunction."""

    def launch(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: bytes,
        stream: Any,
        shared_bytes: int,
        /,
    ) -> None:
        """cuLaunchKernel; `params` are the arguments one after another, each aligned to its own size."""


class PreprocessKernel:
    """The kernel, loaded."""

    def __init__(self, driver: LaunchingDriver, module_bytes: bytes) -> None:
        """Raises what the driver raises for an image that it cannot load."""
        self._driver = driver
        self._module = driver.load_module(module_bytes)  # the function lives as long as its module
        self._function = driver.get_function(self._module, KERNEL_NAME)

    def bind(self, block: ParameterBlock, device_address: int) -> BoundLaunch:
        """Make the launch that reads `block` at `device_address`."""
        spec = block.spec
        grid = (-(-spec.width // BLOCK[0]), -(-spec.height // BLOCK[1]), block.rows)
        cameras, lookup = device_address, device_address + block.lookup_offset
        arguments = ARGUMENTS.pack(cameras, lookup, spec.width, spec.height, block.element_bytes, spec.pad_value)
        return BoundLaunch(self._driver, self._function, grid, arguments)


class BoundLaunch:
    """One launch for all cameras, ready to be put on a stream again and again."""

    def __init__(self, driver: LaunchingDriver, function: Any, grid: tuple[int, int, int], arguments: bytes) -> None:
        self._launch = driver.launch
        self._function = function
        self.grid = grid
        self.arguments = arguments

    def enqueue(self, stream: Any) -> None:
        """Put the launch on the stream; returns at once."""
        self._launch(self._function, self.grid, BLOCK, self.arguments, stream, 0)
