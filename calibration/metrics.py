"""Scores of detections, masks and numbers against truth. NumPy only.

`AveragePrecision` follows PASCAL VOC 2010 and later: area under the interpolated precision-recall curve at IoU 0.5;
objects marked to be ignored (tiny, hidden) neither count as found nor their detections as false.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MATCH_IOU = 0.5
#: A detection is *kept* when its score changes by no more than this.
SCORE_TOLERANCE = 0.05
#: Evaluation counts what a person would expect to be found (KITTI's "moderate" is 25 of 375 lines, 13 of 192).
SCORED_SIDE_PX = 4.0
SCORED_LONGER_SIDE_PX = 8.0
SCORED_VISIBLE_FRACTION = 0.4


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
        return 100.0 * self.value() / max(self.spread(), 1e-9) if self.errors else float("nan")

    def spread(self) -> float:
        """Of the truth, from the 5th to the 95th percentile."""
        return spread_of(np.asarray(self.truths))


def spread_of(values: NDArray[np.floating]) -> float:
    """From the 5th to the 95th percentile."""
    low, high = np.percentile(values, [5, 95])
    return float(high - low)


def is_scored(box_px: NDArray[np.float32], visible_fraction: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which true objects count in evaluation; the others are ignored. Boxes `[K, 4]` in network pixels."""
    sides = box_px[:, 2:] - box_px[:, :2]
    is_large = (sides.min(axis=1, initial=np.inf) >= SCORED_SIDE_PX) & (
        sides.max(axis=1, initial=0) >= SCORED_LONGER_SIDE_PX
    )
    return np.asarray(is_large & (visible_fraction >= SCORED_VISIBLE_FRACTION))


def iou_matrix(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of every pair, `[len(first), len(second)]`."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(box[:, 2:] - box[:, :2], 0, None), axis=1) for box in (first, second)]
    return np.asarray(common / np.maximum(areas[0][:, None] + areas[1][None, :] - common, 1e-9), np.float32)


def cosine(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Cosine between two tensors as vectors; 1 when both are zero."""
    a, b = np.asarray(first, np.float64).reshape(-1), np.asarray(second, np.float64).reshape(-1)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else float(np.array_equal(a, b))


def kept(
    reference: tuple[NDArray[np.integer], NDArray[np.float32], NDArray[np.float32]],
    candidate: tuple[NDArray[np.integer], NDArray[np.float32], NDArray[np.float32]],
) -> NDArray[np.bool_]:
    """Which of the reference's detections the candidate has too; each of the candidate's counts once.

    Both are group `[K]` (what must be equal: image and class), score `[K]` and box `[K, 4]`. Kept is one with a
    partner of the same group, IoU of at least `MATCH_IOU` and a score within `SCORE_TOLERANCE`.
    """
    group, score, box = reference
    found = np.zeros(len(score), np.bool_)
    if not len(score) or not len(candidate[1]):
        return found
    allowed = (group[:, None] == candidate[0][None, :]) & (
        np.abs(score[:, None] - candidate[1][None, :]) <= SCORE_TOLERANCE
    )
    overlap = np.where(allowed, iou_matrix(box, candidate[2]), 0.0)
    for index in range(len(score)):
        best = int(overlap[index].argmax())
        if overlap[index, best] >= MATCH_IOU:
            overlap[:, best] = 0.0
            found[index] = True
    return found
