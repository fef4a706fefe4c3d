"""Decoder `depth`: how far away each pixel of each camera is.

    depth [B, 1, h, w]   metres, or one over metres (`quantity: inverse_metres`), times `scale`

The map itself is handed on as the backend wrote it (a view into its ring, one row per batch row). What rules need is
the distance of *objects*: the median of a grid of points in the lower centre of a box, where the object's body is and
neither the road in front of it nor the background at its sides. Values that are not finite, not positive or beyond
`max_m` say nothing; an object of which they are the larger part has no distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import BatchLayout, HeadFault, HeadResult, TensorShape, misfit
from runtime.inference.heads.specification import DepthHead

#: Where in a box its points lie, as parts of its width and height from its upper left corner.
_ACROSS = np.linspace(0.3, 0.7, 5, dtype=np.float32)
_DOWN = np.linspace(0.5, 0.9, 5, dtype=np.float32)
_POINTS = np.stack(np.meshgrid(_ACROSS, _DOWN), axis=-1).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class DepthMap:
    """The depth of one tick."""

    values: NDArray[np.generic]  # [B, 1, h, w]
    head: DepthHead
    cells_per_px: NDArray[np.float32]  # x, y

    def of_boxes(self, row: NDArray[np.int32], box_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Metres to each object `[K]`, NaN where unknown; boxes `[K, 4]` in pixels of the prepared image."""
        if row.size == 0:
            return np.zeros(0, np.float32)
        height, width = self.values.shape[2:]
        last_cell = np.array([width - 1, height - 1], np.float32)
        corner, size = box_px[:, None, :2], box_px[:, None, 2:] - box_px[:, None, :2]
        # A box that is not finite lies nowhere and is dropped later; here it must only not break the lookup.
        place = np.nan_to_num((corner + _POINTS * size) * self.cells_per_px, nan=0.0)
        cell = np.clip(place, 0.0, last_cell).astype(np.intp)
        points = np.asarray(self.values[row[:, None], 0, cell[..., 1], cell[..., 0]], np.float32)
        return _median(metres(self.head, points))


class DepthDecoder:
    """Hands on the map of one head."""

    def __init__(self, head: DepthHead, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        self._head = head
        height, width = shapes[head.outputs.depth][2:]
        self._cells_per_px = np.array([width / layout.width, height / layout.height], np.float32)

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        values = tensors[self._head.outputs.depth]
        return HeadResult(arrays={self._head.name: values}, depth=DepthMap(values, self._head, self._cells_per_px))


def check(head: DepthHead, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Whether the tensor is one plane per camera."""
    rows = 1 if layout.per_camera else layout.rows
    return misfit("depth", shapes[head.outputs.depth], (rows, 1, None, None), "batch, 1, rows, columns")


def metres(head: DepthHead, values: NDArray[np.generic]) -> NDArray[np.float32]:
    """The tensor's values in metres, NaN where they say nothing."""
    raw, scale = np.asarray(values, np.float32), np.float32(head.scale)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        distance = scale / raw if head.quantity == "inverse_metres" else scale * raw
    return np.asarray(np.where((distance > 0.0) & (distance <= head.max_m), distance, np.nan), np.float32)


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row's known values (the lower of two middle ones); NaN where fewer than half are known."""
    known = np.count_nonzero(np.isfinite(values), axis=1)
    ordered = np.sort(values, axis=1)  # NaN last
    middle = ordered[np.arange(values.shape[0]), np.maximum(known - 1, 0) // 2]
    return np.asarray(np.where(2 * known >= values.shape[1], middle, np.nan), np.float32)
