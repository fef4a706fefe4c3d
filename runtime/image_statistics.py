"""What the cameras' images are like, in a handful of numbers each: brightness, contrast, clipping, sharpness.

Taken from the batch that the network gets, so that no picture is touched twice: every fourth pixel of every fourth row,
padding left out. Luma is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601-7, section 2.5.1). Sharpness is
the variance of the Laplacian with 4 neighbours (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a
comparative study", ICPR 2000, LAPV) at every fourth pixel of every eighth row; the neighbours themselves are adjacent
pixels, so that a film of dirt or water shows. The points are fixed and the arithmetic is in whole numbers up to the
means: the same image always gives the same values.
"""

from __future__ import annotations

import math
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

_LEVELS = 256
_LUMA = np.arange(_LEVELS)
_LUMA_SQUARED = _LUMA * _LUMA
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
        self._weights = np.array(_WEIGHTS if color == "rgb" else _WEIGHTS[::-1], np.float32)

    def measure(
        self, images: Pixels, wanted: NDArray[np.bool_], geometries: Sequence[Geometry | None]
    ) -> list[ImageStatistics | None]:
        """Of images `[N, 3, H, W]`, those that are `wanted` and whose content is known; None for the others."""
        return [
            self.measure_one(image, geometry) if is_wanted and geometry is not None else None
            for image, is_wanted, geometry in zip(images, wanted.tolist(), geometries, strict=True)
        ]

    def measure_one(self, image: Pixels, geometry: Geometry) -> ImageStatistics | None:
        """Of one image `[3, H, W]`; None when its content is too small."""
        height, width = geometry.content_height, geometry.content_width
        if min(height, width) < _MIN_SIDE_PX:
            return None
        points = _points(height, width, image.shape[2])
        # All points of an image at once: each call of NumPy over so many gives the interpreter's lock up and must get
        # it back, and there are eight cameras, each with its thread, beside a tick that wants it too.
        luma = self._luma(image.reshape(3, -1).take(points.places, axis=1, mode="clip"))
        counts = np.bincount(luma[: points.spots], minlength=_LEVELS)  # of spots, by luma: all that is asked of them
        total, squares = int(counts @ _LUMA), int(counts @ _LUMA_SQUARED)
        spread = math.sqrt(squares * points.spots - total * total) / points.spots
        dark, bright = int(counts[:DARK_BELOW].sum()), int(counts[BRIGHT_ABOVE + 1 :].sum())
        return ImageStatistics(
            _rounded(total / points.spots, 100),
            _rounded(spread, 100),
            _rounded(dark / points.spots, 10_000),
            _rounded(bright / points.spots, 10_000),
            _rounded(_variance_of_laplacian(luma[points.spots :].reshape(5, -1)), 10),
        )

    def _luma(self, taken: Pixels) -> Luma:
        """`[points]` of `[3, points]`: in the end below 256, on the way below 65536."""
        weighted = self._weights @ taken.astype(np.float32)  # whole numbers below 2**24: exact
        weighted += _HALF
        return (weighted.astype(np.uint16) >> _SHIFT).view(np.int16)


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


def _variance_of_laplacian(around: Luma) -> float:
    """Of `[5, points]`: each point and its four neighbours. Squares and sums are whole numbers below 2**53: exact."""
    centre, above, below, left, right = around
    laplacian = (4 * centre - above - below - left - right).astype(np.float64)
    count, total = len(laplacian), int(laplacian.sum())
    return (int(laplacian @ laplacian) * count - total * total) / (count * count)


def _rounded(value: float, parts: int) -> float:
    """To so many parts of one, as NumPy rounds."""
    return round(value * parts) / parts
