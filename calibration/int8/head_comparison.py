"""How like FP32 another file of the same network is, head by head, in the measure that matters for that head.

A comparison takes in one instant's outputs of both files after another (`add`) and then tells its `Finding`s: named
values, for which `limits` knows what may be lost. A finding without a value had nothing to be measured on (FP32 found
no object, saw no lead); the gate then falls back to the cosine of the head's tensors and says so.

Rows of cameras that delivered nothing are left out: what a network says about padding is not compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.int8.detection_comparison import DetectionComparison
from calibration.int8.findings import Finding, HeadComparison, Instant
from calibration.int8.limits import COSINE
from calibration.metrics import Overlap, cosine, spread_of
from runtime.inference.embedding import HEAD_NAME as EMBEDDING
from runtime.inference.heads.classification import activate
from runtime.inference.heads.depth import metres
from runtime.inference.heads.segmentation import class_planes
from runtime.inference.heads.specification import (
    ClassificationHead,
    ControlHead,
    DepthHead,
    DetectionHead,
    Head,
    SegmentationHead,
    tensors_of,
)

#: A class that covers less than this share of the pixels compared is an edge effect.
LEAST_AREA_SHARE = 1e-4
#: Below these spreads an error is measured against them: a scene in which nothing happens has no spread.
LEAST_SPREADS = {"accel": 1.0, "curvature": 0.01}  # m/s², 1/m
#: By how much FP32's best class must lead for the answer to count as decided.
DECIDED_MARGIN = 0.1


def comparison_of(head: Head, height: int, width: int) -> HeadComparison:
    """The comparison for a head of a network with images of this size."""
    if isinstance(head, DetectionHead):
        return DetectionComparison(head, height, width)
    if isinstance(head, SegmentationHead):
        return SegmentationComparison(head)
    if isinstance(head, ControlHead):
        return ControlComparison(head)
    if isinstance(head, ClassificationHead):
        return ClassificationComparison(head)
    if isinstance(head, DepthHead):
        return DepthComparison(head)
    return VectorComparison(head)


class SegmentationComparison:
    """Intersection over union of what both files call a class."""

    def __init__(self, head: SegmentationHead) -> None:
        self._head = head
        self._overlap = [Overlap() for _ in head.classes]
        self._pixels = 0

    def add(self, reference: Instant, candidate: Instant) -> None:
        name = self._head.outputs.mask
        one, other = (class_planes(self._head, instant.rows_of(name)) for instant in (reference, candidate))
        self._pixels += one[:, 0].size
        for index, overlap in enumerate(self._overlap):
            overlap.add(one[:, index], other[:, index])

    def findings(self) -> list[Finding]:
        least = max(1.0, LEAST_AREA_SHARE * self._pixels)
        by_class = {
            name: overlap.value() if overlap.union >= least else None
            for name, overlap in zip(self._head.classes, self._overlap, strict=True)
        }
        seen = [value for value in by_class.values() if value is not None]
        mean = Finding("iou_mean", float(np.mean(seen)) if seen else None, len(seen), f"{len(seen)} classes")
        return [mean, *(Finding(f"iou_{name}", value, self._pixels) for name, value in by_class.items())]


class ControlComparison:
    """Errors of the action as shares of the spread that FP32's has, and of the vehicle ahead."""

    def __init__(self, head: ControlHead) -> None:
        self._head = head
        self._pairs: list[NDArray[np.float64]] = []  # [2, rows, 2..4]

    def add(self, reference: Instant, candidate: Instant) -> None:
        name = self._head.outputs.control
        self._pairs.append(np.stack([instant.rows_of(name) for instant in (reference, candidate)]).astype(np.float64))

    def findings(self) -> list[Finding]:
        one, other = np.concatenate(self._pairs, axis=1)
        found = []
        for column, (name, unit) in enumerate((("accel", "m/s²"), ("curvature", "1/m"))):
            error = float(np.abs(one[:, column] - other[:, column]).mean())
            spread = max(spread_of(one[:, column]), LEAST_SPREADS[name])
            found.append(Finding(f"{name}_error", error / spread, len(one), f"{error:.3g} of {spread:.3g} {unit}"))
        return found + self._lead(one, other)

    def _lead(self, one: NDArray[np.float64], other: NDArray[np.float64]) -> list[Finding]:
        if one.shape[1] < 3:
            return []
        found, both = [], np.ones(len(one), np.bool_)
        if one.shape[1] == 4:
            threshold = self._head.lead_threshold
            sees = one[:, 3] >= threshold
            decided = np.abs(one[:, 3] - threshold) >= DECIDED_MARGIN / 2
            same = sees == (other[:, 3] >= threshold)
            share = float(same[decided].mean()) if decided.any() else None
            found.append(Finding("lead_agreement", share, int(decided.sum())))
            both = sees & same
        error = np.abs(one[both, 2] - other[both, 2])
        relative = float((error / np.maximum(np.abs(one[both, 2]), 1.0)).mean()) if both.any() else None
        detail = f"{float(error.mean()):.3g} m" if both.any() else ""
        return [*found, Finding("lead_distance_error", relative, int(both.sum()), detail)]


