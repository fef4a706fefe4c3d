"""A decoded picture into a network's input: scaled, converted and planar, never as a full-size RGB image.

libswscale scales straight from the decoder's format (usually YUV 4:2:0) to small planar RGB with area averaging, on
the calling thread and without Python's lock. Its result is the same for the same picture, on every run, and within one
step of 255 of the GPU's (inference/tensorrt/kernels/preprocess.cu), which states the arithmetic both follow.
"""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from runtime.capture.batch_ring import copy_bytes
from runtime.formats.image_spec import Geometry, ImageSpec

#: Planes of FFmpeg's planar RGB ("gbrp": green, blue, red) in the order of the network's channels.
_PLANES = {"rgb": (2, 0, 1), "bgr": (1, 0, 2)}
#: SWS_AREA | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND | SWS_BITEXACT, by their numbers in FFmpeg's swscale.h: PyAV 17
#: names some only. The second is for RGB pictures, of which every other pixel's colour was left out without it (errors
#: of up to 50 in 255); it changes nothing for YUV.
_SCALING = 0x20 | 0x4000 | 0x40000 | 0x80000


class ImagePreparer:
    """Prepares the pictures of one camera for one network."""

    def __init__(self, spec: ImageSpec) -> None:
        self._spec = spec
        self._order = _PLANES[spec.color]
        self._reformatter = VideoReformatter()
        self._geometry = spec.geometry(spec.width, spec.height)

    def prepare(self, picture: av.VideoFrame, view: NDArray[np.uint8]) -> Geometry:
        """Write `picture` into `view` (uint8 `[3, height, width]`) and return where in it the picture lies."""
        geometry = self._geometry_of(picture.width, picture.height)
        width, height = geometry.content_width, geometry.content_height
        small = self._reformatter.reformat(picture, width, height, "gbrp", interpolation=_SCALING, threads=1)
        for channel, plane_number in enumerate(self._order):
            plane = small.planes[plane_number]
            if plane.line_size == width == view.shape[2]:
                copy_bytes(memoryview(plane)[: width * height], view[channel, :height])
                continue
            pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            view[channel, :height, :width] = pixels[:height, :width]
        if width < self._spec.width:
            view[:, :, width:] = self._spec.pad_value
        if height < self._spec.height:
            view[:, height:, :] = self._spec.pad_value
        return geometry

    def _geometry_of(self, width: int, height: int) -> Geometry:
        if (self._geometry.source_width, self._geometry.source_height) != (width, height):
            self._geometry = self._spec.geometry(width, height)
        return self._geometry
