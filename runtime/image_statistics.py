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
            alike = self._measure_alike(images[:, :, : size[0], : size[1]], rows)
            for row, statistics in zip(rows, alike, strict=True):
                measured[row] = statistics
        return measured

    def measure_one(self, image: Pixels, geometry: Geometry) -> ImageStatistics | None:
        """The same for one image `[3, H, W]`."""
        return self.measure(image[None], _ONE, (geometry,))[0]

    def _measure_alike(self, images: Pixels, rows: list[int]) -> list[ImageStatistics]:
        """Images with content of one size, `[N, 3, H, W]`: those of `rows`."""
        first = STEP_PX // 2
        luma = self._luma(images[:, :, first::STEP_PX, first::STEP_PX], rows)
        count = luma.shape[1]
        total = luma.sum(axis=1, dtype=np.int64)
        squares = np.einsum("np,np->n", luma, luma, dtype=np.int64)
        spread = np.sqrt(np.maximum(squares * count - total * total, 0)) / count
        dark = np.count_nonzero(luma < DARK_BELOW, axis=1) / count
        bright = np.count_nonzero(luma > BRIGHT_ABOVE, axis=1) / count
        columns = (total / count, spread, dark, bright, self._sharpness(images, rows))
        rounded = (np.round(column, digits).tolist() for column, digits in zip(columns, (2, 2, 4, 4, 1), strict=True))
        return [ImageStatistics(*values) for values in zip(*rounded, strict=True)]

    def _luma(self, pixels: Pixels, rows: list[int]) -> Luma:
        """`[R, points]` of the given rows of `[N, 3, h, w]`."""
        red, green, blue = self._weights
        part = pixels[rows].astype(np.uint16)
        weighted = part[:, 0] * np.uint16(red) + part[:, 1] * np.uint16(green) + part[:, 2] * np.uint16(blue)
        luma: Luma = ((weighted + np.uint16(_HALF)) >> np.uint16(_SHIFT)).astype(np.int16)
        return luma.reshape(len(rows), -1)

    def _sharpness(self, images: Pixels, rows: list[int]) -> NDArray[np.float64]:
        height, width = images.shape[2:]

        def at(down: int, right: int) -> Luma:
            """Luma of every point's neighbour; the centres start one pixel from the edge and end before it."""
            of_rows = images[:, :, 1 + down : height - 1 + down : SHARPNESS_ROW_STEP_PX]
            return self._luma(of_rows[..., 1 + right : width - 1 + right : STEP_PX], rows)

        laplacian = (4 * at(0, 0) - at(-1, 0) - at(1, 0) - at(0, -1) - at(0, 1)).astype(np.int64)
        count = laplacian.shape[1]
        total = laplacian.sum(axis=1)
        return np.asarray((np.einsum("np,np->n", laplacian, laplacian) * count - total * total) / (count * count))
