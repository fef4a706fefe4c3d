"""What images are like, measured where they are prepared, ahead of the tick that takes them.

A table of the newest few frames of each camera, which the camera's thread writes and the tick reads; in this process's
memory, or in memory shared with the process of the cameras:

    wanted     int64 [1]        whether anyone asks for it
    sequences  int64 [N, A]     frame sequence s lies at s modulo A; -1: nothing, or being written
    values     float64 [N, A, 5]  luma, spread, dark share, bright share, sharpness; not a number: image too small

A frame's row is written before its image can be taken (the ring's lock stands between both). A camera faster than the
tick overwrites what the tick has not taken: then the tick finds nothing and measures the image itself.
"""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry
from runtime.image_statistics import ImageMeter, ImageStatistics

#: Frames of a camera between being measured and being taken: more than the assembler's ring has slots.
AHEAD_FRAMES = 8
_VALUES = 5


def ahead_layout(cameras: int) -> list[tuple[str, tuple[int, ...], Any]]:
    """The arrays' names, shapes and types."""
    return [
        ("wanted", (1,), np.int64),
        ("sequences", (cameras, AHEAD_FRAMES), np.int64),
        ("values", (cameras, AHEAD_FRAMES, _VALUES), np.float64),
    ]


class MeasuredAhead:
    """The table. A row is written by one thread and read by the tick's."""

    def __init__(self, arrays: dict[str, NDArray[Any]], *, clear: bool = True) -> None:
        """`arrays` as in `ahead_layout`; `clear` by whoever made them."""
        self._wanted, self._sequences, self._values = (arrays[name] for name in ("wanted", "sequences", "values"))
        if clear:
            self._wanted[:], self._sequences[:] = 0, -1

    @classmethod
    def of(cls, cameras: int) -> MeasuredAhead:
        """In memory of this process."""
        return cls({name: np.zeros(shape, kind) for name, shape, kind in ahead_layout(cameras)})

    @property
    def is_wanted(self) -> bool:
        """Whether anyone asks what images are like."""
        return bool(self._wanted[0])

    def want(self, wanted: bool) -> None:
        """From the next image on."""
        self._wanted[0] = wanted

    def put(self, row: int, sequence: int, statistics: ImageStatistics | None) -> None:
        """Note what one image is like; None: it is too small to say."""
        place = sequence % AHEAD_FRAMES
        self._sequences[row, place] = -1
        self._values[row, place] = math.nan if statistics is None else astuple(statistics)
        self._sequences[row, place] = sequence

    def find(self, row: int, sequence: int) -> tuple[ImageStatistics | None] | None:
        """What that image is like (None: too small to say); nothing at all where it was not measured, or is gone.

        A camera much faster than the tick may overwrite it meanwhile: the sequence is read before and after.
        """
        place = sequence % AHEAD_FRAMES
        if self._sequences[row, place] != sequence:
            return None
        values = self._values[row, place].tolist()
        if self._sequences[row, place] != sequence:
            return None
        return (None,) if math.isnan(values[0]) else (ImageStatistics(*values),)


class AheadMeter:
    """Measures every prepared image while that is wanted: what an assembler calls, on the camera's thread."""

    def __init__(self, color: str, ahead: MeasuredAhead) -> None:
        self._meter = ImageMeter(color)
        self._ahead = ahead

    def __call__(self, row: int, sequence: int, image: NDArray[np.uint8], geometry: Geometry) -> None:
        """`image` is `[3, H, W]`."""
        if self._ahead.is_wanted:
            self._ahead.put(row, sequence, self._meter.measure_one(image, geometry))
