"""From a frameset's images to the memory that the network reads.

The batch ring that capture fills usually *is* the network's input: uint8, one camera per row, in order. Then nothing
is copied and the run reads the ring (binding an address takes 5 us, copying eight 320x192 images 100 us). Otherwise
images go, row by row and without allocation, into one buffer of the network's type, where rows without a camera hold
the pad value for good.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.inference.backend import FramesetError
from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.manifest import ImagesInput
from runtime.messages import Frameset


class ImageFeed:
    """Finds or fills the images of one run."""

    def __init__(self, images: ImagesInput, layout: BatchLayout, cameras: Sequence[str]) -> None:
        self._cameras = tuple(cameras)
        self._row_of_camera = [layout.row_of_camera[camera] for camera in cameras]
        self._shape = (len(cameras), 3, layout.height, layout.width)
        self._per_camera = layout.per_camera
        rows_in_order = self._row_of_camera == list(range(layout.rows))
        self._is_direct = images.dtype == "uint8" and (layout.per_camera or rows_in_order)
        std = np.array(images.std, np.float32).reshape(3, 1, 1)
        self._gain = np.float32(images.scale) / std
        self._bias = -np.array(images.mean, np.float32).reshape(3, 1, 1) / std
        self._copies_pixels = images.is_identity
        self._buffer = self._padded_buffer(images)

    def check(self, frameset: Frameset) -> None:
        """Refuse a frameset that is not the one this network was opened for.

        Raises:
            FramesetError: other cameras, another shape or type, or images that do not lie in one piece.
        """
        if frameset.cameras != self._cameras:
            raise FramesetError(f"frameset has cameras {frameset.cameras}, the network was opened for {self._cameras}")
        images = frameset.images
        if images.shape != self._shape or images.dtype != np.uint8:
            found = f"{images.dtype}{list(images.shape)}"
            raise FramesetError(f"frameset images are {found}, the network takes uint8{list(self._shape)}")
        if not images.flags.c_contiguous:
            raise FramesetError("frameset images are not contiguous; hand over a slot of the batch ring as it is")

    def batch_address(self, frameset: Frameset) -> int:
        """Address of the whole batch, ready to be read."""
        if self._is_direct:
            return frameset.images.ctypes.data
        for image, row in zip(frameset.images, self._row_of_camera, strict=True):
            self._convert(image, self._buffer[row])
        return self._buffer.ctypes.data

    def camera_address(self, frameset: Frameset, camera: int) -> int:
        """Address of one camera's image as a batch of one; valid until the next call."""
        if self._is_direct:
            return frameset.images.ctypes.data + camera * frameset.images.strides[0]
        self._convert(frameset.images[camera], self._buffer[0])
        return self._buffer.ctypes.data

    def _convert(self, image: NDArray[np.uint8], out: NDArray[np.generic]) -> None:
        if self._copies_pixels:
            np.copyto(out, image)
            return
        np.multiply(image, self._gain, out=out)
        np.add(out, self._bias, out=out)

    def _padded_buffer(self, images: ImagesInput) -> NDArray[np.generic]:
        shape = (0, 3, 1, 1) if self._is_direct else images.shape
        buffer: NDArray[np.generic] = np.empty(shape, images.dtype)
        if not self._is_direct:
            pad = np.full(images.shape[1:], images.pad_value, np.uint8)
            for row in buffer:
                self._convert(pad, row)
        return buffer
