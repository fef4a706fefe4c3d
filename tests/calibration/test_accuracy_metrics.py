from __future__ import annotations

import numpy as np
import pytest

from calibration.metrics import AbsoluteError, AveragePrecision, Overlap

TRUTH = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
SEEN = np.zeros(2, bool)


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_finding_everything_and_nothing_else_is_one() -> None:
    precision = AveragePrecision()
    precision.add(scores(0.9, 0.8), TRUTH, TRUTH, SEEN)
    assert precision.value() == 1.0


def test_a_false_detection_above_the_hits_costs_precision() -> None:
    precision = AveragePrecision()
    boxes = np.concatenate([[[100, 100, 110, 110]], TRUTH]).astype(np.float32)
    precision.add(scores(0.9, 0.8, 0.7), boxes, TRUTH, SEEN)
    # Recall 0.5 at precision 1/2 and recall 1 at 2/3; the envelope is 2/3 throughout.
    assert precision.value() == pytest.approx(2 / 3)


def test_an_object_found_twice_counts_once() -> None:
    precision = AveragePrecision()
    precision.add(scores(0.9, 0.8), TRUTH[[0, 0]], TRUTH[:1], SEEN[:1])
    assert precision.hits == [True, False]


def test_ignored_objects_neither_count_nor_punish() -> None:
    precision = AveragePrecision()
    precision.add(scores(0.9, 0.8), TRUTH, TRUTH, np.array([False, True]))
    assert precision.objects == 1
    assert precision.value() == 1.0


def test_a_class_that_never_occurs_has_no_score() -> None:
    assert np.isnan(AveragePrecision().value())


def test_overlap_is_over_the_whole_set() -> None:
    overlap = Overlap()
    overlap.add(np.array([True, True, False]), np.array([True, False, False]))
    overlap.add(np.array([True]), np.array([True]))
    assert overlap.value() == pytest.approx(2 / 3)


def test_points_are_per_cent_of_the_spread_of_truth() -> None:
    error = AbsoluteError()
    for truth in range(101):
        error.add(truth + 9.0, truth)
    assert error.value() == pytest.approx(9.0)
    assert error.percent() == pytest.approx(10.0)
