"""Which detection belongs to which track: pairs that may go together, how well they do, and a greedy choice.

Only a track and a detection of the same camera and of the same group of classes may pair up: those of one *key*. Groups
are wide on purpose: a car that is called a truck for one tick stays the same track, whose class flickers where rules
can see it; it never becomes a stop sign. Overlap is measured on boxes that are enlarged a little (C-BIoU: Yang et al.,
"Hard to Track Objects with Irregular Motions and Similar Appearances?", 2023), because a small box that moved by its
own width between two ticks overlaps nothing.

The choice is greedy by value, ties by track and then detection: deterministic, and within a percent of the optimal
assignment where objects are as sparse as on roads.

Boxes come here as `areas` makes them: a line for each of x0, y0, x1, y1 and the area, a column for each box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

#: How much a box is enlarged on each side, as a fraction of its size.
ENLARGED_BY = 0.2
#: Two boxes of one group that overlap more than this are one object.
SAME_OBJECT_OVERLAP = 0.7
#: The turn of a pair that may not be chosen, after all others.
NEVER = 9

_VEHICLES = ("vehicle", "car", "truck", "bus", "train", "van", "trailer")
_ON_TWO_WHEELS = ("motorcycle", "motorbike", "bicycle", "bike", "cyclist", "rider")
_ROAD_USERS = (*_VEHICLES, *_ON_TWO_WHEELS, "pedestrian", "person")
_FIXTURES = (
    "stop_sign",
    "stop sign",
    "traffic_light",
    "traffic light",
    "traffic_sign",
    "traffic sign",
    "parking meter",
)


def class_groups(class_names: Sequence[str]) -> NDArray[np.int64]:
    """The group of each class: road users 0, signs and lights 1, every other class its own."""
    groups = []
    for index, name in enumerate(class_names):
        folded = name.lower()
        groups.append(0 if folded in _ROAD_USERS else 1 if folded in _FIXTURES else 2 + index)
    return np.array(groups, np.int64)


def areas(corners: FloatArray, enlarged_by: float = 0.0) -> FloatArray:
    """`[5, K]` corners `[4, K]`, enlarged by a fraction of their size on each side, and the area within."""
    low, high = corners[:2], corners[2:]
    boxes = np.empty((5, corners.shape[1]))
    if enlarged_by:
        margin = high - low
        margin *= enlarged_by
        low = np.subtract(low, margin, out=boxes[:2])
        high = np.add(high, margin, out=boxes[2:4])
    else:
        boxes[:4] = corners
    width, height = high - low
    np.multiply(width, height, out=boxes[4])
    return boxes


def pairs(track_key: NDArray[np.int64], key: NDArray[np.int64]) -> tuple[IndexArray, IndexArray]:
    """Every track and detection that may go together, in order of track and then detection."""
    return places_of(track_key[:, None] == key)


def places_of(table: NDArray[np.bool_]) -> tuple[IndexArray, IndexArray]:
    """Rows and columns where a table is true, in order; `nonzero` itself takes twice as long in two dimensions."""
    places = table.reshape(-1).nonzero()[0]
    rows = places // max(table.shape[1], 1)
    return rows, places - rows * table.shape[1]


def overlap(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """Intersection over union of boxes `[5, P]` with as many others, one by one."""
    side = np.minimum(boxes[2:4], others[2:4])
    side -= np.maximum(boxes[:2], others[:2])
    np.maximum(side, 0.0, out=side)
    shared = side[0] * side[1]
    union = boxes[4] + others[4]
    union -= shared
    np.maximum(union, 1e-9, out=union)
    return np.asarray(shared / union)


def overlaps_of(
    boxes: FloatArray, box_key: NDArray[np.int64], others: FloatArray, other_key: NDArray[np.int64]
) -> tuple[IndexArray, IndexArray, FloatArray]:
    """Every pair of one key with its overlap: columns of `boxes` and of `others`."""
    rows, columns = pairs(box_key, other_key)
    return rows, columns, overlap(boxes.take(rows, axis=1), others.take(columns, axis=1))


def choose(
    rows: IndexArray, columns: IndexArray, turn: NDArray[np.int64], value: FloatArray
) -> tuple[list[int], list[int]]:
    """Pairs by turn and then falling value, each row and each column at most once; those of turn `NEVER` never."""
    order = np.lexsort((-value, turn))[: np.count_nonzero(turn != NEVER)]
    chosen_rows: list[int] = []
    chosen_columns: list[int] = []
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    for row, column in zip(rows.take(order).tolist(), columns.take(order).tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            chosen_rows.append(row)
            chosen_columns.append(column)
    return chosen_rows, chosen_columns
