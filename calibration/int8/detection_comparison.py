"""Detections of two files: how many are kept, and mean average precision with FP32's detections as the truth.

Kept is a matter of class, place and score (`calibration.metrics.partners`), and the candidate is looked at from the
head's threshold less the tolerance on: a detection at 0.32 that comes out at 0.28 has moved by 0.04 and is not lost
because the threshold lies between. `kept_above_threshold` says how many a reader of the runtime's own output would find
again, and has a limit of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from calibration.int8.findings import Finding, Instant
from calibration.metrics import SCORE_TOLERANCE, AveragePrecision, partners
from runtime.inference.heads import build_decoder
from runtime.inference.heads.decoder import BatchLayout, RowDetections
from runtime.inference.heads.specification import MAX_CLASSES, DetectionHead, Head

#: AP of a class with fewer objects than this says more about the sample than about the network.
LEAST_OBJECTS_PER_CLASS = 5


class DetectionComparison:
    """Detections kept, and mAP with FP32's detections as the truth."""

    def __init__(self, head: DetectionHead, height: int, width: int) -> None:
        self._head, self._height, self._width = head, height, width
        #: A detection just above the threshold may fall just below it: that is the tolerance's, not a loss.
        self._lenient = head.model_copy(update={"score_threshold": max(head.score_threshold - SCORE_TOLERANCE, 1e-3)})
        self._total = self._kept = self._kept_above = 0
        self._best = [0.0, 0.0]
        self._same_state: list[bool] = []
        self._distance_errors: list[float] = []
        self._precision = [AveragePrecision() for _ in head.classes]

    def add(self, reference: Instant, candidate: Instant) -> None:
        wanted, found = self._decode(self._head, reference), self._decode(self._head, candidate)
        weaker = self._decode(self._lenient, candidate)
        self._best = [
            max(best, float(part.score.max(initial=0.0)))
            for best, part in zip(self._best, (wanted, found), strict=True)
        ]
        self._total += len(wanted)
        partner = partners(_grouped(wanted), _grouped(weaker))
        self._kept += int((partner >= 0).sum())
        self._kept_above += int((partners(_grouped(wanted), _grouped(found)) >= 0).sum())
        self._compare_told(wanted, weaker, partner)
        for row in np.union1d(wanted.row, found.row):
            for class_id in np.union1d(wanted.class_id[wanted.row == row], found.class_id[found.row == row]):
                score, box = _of(found, row, class_id)
                _, truth = _of(wanted, row, class_id)
                self._precision[class_id].add(score, box, truth, np.zeros(len(truth), np.bool_))

    def findings(self) -> list[Finding]:
        share, above = (count / self._total if self._total else None for count in (self._kept, self._kept_above))
        judged = [entry.value() for entry in self._precision if entry.objects >= LEAST_OBJECTS_PER_CLASS]
        return [
            Finding("kept_share", share, self._total, f"{self._kept} of {self._total} detections"),
            Finding("kept_above_threshold", above, self._total),
            Finding("map50", float(np.mean(judged)) if judged else None, len(judged), f"{len(judged)} classes"),
            *self._told(),
            Finding("best_score", None, fp32=self._best[0], candidate=self._best[1]),
        ]

    def _compare_told(self, wanted: RowDetections, found: RowDetections, partner: NDArray[np.intp]) -> None:
        """What the head tells of objects beside their boxes, of those that were kept."""
        for one, other in enumerate(partner.tolist()):
            if other < 0:
                continue
            if wanted.state[one] is not None:
                self._same_state.append(wanted.state[one] == found.state[other])
            if wanted.distance_m is not None and found.distance_m is not None and wanted.distance_m[one] > 0.0:
                error = abs(float(found.distance_m[other]) / float(wanted.distance_m[one]) - 1.0)
                self._distance_errors.append(error if np.isfinite(error) else 1.0)

    def _told(self) -> list[Finding]:
        told: dict[str, Sequence[float]] = {
            "state_agreement": self._same_state,
            "distance_error": self._distance_errors,
        }
        return [Finding(name, float(np.mean(values)), len(values)) for name, values in told.items() if values]

    def _decode(self, head: DetectionHead, instant: Instant) -> RowDetections:
        return decode_detections(head, instant, self._height, self._width)


def decode_detections(head: DetectionHead, instant: Instant, height: int, width: int) -> RowDetections:
    """What a head finds in one instant, in network pixels."""
    rows = instant.present.size
    shapes = {name: np.shape(value) for name, value in instant.tensors.items()}
    layout = BatchLayout(rows, height, width, {f"row_{row}": row for row in range(rows)}, per_camera=rows == 1)
    result = build_decoder(cast(Head, head), shapes, layout).decode(instant.tensors, instant.present)
    return result.detections if result.detections is not None else RowDetections.empty()


def _grouped(found: RowDetections) -> tuple[NDArray[np.integer], NDArray[np.float32], NDArray[np.float32]]:
    return found.row.astype(np.int64) * MAX_CLASSES + found.class_id, found.score, found.box_px


def _of(found: RowDetections, row: int, class_id: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    chosen = (found.row == row) & (found.class_id == class_id)
    return found.score[chosen], found.box_px[chosen]
