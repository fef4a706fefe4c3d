"""The images of one stream, made on the device: cameras' source frames in, the network's input and a copy back out.

One launch writes the network's input. What else reads prepared images (stillness, image statistics, a second candidate)
gets them as uint8 from the same graph: the network's own input where that is uint8, else what a second launch makes of
the same frames. So nobody on the CPU scales a picture again, and all see the very image that the network saw.

A row shows a source frame in pinned memory, or an image that was prepared on the CPU (padding while warming up; a
camera whose pictures the kernel does not know). The latter goes through the same launch, as a planar RGB picture of the
network's own size, which scaling by one leaves as it is to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.formats.source_image import PictureFormat, SourceImage
from runtime.inference.manifest import Manifest
from runtime.inference.tensorrt.device_preparation import DevicePreparation
from runtime.inference.tensorrt.driver import CudaDriver, CudaError
from runtime.inference.tensorrt.preprocess import PreprocessKernel
from runtime.inference.tensorrt.preprocess_block import lookup_table

#: Which channel of a prepared image is green, blue and red: the planes of "gbrp".
_CHANNELS = {"rgb": (1, 2, 0), "bgr": (1, 0, 2)}


class DeviceImages:
    """What one stream of framesets shows to the network."""

    def __init__(
        self, driver: CudaDriver, kernel: PreprocessKernel, manifest: Manifest, addresses: Mapping[str, int]
    ) -> None:
        """`addresses` are those of the network's inputs on the device. Raises CudaError; nothing is held then."""
        self._driver = driver
        images = manifest.images
        self._spec = spec = images.image_spec
        rows_of = [(addresses[entry.name], entry.batch) for entry in manifest.image_inputs]
        rows = sum(count for _, count in rows_of)
        self.pixels = driver.pinned(rows * 3 * spec.height * spec.width).reshape(rows, *spec.plane_shape)
        self._staged = driver.pinned(self.pixels.nbytes).reshape(self.pixels.shape)
        self._plain = PictureFormat("gbrp", spec.width, spec.height, (spec.width,) * 3)
        self._device_pixels = 0
        self._preparations: list[DevicePreparation] = []
        try:
            table = lookup_table(images.dtype, images.scale, images.mean, images.std)
            network = self._preparation(kernel, rows, images.dtype, table)
            if images.dtype == "uint8":
                self._copies = rows_of
            else:
                self._device_pixels = driver.allocate(self.pixels.nbytes)
                self._preparation(kernel, rows, "uint8", lookup_table("uint8")).block.place_batch(self._device_pixels)
                self._copies = [(self._device_pixels, rows)]
        except CudaError:
            self.free()
            raise
        element_bytes, row = 3 * spec.height * spec.width * network.block.element_bytes, 0
        for address, count in rows_of:
            for index in range(count):
                network.block.place_output(row, address + index * element_bytes)
                row += 1

    def before(self, stream: Any) -> None:
        """Put everything in front of the network into the stream. Raises CudaError."""
        for preparation in self._preparations:
            preparation.before(stream)
        row = 0
        for address, count in self._copies:
            self._driver.copy_to_host(self.pixels[row : row + count].reshape(-1), address, stream)
            row += count

    def show(self, row: int, source: SourceImage) -> None:
        """The row shows this frame on the next launch; its memory must stay as it is until that has ended."""
        for preparation in self._preparations:
            preparation.show(row, source.picture, source.pixels)

    def show_prepared(self, row: int, image: NDArray[np.uint8]) -> None:
        """The row shows an image `[3, H, W]` that was prepared on the CPU."""
        np.copyto(self._staged[row], image)
        first, plane = self._staged[row].ctypes.data, self._spec.height * self._spec.width
        addresses = [first + channel * plane for channel in _CHANNELS[self._spec.color]]
        for preparation in self._preparations:
            preparation.block.describe(row, self._plain)
            preparation.block.point(row, addresses)

    def leave_out(self, row: int) -> None:
        """The row has no picture: it gets the pad value."""
        for preparation in self._preparations:
            preparation.block.leave_out(row)

    def free(self) -> None:
        """Give the device's memory back. Raises CudaError."""
        preparations, self._preparations = self._preparations, []
        for preparation in preparations:
            preparation.free()
        address, self._device_pixels = self._device_pixels, 0
        if address:
            self._driver.free(address)

    def _preparation(
        self, kernel: PreprocessKernel, rows: int, element_type: str, table: NDArray[np.uint32]
    ) -> DevicePreparation:
        made = DevicePreparation(self._driver, kernel, self._spec, rows, element_type, table)
        self._preparations.append(made)
        return made
