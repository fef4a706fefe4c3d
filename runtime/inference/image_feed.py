"""From a frameset's images to the memory that the network reads.

The batch ring that capture fills usually *is* the network's input: uint8, one camera per row, in order. Then nothing
is copied and the run reads the ring (binding an address takes 5 us, copying eight 320x192 images 100 us). So do
networks that take one image at a time and those with an input for each camera, whatever the order. Otherwise images go,
row by row and without allocation, into one buffer of the network's type, where rows without a camera hold the pad
value for good.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.inference.backend import FramesetError
from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.manifest import ImagesInput, Manifest
from runtime.messages import Frameset


class ImageFeed:
    """Finds or fills the images of one run."""

    def __init__(self, manifest: Manifest, layout: BatchLayout, cameras: Sequence[str]) -> None:
        images = manifest.images
        self._cameras = tuple(cameras)
        self._row_of_camera = [layout.row_of_camera[camera] for camera in cameras]
        self._shape = (len(cameras), 3, layout.height, layout.width)
        self._is_separate = manifest.has_separate_images
        rows_in_order = self._row_of_camera == list(range(layout.rows))
        any_order = layout.per_camera or self._is_separate
        self._is_direct = images.dtype == "uint8" and (any_order or rows_in_order)
        std = np.array(images.std, np.float32).reshape(3, 1, 1)
        self._gain = np.float32(images.scale) / std
        self._bias = -np.array(images.mean, np.float32).reshape(3, 1, 1) / std
        self._copies_pixels = images.is_identity
        self._pad = np.full(images.shape[1:], images.pad_value, np.uint8)
        self._buffer = self._padded_buffer(images, 1 if layout.per_camera else layout.rows)
        self._addresses = [row.ctypes.data for row in self._buffer] if self._is_separate else [0]

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

    def addresses(self, frameset: Frameset) -> Sequence[int]:
        """Where each images input reads this frameset; valid until the next call."""
        images = frameset.images
        if not self._is_direct:
            for image, row in zip(images, self._row_of_camera, strict=True):
                self._convert(image, self._buffer[row])
        elif self._is_separate:
            first, step = images.ctypes.data, images.strides[0]
            for camera, row in enumerate(self._row_of_camera):
                self._addresses[row] = first + camera * step
        if not self._is_separate:
            self._addresses[0] = images.ctypes.data if self._is_direct else self._buffer.ctypes.data
        return self._addresses

    def camera_addresses(self, frameset: Frameset, camera: int) -> Sequence[int]:
        """Where the one images input reads one camera's image as a batch of one; valid until the next call."""
        if self._is_direct:
            self._addresses[0] = frameset.images.ctypes.data + camera * frameset.images.strides[0]
        else:
            self._convert(frameset.images[camera], self._buffer[0])
            self._addresses[0] = self._buffer.ctypes.data
        return self._addresses

    def write(self, frameset: Frameset, rows: Sequence[NDArray[np.generic]]) -> None:
        """Write every camera's image into its row of memory that belongs to the caller, for backends that copy."""
        for image, row in zip(frameset.images, self._row_of_camera, strict=True):
            self._convert(image, rows[row])

    def write_camera(self, frameset: Frameset, camera: int, row: NDArray[np.generic]) -> None:
        """Write one camera's image into such memory."""
        self._convert(frameset.images[camera], row)

    def pad(self, rows: Sequence[NDArray[np.generic]]) -> None:
        """Fill such memory with padding: what rows without a camera hold for good."""
        for row in rows:
            self._convert(self._pad, row)

    def _convert(self, image: NDArray[np.uint8], out: NDArray[np.generic]) -> None:
        if self._copies_pixels:
            np.copyto(out, image)
            return
        np.multiply(image, self._gain, out=out)
        np.add(out, self._bias, out=out)

    def _padded_buffer(self, images: ImagesInput, rows: int) -> NDArray[np.generic]:
        """`[rows, 3, H, W]` of padding; no rows where none is ever read."""
        needed = rows if not self._is_direct or self._is_separate else 0
        buffer: NDArray[np.generic] = np.empty((needed, *images.shape[1:]), images.dtype)
        for row in buffer:
            self._convert(self._pad, row)
        return buffer
