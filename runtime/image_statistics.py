"""What the cameras' images are like, in a handful of numbers each: brightness, contrast, clipping, sharpness.

Taken from the batch that the network gets, so that no picture is touched twice: every fourth pixel of every fourth row,
all cameras at once, padding left out. Luma is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601-7, section 2.5.1). Sharpness is
the variance of the Laplacian with 4 neighbours (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a
comparative study", ICPR 2000, LAPV) at every fourth pixel of every eighth row; the neighbours themselves are adjacent
pixels, so that a film of dirt or water shows. The points are fixed and the arithmetic is in whole numbers up to the
means: the same image always gives the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry

STEP_PX = 4
SHARPNESS_ROW_STEP_PX = 8
DARK_BELOW = 16
BRIGHT_ABOVE = 240
#: BT.601 weights of red, green and blue in 256ths, and half of one to round by.
_WEIGHTS = (77, 150, 29)
_HALF = 128
_SHIFT = 8
#: Smaller pictures have too few points to say anything.
_MIN_SIDE_PX = 16

_ONE = np.ones(1, np.bool_)
Pixels = NDArray[np.uint8]
Luma = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """One image; luma and its spread in 0 to 255, shares in 0 to 1."""

    luma: float
    luma_std: float
    dark_share: float
    bright_share: float
    sharpness: float


class ImageMeter:
    """Measures images of one colour order ("rgb" or "bgr")."""

    def __init__(self, color: str) -> None:
        self._weights = _WEIGHTS if color == "rgb" else _WEIGHTS[::-1]

    def measure(
        self, images: Pixels, wanted: NDArray[np.bool_], geometries: Sequence[Geometry | None]
    ) -> list[ImageStatistics | None]:
        """Of images `[N, 3, H, W]`, those that are `wanted` and whose content is known; None for the others."""
        measured: list[ImageStatistics | None] = [None] * len(images)
        sizes = [None if each is None else (each.content_height, each.content_width) for each in geometries]
        for size in dict.fromkeys(sizes):
            rows = [row for row, other in enumerate(sizes) if other == size and wanted[row]]
            if size is None or not rows or min(size) < _MIN_SIDE_PX:
                continue
            alike = self._measure_alike(images, size, rows)
            for row, statistics in zip(rows, alike, strict=True):
                measured[row] = statistics
        return measured

    def measure_one(self, image: Pixels, geometry: Geometry) -> ImageStatistics | None:
        """The same for one image `[3, H, W]`."""
        return self.measure(image[None], _ONE, (geometry,))[0]

    def _measure_alike(self, images: Pixels, size: tuple[int, int], rows: list[int]) -> list[ImageStatistics]:
        """Of images `[N, 3, H, W]` with content of one size (height, width): those of `rows`."""
        points = _points(*size, images.shape[3])
        # All points of an image at once: each call of NumPy over so many gives the interpreter's lock up and must get
        # it back, and there are eight cameras, each with its thread, beside a tick that wants it too.
        flat = images.reshape(len(images), 3, -1)
        taken = np.stack([flat[row].take(points.places, axis=1, mode="clip") for row in rows])
        luma = self._luma(taken)
        spots, around = luma[:, : points.spots], luma[:, points.spots :].reshape(len(rows), 5, -1)
        count = spots.shape[1]
        total = spots.sum(axis=1, dtype=np.int64)
        squares = np.einsum("np,np->n", spots, spots, dtype=np.int64)
        spread = np.sqrt(np.maximum(squares * count - total * total, 0)) / count
        dark = np.count_nonzero(spots < DARK_BELOW, axis=1) / count
        bright = np.count_nonzero(spots > BRIGHT_ABOVE, axis=1) / count
        columns = (total / count, spread, dark, bright, _variance_of_laplacian(around))
        rounded = (np.round(column, digits).tolist() for column, digits in zip(columns, (2, 2, 4, 4, 1), strict=True))
        return [ImageStatistics(*values) for values in zip(*rounded, strict=True)]

    def _luma(self, taken: Pixels) -> Luma:
        """`[R, points]` of `[R, 3, points]`: in the end below 256, on the way below 65536."""
        weighted = np.array(self._weights, np.float32) @ taken.astype(np.float32)  # whole numbers below 2**24: exact
        return (weighted.astype(np.int32) + _HALF >> _SHIFT).astype(np.int16)


@dataclass(frozen=True, slots=True)
class _Points:
    """Where an image is looked at: first every spot, then five times every edge point: itself and its neighbours."""

    places: NDArray[np.intp]  # within a plane, flat
    spots: int


@lru_cache(maxsize=16)
def _points(height: int, width: int, row_px: int) -> _Points:
    """Of a content of this size, in rows of `row_px`."""
    first = STEP_PX // 2
    spots = np.mgrid[first:height:STEP_PX, first:width:STEP_PX].reshape(2, -1)
    centres = np.mgrid[1 : height - 1 : SHARPNESS_ROW_STEP_PX, 1 : width - 1 : STEP_PX].reshape(2, -1)
    steps = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
    every = np.concatenate([spots, *(centres + np.array(step)[:, None] for step in steps)], axis=1)
    return _Points(every[0] * row_px + every[1], spots.shape[1])


def _variance_of_laplacian(around: Luma) -> NDArray[np.float64]:
    """Of `[R, 5, points]`: each point and its four neighbours."""
    centre, above, below, left, right = (around[:, which] for which in range(5))
    laplacian = (4 * centre - above - below - left - right).astype(np.int64)
    count = laplacian.shape[1]
    total = laplacian.sum(axis=1)
    return np.asarray((np.einsum("np,np->n", laplacian, laplacian) * count - total * total) / (count * count))
