"""Which detection belongs to which track: pairs that may go together, how well they do, and a greedy choice.

Only a track and a detection of the same camera and of the same group of classes may pair up. Groups are wide on
purpose: a car that is called a truck for one tick stays the same track, whose class flickers where rules can see it; it
never becomes a stop sign. Overlap is measured on boxes that are enlarged a little (C-BIoU: Yang et al., "Hard to Track
Objects with Irregular Motions and Similar Appearances?", 2023), because a small box that moved by its own width between
two ticks overlaps nothing.

The choice is greedy by value, ties by track and then detection: deterministic, and within a percent of the optimal
assignment where objects are as sparse as on roads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

#: How much a box is enlarged on each side, as a fraction of its size.
ENLARGED_BY = 0.2

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


def class_groups(class_names: Sequence[str]) -> NDArray[np.int32]:
    """The group of each class: road users 0, signs and lights 1, every other class its own."""
    groups = []
    for index, name in enumerate(class_names):
        folded = name.lower()
        groups.append(0 if folded in _ROAD_USERS else 1 if folded in _FIXTURES else 2 + index)
    return np.array(groups, np.int32)


def pairs(
    track_camera: NDArray[np.integer],
    track_group: NDArray[np.integer],
    camera: NDArray[np.integer],
    group: NDArray[np.integer],
) -> tuple[IndexArray, IndexArray]:
    """Every track and detection that may go together, in order of track and then detection."""
    same = (track_camera[:, None] == camera[None, :]) & (track_group[:, None] == group[None, :])
    rows, columns = np.nonzero(same)
    return rows, columns


def overlap(boxes: FloatArray, others: FloatArray, enlarged_by: float = 0.0) -> FloatArray:
    """Intersection over union of boxes `[P, 4]` with as many others, one by one."""
    a, b = _enlarged(boxes, enlarged_by), _enlarged(others, enlarged_by)
    side = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0.0)
    intersection = side[:, 0] * side[:, 1]
    union = _area(a) + _area(b) - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9))


def strongest_of_each(
    camera: NDArray[np.integer], group: NDArray[np.integer], boxes: FloatArray, score: FloatArray, at_most: float
) -> NDArray[np.bool_]:
    """True for detections that no stronger one of the same camera and group covers by more than `at_most`.

    Suppression by class leaves an object that looks like a car and like a truck with two boxes; it is one object.
    """
    order = np.argsort(-score, kind="stable")
    rank = np.empty(score.size, np.intp)
    rank[order] = np.arange(score.size)
    rows, columns = pairs(camera, group, camera, group)
    stronger = rank[rows] < rank[columns]
    rows, columns = rows[stronger], columns[stronger]
    same = overlap(boxes[rows], boxes[columns]) > at_most
    distinct = np.ones(score.size, np.bool_)
    distinct[columns[same]] = False
    return distinct


def choose(rows: IndexArray, columns: IndexArray, value: FloatArray, at_least: float) -> tuple[IndexArray, IndexArray]:
    """Pairs of falling value, each row and each column at most once."""
    good = np.flatnonzero(value >= at_least)
    order = good[np.argsort(-value[good], kind="stable")]
    chosen_rows: list[int] = []
    chosen_columns: list[int] = []
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            chosen_rows.append(row)
            chosen_columns.append(column)
    return np.array(chosen_rows, np.intp), np.array(chosen_columns, np.intp)


def _area(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _enlarged(boxes: FloatArray, by: float) -> FloatArray:
    if by == 0.0:
        return boxes
    margin = (boxes[:, 2:] - boxes[:, :2]) * by
    return np.concatenate((boxes[:, :2] - margin, boxes[:, 2:] + margin), axis=1)
