"""Two candidate networks on one tick: each against the controller, and one against the other.

    shadow_b.*, diff_b.*          the second candidate, as `shadow.*` and `diff.*` are of the first
    ab.accel_mps2                 the first candidate's action minus the second's; so also ab.curvature_1pm,
                                  ab.lateral_accel_mps2 and ab.lead_distance_m
    ab.kept_count                 objects that both see
    ab.lost_count                 objects that only the first sees
    ab.extra_count                objects that only the second sees

Two detections are one object when camera and class (by name) are the same and each is the other's best overlap of at
least `SAME_OBJECT_IOU`: in both, that is, whichever is looked at first. Classes that only one network knows are left
out, because the other could not have told of them. A side that is unknown leaves its difference out, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.messages import Comparison, Detections, Prediction

SAME_OBJECT_IOU = 0.5
_OF_SHADOW = ("accel_mps2", "curvature_1pm", "lead_distance_m")


def second_names(values: Mapping[str, float]) -> dict[str, float]:
    """The values of a comparison under the second candidate's names: `diff.accel_mps2` is `diff_b.accel_mps2`."""
    return {name.replace(".", "_b.", 1): value for name, value in values.items()}


class CandidateComparator:
    """Compares what two networks say of one frameset; `classes` are the class names of the first and the second."""

    def __init__(self, classes: Sequence[str], other_classes: Sequence[str]) -> None:
        index = {name: number for number, name in enumerate(classes)}
        #: The first's number of each class of the second, -1 where it has none; and which of the first's are shared.
        self._class_of = np.array([index.get(name, -1) for name in other_classes] or [-1], np.int64)
        self._is_shared = np.isin(np.arange(max(len(classes), 1)), self._class_of)

    def compare(
        self, first: Prediction, second: Prediction, one: Comparison, other: Comparison, speed_mps: float | None
    ) -> dict[str, float]:
        """The `ab.*` of one tick, from the predictions and from both comparisons with the controller."""
        values: dict[str, float] = {}
        for name in _OF_SHADOW:
            here, there = one.values.get(f"shadow.{name}"), other.values.get(f"shadow.{name}")
            if here is not None and there is not None:
                values[f"ab.{name}"] = here - there
        if speed_mps is not None and "ab.curvature_1pm" in values:
            values["ab.lateral_accel_mps2"] = values["ab.curvature_1pm"] * speed_mps * speed_mps
        values.update(self._counts(first.detections, second.detections))
        return values

    def _counts(self, first: Detections, second: Detections) -> dict[str, float]:
        rows = np.flatnonzero(self._is_shared[first.class_id])
        class_id = self._class_of[second.class_id]
        columns = np.flatnonzero(class_id >= 0)
        kept = 0
        if rows.size and columns.size:
            same = first.camera[rows, None] == second.camera[columns]
            same &= first.class_id[rows, None] == class_id[columns]
            kept = mutual_best(np.where(same, overlaps(first.box_px[rows], second.box_px[columns]), 0.0))
        return {
            "ab.kept_count": float(kept),
            "ab.lost_count": float(rows.size - kept),
            "ab.extra_count": float(columns.size - kept),
        }


def overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union `[K, L]` of boxes `[K, 4]` and `[L, 4]`."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    side = np.maximum(np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - low, 0.0)
    shared = side[..., 0] * side[..., 1]
    area, other_area = ((each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (boxes, others))
    return np.asarray(shared / np.maximum(area[:, None] + other_area - shared, 1e-9), np.float32)


def mutual_best(overlap: NDArray[np.float32]) -> int:
    """How many pairs of a `[K, L]` table are each other's best and overlap enough; ties go to the earlier one."""
    best = overlap.argmax(axis=1)
    rows = np.arange(best.size)
    is_mutual = overlap.argmax(axis=0)[best] == rows
    return int(np.count_nonzero(is_mutual & (overlap[rows, best] >= SAME_OBJECT_IOU)))
