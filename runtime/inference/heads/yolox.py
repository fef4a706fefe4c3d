"""Decoder `yolox`: anchor-free grid cells (Ge et al., "YOLOX: Exceeding YOLO Series in 2021").

    predictions [B, cells, 5 + classes]   x, y, log w, log h in cells; objectness; class scores (both 0..1)

Cells are those of a grid of `height / stride` by `width / stride` for each stride in turn, row by row. The centre is
`(cell + xy) * stride`, the size `exp(wh) * stride`, the score objectness times the best class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import BatchLayout, HeadFault, HeadResult, RowDetections, TensorShape, misfit
from runtime.inference.heads.selection import strongest, suppress
from runtime.inference.heads.specification import YoloxHead

FIRST_CLASS = 5
#: exp() of more than this is wider than any image: a broken output must not become infinite.
MAX_LOG_SIZE_CELLS = 8.0


class YoloxDecoder:
    """Decodes the cells of one head that score high enough."""

    def __init__(self, head: YoloxHead, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        self._head = head
        self._cell, self._stride = grid_cells(layout.width, layout.height, head.strides)

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        predictions = np.asarray(tensors[self._head.outputs.predictions], np.float32)
        # A score is at most its objectness, so most cells fall away before their classes are looked at.
        row, cell = np.nonzero(predictions[:, :, 4] >= self._head.score_threshold)
        seen = row_present[row]
        row, cell = row[seen], cell[seen]
        values = predictions[row, cell]
        class_id = np.argmax(values[:, FIRST_CLASS:], axis=1) if row.size else row
        score = values[:, 4] * values[np.arange(row.size), FIRST_CLASS + class_id]
        high = np.flatnonzero(score >= self._head.score_threshold)
        best = high[strongest(row[high], score[high], self._head.max_per_camera)]
        if best.size == 0:
            return HeadResult(detections=RowDetections.empty())
        row, class_id, score = row[best], class_id[best], score[best]
        box_px = self._boxes(values[best], cell[best])
        kept = suppress(row, class_id, score, box_px, self._head.iou_threshold, self._head.max_per_camera)
        return HeadResult(
            detections=RowDetections(
                row[kept].astype(np.int32),
                class_id[kept].astype(np.int32),
                score[kept],
                box_px[kept],
                [None] * int(kept.size),
            )
        )

    def _boxes(self, values: NDArray[np.float32], cell: NDArray[np.intp]) -> NDArray[np.float32]:
        stride = self._stride[cell, None]
        centre_px = (values[:, :2] + self._cell[cell]) * stride
        half_px = np.exp(np.minimum(values[:, 2:4], MAX_LOG_SIZE_CELLS)) * stride / 2.0
        return np.concatenate((centre_px - half_px, centre_px + half_px), axis=1).astype(np.float32)


def grid_cells(width: int, height: int, strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of each cell `[cells, 2]`, and its stride in pixels `[cells]`."""
    cells, stride_of_cell = [], []
    for stride in strides:
        rows, columns = height // stride, width // stride
        y, x = np.mgrid[0:rows, 0:columns]
        cells.append(np.stack((x.reshape(-1), y.reshape(-1)), axis=1))
        stride_of_cell.append(np.full(rows * columns, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(stride_of_cell).astype(np.float32)


def check(head: YoloxHead, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Whether the graph's tensor has one row per cell and one column per value."""
    rows = 1 if layout.per_camera else layout.rows
    cells = sum((layout.width // stride) * (layout.height // stride) for stride in head.strides)
    meaning = f"batch, cells at strides {', '.join(map(str, head.strides))}, 5 + {len(head.classes)} classes"
    expected = (rows, cells, FIRST_CLASS + len(head.classes))
    return misfit("predictions", shapes[head.outputs.predictions], expected, meaning)
