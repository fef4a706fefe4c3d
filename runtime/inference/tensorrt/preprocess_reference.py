"""The preprocessing kernel's arithmetic in NumPy, to the bit: what a GPU is compared with.

It reads the same parameter block, but does what it says in another way: whole planes at a time, each axis as a matrix
of window weights. Sums of products below 2^53 are exact in float64, so the matrix products lose nothing. Slow (tens of
milliseconds a picture) and never used on a vehicle's tick.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.inference.tensorrt.preprocess_block import ParameterBlock

Plane = NDArray[np.uint8]


def reference_elements(block: ParameterBlock, pictures: Sequence[Sequence[Plane] | None]) -> NDArray[np.uint32]:
    """Bit patterns `[rows, 3, height, width]` that the kernel must write.

    Args:
        pictures: for each row its colour planes (Y, U, V or R, G, B; `[height, width]` each), or None without one.
    """
    shape = (block.rows, *block.spec.plane_shape)
    pixels = np.full(shape, block.spec.pad_value, np.uint8)
    for row, planes in enumerate(pictures):
        if planes is not None:
            camera = block.cameras[row]
            width, height = int(camera["content_width"]), int(camera["content_height"])
            pixels[row, :, :height, :width] = _content(camera, planes, width, height)
    return np.stack([block.lookup[channel][pixels[:, channel]] for channel in range(3)], axis=1)


def _content(camera: np.void, planes: Sequence[Plane], width: int, height: int) -> Plane:
    averages = np.stack(
        [_average(record, plane, width, height) for record, plane in zip(camera["planes"], planes, strict=True)]
    )
    mixed = np.einsum("cp,phw->chw", camera["matrix"].astype(np.int64), averages)
    pixels: Plane = np.clip((mixed + camera["offset"][:, None, None]) >> 30, 0, 255).astype(np.uint8)
    return pixels


def _average(record: np.void, plane: Plane, width: int, height: int) -> NDArray[np.int64]:
    """A colour plane averaged over every output pixel's window, in 1/65536."""
    across = _weights(record, "x", plane.shape[1], width)
    down = _weights(record, "y", plane.shape[0], height)
    total = (down @ (plane.astype(np.float64) @ across.T)).astype(np.uint64)
    fine = np.uint64(record["fine_shift"])
    scaled = (total >> np.uint64(record["coarse_shift"])) * np.uint64(record["reciprocal"])
    average: NDArray[np.int64] = ((scaled + (np.uint64(1) << (fine - np.uint64(1)))) >> fine).astype(np.int64)
    return average


def _weights(record: np.void, axis: str, source: int, content: int) -> NDArray[np.float64]:
    """`[content, source]`: how much of each sample each pixel's window covers, in 1/65536; past an edge, the edge."""
    weights = np.zeros((content, source), np.float64)
    starts = np.arange(content, dtype=np.int64) * int(record[f"increment_{axis}"]) + int(record[f"bias_{axis}"])
    ends = starts + int(record[f"extent_{axis}"])
    first = starts >> 16
    for step in range(int((((ends - 1) >> 16) - first).max()) + 1):
        index = first + step
        covered = np.minimum(ends, (index + 1) << 16) - np.maximum(starts, index << 16)
        np.add.at(weights, (np.arange(content), np.clip(index, 0, source - 1)), np.maximum(covered, 0))
    return weights