class ClassificationComparison:
    """How often the same class is named, where FP32 was decided."""

    def __init__(self, head: ClassificationHead) -> None:
        self._head = head
        self._same: list[bool] = []
        self._errors: list[float] = []

    def add(self, reference: Instant, candidate: Instant) -> None:
        name = self._head.outputs.probabilities
        for one, other in zip(reference.rows_of(name), candidate.rows_of(name), strict=True):
            first, second = (self._probabilities(row) for row in (one, other))
            self._errors.append(float(np.abs(first - second).max()))
            ordered = np.sort(first)
            if ordered[-1] - ordered[-2] >= DECIDED_MARGIN:
                self._same.append(int(first.argmax()) == int(second.argmax()))

    def findings(self) -> list[Finding]:
        share = float(np.mean(self._same)) if self._same else None
        worst = max(self._errors, default=0.0)
        return [Finding("agreement", share, len(self._same), f"probabilities differ by {worst:.3g} at most")]

    def _probabilities(self, row: NDArray[np.generic]) -> NDArray[np.float64]:
        values = activate(np.asarray(row, np.float64).reshape(-1), self._head.activation)
        return np.array([1.0 - values[0], values[0]]) if values.size == 1 else values


class DepthComparison:
    """Mean relative error of the metres that both files know."""

    def __init__(self, head: DepthHead) -> None:
        self._head = head
        self._total = 0.0
        self._known = self._lost = 0

    def add(self, reference: Instant, candidate: Instant) -> None:
        name = self._head.outputs.depth
        one, other = (metres(self._head, instant.rows_of(name)) for instant in (reference, candidate))
        known = np.isfinite(one)
        both = known & np.isfinite(other)
        error = np.abs(other[both] - one[both]) / one[both]
        # A pixel whose distance INT8 lost is wholly wrong.
        self._total += float(error.sum(dtype=np.float64)) + int((known & ~both).sum())
        self._lost += int((known & ~both).sum())
        self._known += int(known.sum())

    def findings(self) -> list[Finding]:
        value = self._total / self._known if self._known else None
        return [Finding("relative_error", value, self._known, f"{self._lost} pixels lost")]


class VectorComparison:
    """Cosine of an embedding, row by row: mean and worst. Nothing for other raw tensors (see `CosineComparison`)."""

    def __init__(self, head: Head) -> None:
        names = tensors_of(head)
        self._output = next(iter(names.values()))
        self._is_embedding = len(names) == 1 and (head.decoder == "embedding" or head.name == EMBEDDING)
        self._cosines: list[float] = []

    def add(self, reference: Instant, candidate: Instant) -> None:
        if self._is_embedding:
            pairs = zip(reference.rows_of(self._output), candidate.rows_of(self._output), strict=True)
            self._cosines += [cosine(one, other) for one, other in pairs]

    def findings(self) -> list[Finding]:
        if not self._is_embedding:
            return []
        values = self._cosines
        return [
            Finding("embedding_cosine_mean", float(np.mean(values)) if values else None, len(values)),
            Finding("embedding_cosine_worst", min(values, default=None), len(values)),
        ]


class CosineComparison:
    """Cosine of the tensors a head reads, whatever they mean: the mean over instants of the worst tensor."""

    def __init__(self, head: Head) -> None:
        self._cosines: dict[str, list[float]] = {name: [] for name in tensors_of(head).values()}

    def add(self, reference: Instant, candidate: Instant) -> None:
        for name, values in self._cosines.items():
            values.append(cosine(reference.rows_of(name), candidate.rows_of(name)))

    def by_output(self) -> dict[str, float]:
        """Mean over instants by graph output."""
        return {name: float(np.mean(values)) for name, values in self._cosines.items() if values}

    def findings(self) -> list[Finding]:
        means = self.by_output()
        worst = min(means, key=lambda name: means[name], default=None)
        return [Finding(COSINE, None if worst is None else means[worst], len(means), f"of {worst}")]
