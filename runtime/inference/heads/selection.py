"""From many scored candidates to few boxes: a bound on each row's candidates, then non-maximum suppression.

Suppression is by class and row. It is OpenCV's: 3 to 5 times faster than the same in vectorised NumPy at 10 to 300
boxes, with equal results. Its cost grows with the square of the candidates, hence `CANDIDATES_PER_KEPT`: an untrained
or hostile network that fires everywhere costs milliseconds and not the tick.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

CANDIDATES_PER_KEPT = 4
#: Up to so many candidates all rows are suppressed in one call, as if each row had classes of its own: calls cost more
#: than pairs of boxes then.
TOGETHER = 192
MAX_CANDIDATES_PER_ROW = 400


def strongest(row: NDArray[np.integer], score: NDArray[np.float32], keep_per_row: int) -> NDArray[np.intp]:
    """Indices of each row's best candidates, in order of row and then falling score; ties keep their order."""
    limit = min(MAX_CANDIDATES_PER_ROW, keep_per_row * CANDIDATES_PER_KEPT)
    order = np.lexsort((-score, row))
    if order.size <= limit:
        return order
    sorted_rows = row[order]
    first_of_row = np.searchsorted(sorted_rows, sorted_rows, side="left")
    return order[np.arange(order.size) - first_of_row < limit]


def suppress(
    row: NDArray[np.integer],
    class_id: NDArray[np.integer],
    score: NDArray[np.float32],
    box_px: NDArray[np.float32],
    iou_threshold: float,
    max_per_row: int,
) -> NDArray[np.intp]:
    """Indices that survive, in order of row and falling score. Input is ordered as `strongest` leaves it.

    A box that is not finite (a broken output, an overflow in FP16) is nowhere, and does not survive.
    """
    finite = np.isfinite(box_px)
    if not finite.all():
        some = np.flatnonzero(finite.all(axis=1))
        return some[suppress(row[some], class_id[some], score[some], box_px[some], iou_threshold, max_per_row)]
    if row.size == 0:
        return np.empty(0, np.intp)
    corner_and_size = box_px.copy()
    corner_and_size[:, 2:] -= box_px[:, :2]
    if row.size <= TOGETHER:
        return _suppress_together(row, class_id, score, corner_and_size, iou_threshold, max_per_row)
    edges = np.flatnonzero(np.diff(row)) + 1
    kept: list[NDArray[np.intp]] = []
    start = 0
    for stop in (*edges.tolist(), int(row.size)):
        part = slice(start, stop)
        survivors = cv2.dnn.NMSBoxesBatched(
            corner_and_size[part].tolist(), score[part].tolist(), class_id[part].tolist(), 0.0, iou_threshold
        )
        kept.append(np.sort(np.asarray(survivors, np.intp).reshape(-1))[:max_per_row] + start)
        start = stop
    return np.concatenate(kept)


def _suppress_together(
    row: NDArray[np.integer],
    class_id: NDArray[np.integer],
    score: NDArray[np.float32],
    corner_and_size: NDArray[np.float32],
    iou_threshold: float,
    max_per_row: int,
) -> NDArray[np.intp]:
    own_class = row * (int(class_id.max(initial=0)) + 1) + class_id
    survivors = cv2.dnn.NMSBoxesBatched(
        corner_and_size.tolist(), score.tolist(), own_class.tolist(), 0.0, iou_threshold
    )
    kept = np.sort(np.asarray(survivors, np.intp).reshape(-1))
    if kept.size <= max_per_row:
        return kept
    rows = row[kept]
    return kept[np.arange(kept.size) - np.searchsorted(rows, rows, side="left") < max_per_row]
