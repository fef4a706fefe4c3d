"""Columns that are computed from items: ages, box edges and sizes, the way to the image's border, what stands on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.messages import NANOSECONDS_PER_SECOND
from triggers.evaluation.item_table import FloatColumn, ItemTable
from triggers.evaluation.text_codes import TextCodes
from triggers.language.populations import Population

#: Least share of a box's width that must be over what it stands on, and how far down that reaches.
MIN_WIDTH_SHARE = 0.6
UPPER_PART = 1 / 3


def make_tables(image_sizes: Mapping[str, tuple[int, int]]) -> dict[Population, ItemTable]:
    """Empty tables for all populations, with one book of text codes."""
    codes = TextCodes()
    unknown = (float("nan"), float("nan"))

    def border_px(table: ItemTable) -> FloatColumn:
        boxes = table.column("boxes")
        sizes = np.array([image_sizes.get(track.camera, unknown) for track in table.items], np.float64)
        return np.asarray(np.minimum(boxes[:, :2], sizes - boxes[:, 2:]).min(axis=1))

    derived = {
        Population.TRACKS: {
            "boxes": _boxes,
            "age_s": _age_s,
            "left_px": lambda table: table.column("boxes")[:, 0],
            "top_px": lambda table: table.column("boxes")[:, 1],
            "right_px": lambda table: table.column("boxes")[:, 2],
            "bottom_px": lambda table: table.column("boxes")[:, 3],
            "width_px": lambda table: table.column("boxes")[:, 2] - table.column("boxes")[:, 0],
            "height_px": lambda table: table.column("boxes")[:, 3] - table.column("boxes")[:, 1],
            "border_px": border_px,
            "stands_on": _stands_on,
        },
        Population.OBJECTS: {"age_s": _object_age_s},
        Population.CAMERAS: {},
    }
    return {population: ItemTable(population, codes, derived[population]) for population in Population}


def _boxes(table: ItemTable) -> NDArray[Any]:
    return np.array([track.box_px for track in table.items], np.float64)


def _age_s(table: ItemTable) -> FloatColumn:
    first_seen_ns = np.array([track.first_seen_ns for track in table.items], np.int64)
    return np.asarray((table.time_ns - first_seen_ns) / NANOSECONDS_PER_SECOND)


def _object_age_s(table: ItemTable) -> FloatColumn:
    first_seen_ns = [each.first_seen_ns for each in table.items]
    ages_ns = [float("nan") if first_ns is None else float(table.time_ns - first_ns) for first_ns in first_seen_ns]
    return np.array(ages_ns) / NANOSECONDS_PER_SECOND


def _stands_on(table: ItemTable) -> NDArray[np.int32]:
    """Codes of the classes below; O(items² per camera), and only where a rule asks."""
    nothing = table.codes[""]
    found = np.full(len(table.items), nothing, np.int32)
    cameras, classes, boxes = table.column("camera"), table.column("class_name"), table.column("boxes")
    for camera in np.unique(cameras):
        rows = np.flatnonzero(cameras == camera)
        if len(rows) > 1:
            below = _box_below(boxes[rows])
            found[rows] = np.where(below >= 0, classes[rows[below]], nothing)
    return found


def _box_below(boxes: NDArray[np.float64]) -> NDArray[np.intp]:
    """For each box the one that it stands on, of several that which is under most of it; -1 for none."""
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    over = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    share = over / width[:, None]
    is_on_top = (bottom[:, None] >= top) & (bottom[:, None] <= top + height * UPPER_PART)
    is_carried = is_on_top & (height[:, None] < height) & (share >= MIN_WIDTH_SHARE)
    best = np.where(is_carried, share, -1.0)
    chosen = best.argmax(axis=1)
    return np.where(best[np.arange(len(boxes)), chosen] > 0, chosen, -1)
