"""Preprocessing in front of the network, in one captured graph: frames in pinned memory in, the network's input out.

`before` puts two things into a stream that is being captured: the copy of the parameter block to the device, and the
kernel's one launch. The graph then holds fixed addresses only; which frame each row shows is in the block, which a tick
rewrites before it launches the graph (and must not touch until the graph has ended).

Frames are read where they lie. Memory from cuMemHostAlloc is in the device's address space at its own address wherever
addressing is unified (all 64-bit Linux; CUDA Driver API, "Unified Addressing"): on a Jetson that is the same DRAM, on a
card each byte crosses the bus about once, as a copy would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.formats.source_image import PictureFormat
from runtime.inference.tensorrt.driver import CudaDriver
from runtime.inference.tensorrt.preprocess import PreprocessKernel
from runtime.inference.tensorrt.preprocess_block import ParameterBlock


class DevicePreparation:
    """The parameter block on both sides, and the launch that reads it."""

    def __init__(
        self,
        driver: CudaDriver,
        kernel: PreprocessKernel,
        spec: ImageSpec,
        rows: int,
        element_type: str,
        lookup: NDArray[np.uint32],
    ) -> None:
        """Raises CudaError when there is no memory."""
        self._driver = driver
        self._pinned = driver.pinned(ParameterBlock.size_bytes(rows))
        self._device = driver.allocate(self._pinned.nbytes)
        self.block = ParameterBlock(self._pinned, spec, rows, element_type, lookup)
        self._launch = kernel.bind(self.block, self._device)

    def before(self, stream: Any) -> None:
        """Put the block's copy and the launch into the stream: what a tick's graph begins with. Raises CudaError."""
        self._driver.copy_to_device(self._device, self._pinned, stream)
        self._launch.enqueue(stream)

    def show(self, row: int, picture: PictureFormat, frame: NDArray[np.uint8]) -> Geometry:
        """The row's picture of this tick: pinned memory with its planes one after another. Returns its geometry."""
        geometry = self.block.describe(row, picture)
        self.block.point(row, [frame.ctypes.data + offset for offset in picture.plane_offsets()])
        return geometry

    def free(self) -> None:
        """Give the device's memory back. Raises CudaError."""
        self._driver.free(self._device)
