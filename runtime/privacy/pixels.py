"""Makes regions of a picture unreadable, and encodes the picture again.

A region keeps at most `CELLS` x `CELLS` mean values a plane: that is less than any face or plate can be told from, and
unlike a soft blur it cannot be computed back. Planes are changed in a copy: a decoder goes on using its own pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

CELLS = 4
#: Time base of the encoder: presentation times only order its pictures.
_RATE = Fraction(30)
Box = tuple[float, float, float, float]


def grown(box_px: Box, share: float, width: int, height: int) -> tuple[int, int, int, int]:
    """The box, wider by `share` of its sides on every side, on even pixels and within the picture."""
    x0, y0, x1, y1 = box_px
    wider, higher = (x1 - x0) * share, (y1 - y0) * share
    left, top = int(max(0.0, x0 - wider)) & ~1, int(max(0.0, y0 - higher)) & ~1
    right, bottom = min(width, _even_above(x1 + wider)), min(height, _even_above(y1 + higher))
    return left, top, right, bottom


def _even_above(place: float) -> int:
    return math.ceil(max(place, 0.0) / 2) * 2


def blur_regions(
    planes: NDArray[np.uint8], width: int, height: int, boxes: Iterable[tuple[int, int, int, int]]
) -> None:
    """Blur even boxes of a yuv420p picture (`[height * 3 / 2, width]`, as PyAV gives it) in place."""
    flat, luma = planes.reshape(-1), width * height
    shape = (height // 2, width // 2)
    views: list[tuple[NDArray[np.uint8], int]] = [(flat[:luma].reshape(height, width), 1)]
    views += [(part.reshape(shape), 2) for part in np.split(flat[luma:], 2)]
    for left, top, right, bottom in boxes:
        for plane, scale in views:
            region = plane[top // scale : bottom // scale, left // scale : right // scale]
            if region.size:
                region[:] = _coarse(region)


def _coarse(region: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = region.shape
    cells = cv2.resize(region, (min(CELLS, width), min(CELLS, height)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


class ClipEncoder:
    """H.264 of one camera, with key frames exactly where the source had them: the clip contract counts on them."""

    def __init__(self, width: int, height: int) -> None:
        """Even sides: 4:2:0 has no odd ones."""
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate, context.time_base = _RATE, 1 / _RATE
        parameters = "keyint=infinite:min-keyint=1:scenecut=0:bframes=0:open-gop=0:repeat-headers=1:annexb=1"
        options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", "forced-idr": "1"}
        context.options = {**options, "x264-params": parameters}
        context.thread_count = 1
        self.size = (width, height)
        self._context = context
        self._count = 0

    def encode(self, planes: NDArray[np.uint8], is_key: bool) -> bytes:
        """The access unit of one picture; ValueError when the encoder holds it back."""
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = self._count, self._context.time_base
        frame.pict_type = PictureType.I if is_key or self._count == 0 else PictureType.NONE
        self._count += 1
        data = b"".join(bytes(packet) for packet in self._context.encode(frame))
        if not data:
            raise ValueError("the encoder gave no access unit for a picture")
        return data


class PlaneReader:
    """A decoded picture as yuv420p planes of even size, copied."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def read(self, picture: av.VideoFrame) -> tuple[NDArray[np.uint8], int, int]:
        """Planes, width and height."""
        width, height = max(2, picture.width & ~1), max(2, picture.height & ~1)
        frame = self._reformatter.reformat(picture, width, height, "yuv420p", dst_color_range="MPEG", threads=1)
        return np.array(frame.to_ndarray(), np.uint8, copy=True), width, height
