"""From a frameset to a network that prepares images on the device: the counterpart of `image_feed`.

Rows with a source frame are read where capture left them; rows that were prepared on the CPU are copied into pinned
memory and go the same way. After the run, the images that the device made are in the frameset, for whoever looks at
images behind the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.formats.source_image import PictureFormat, SourceImage
from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.manifest import Manifest
from runtime.inference.tensorrt.device_images import DeviceImages
from runtime.inference.tensorrt.driver import CudaDriver, CudaError
from runtime.inference.tensorrt.preprocess import PreprocessKernel
from runtime.inference.tensorrt.preprocess_block import ParameterBlock, lookup_table
from runtime.inference.tensorrt.tick_graphs import Before
from runtime.messages import Frameset


class DeviceFeed:
    """The images of every stream: of the one batch, or of each camera of a network that runs once per camera."""

    def __init__(
        self,
        driver: CudaDriver,
        kernel: PreprocessKernel,
        manifest: Manifest,
        input_addresses: Sequence[Mapping[str, int]],
        layout: BatchLayout,
        cameras: Sequence[str],
    ) -> None:
        """`input_addresses` has one entry for each stream. Raises CudaError; nothing is held then."""
        self._streams: list[DeviceImages] = []
        try:
            for addresses in input_addresses:
                self._streams.append(DeviceImages(driver, kernel, manifest, addresses))
        except CudaError:
            self.free()
            raise
        #: For each camera of a frameset its stream, and its row in it.
        self._places = [
            (self._streams[index], 0) if layout.per_camera else (self._streams[0], layout.row_of_camera[camera])
            for index, camera in enumerate(cameras)
        ]

    @property
    def before(self) -> tuple[Before, ...]:
        """What each stream's graph begins with."""
        return tuple(images.before for images in self._streams)

    def show(self, frameset: Frameset) -> None:
        """Put the images of all cameras where the one stream's graph reads them."""
        for camera, (images, row) in enumerate(self._places):
            if frameset.present[camera]:
                self.show_camera(frameset, camera)
            else:
                images.leave_out(row)

    def show_camera(self, frameset: Frameset, camera: int) -> None:
        """Likewise one camera's."""
        images, row = self._places[camera]
        source = None if frameset.sources is None else frameset.sources[camera]
        if isinstance(source, SourceImage):
            images.show(row, source)
        else:
            images.show_prepared(row, frameset.images[camera])

    def give_prepared(self, frameset: Frameset) -> None:
        """Write the images that were made of source frames into the frameset. After the stream has ended."""
        if frameset.sources is None:
            return
        for camera, source in enumerate(frameset.sources):
            if source is not None:
                images, row = self._places[camera]
                np.copyto(frameset.images[camera], images.pixels[row])

    def free(self) -> None:
        """Give the device's memory back. Raises CudaError."""
        for images in self._streams:
            images.free()


class PinnedSources:
    """Memory for capture's source frames: what the kernel reads in place. See `SourceMemory`; from any thread."""

    def __init__(self, driver: CudaDriver, manifest: Manifest) -> None:
        self._driver = driver
        self._spec = manifest.images.image_spec

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        """See `SourceMemory.take`."""
        try:
            self._driver.make_current()
            return self._driver.pinned(size_bytes)
        except CudaError as error:
            raise MemoryError(f"no pinned memory of {size_bytes} bytes for source frames: {error}") from error

    def why_not(self, picture: PictureFormat) -> str:
        """See `SourceMemory.why_not`."""
        scratch = np.zeros(ParameterBlock.size_bytes(1), np.uint8)
        try:
            ParameterBlock(scratch, self._spec, 1, "uint8", lookup_table("uint8")).describe(0, picture)
        except ValueError as error:
            return str(error)
        return ""
