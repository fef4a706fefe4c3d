"""Scores of detections, masks and numbers against truth. NumPy only.

`AveragePrecision` follows PASCAL VOC 2010 and later: area under the interpolated precision-recall curve at IoU 0.5;
objects marked to be ignored (tiny, hidden) neither count as found nor their detections as false.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.training.decode import Boxes, iou_matrix

MATCH_IOU = 0.5


@dataclass(slots=True)
class AveragePrecision:
    """Collects one class over images."""

    scores: list[float] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    objects: int = 0

    def add(
        self,
        score: NDArray[np.float32],
        box: NDArray[np.float32],
        truth: NDArray[np.float32],
        ignored: NDArray[np.bool_],
    ) -> None:
        """Detections of one image (best first) and its true boxes."""
        self.objects += int((~ignored).sum())
        overlap = iou_matrix(box, truth)
        taken = np.zeros(len(truth), bool)
        for row in range(len(score)):
            candidates = np.where(taken, 0.0, overlap[row])
            best = int(candidates.argmax()) if len(truth) else -1
            if best >= 0 and candidates[best] >= MATCH_IOU:
                if ignored[best]:
                    continue
                taken[best] = True
                self._note(float(score[row]), True)
            elif not (len(truth) and bool((overlap[row] * ignored > 0.3).any())):
                self._note(float(score[row]), False)

    def _note(self, score: float, hit: bool) -> None:
        self.scores.append(score)
        self.hits.append(hit)

    def value(self) -> float:
        """Average precision 0..1; NaN when the class never occurred."""
        if self.objects == 0:
            return float("nan")
        order = np.argsort(-np.array(self.scores), kind="stable")
        hits = np.array(self.hits, bool)[order]
        found = np.cumsum(hits)
        recall = found / self.objects
        precision = found / np.arange(1, len(hits) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


@dataclass(slots=True)
class Overlap:
    """Intersection over union of a mask over a whole set."""

    common: int = 0
    union: int = 0

    def add(self, predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        self.common += int((predicted & truth).sum())
        self.union += int((predicted | truth).sum())

    def value(self) -> float:
        return self.common / self.union if self.union else float("nan")


@dataclass(slots=True)
class AbsoluteError:
    """Mean absolute error, and the same in per cent of the truth's spread (5th to 95th percentile)."""

    errors: list[float] = field(default_factory=list)
    truths: list[float] = field(default_factory=list)

    def add(self, predicted: float, truth: float) -> None:
        self.errors.append(abs(predicted - truth))
        self.truths.append(truth)

    def value(self) -> float:
        return float(np.mean(self.errors)) if self.errors else float("nan")

    def percent(self) -> float:
        if not self.errors:
            return float("nan")
        low, high = np.percentile(self.truths, [5, 95])
        return 100.0 * self.value() / max(float(high - low), 1e-9)


def boxes_of_class(boxes: Boxes, class_id: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores and boxes of one class."""
    chosen = boxes.class_id == class_id
    return boxes.score[chosen], boxes.box[chosen]
