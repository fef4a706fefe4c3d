"""Two candidates on one tick: what both see, what only one sees, and by how much their actions differ."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.messages import Action, Comparison, Detections, Prediction
from runtime.shadow.candidates import CandidateComparator, second_names

CLASSES = ("car", "pedestrian")


def _seen(
    *objects: tuple[int, str, tuple[float, float, float, float]], classes: tuple[str, ...] = CLASSES
) -> Prediction:
    """A prediction of objects: camera, class and box."""
    detections = Detections(
        camera=np.array([camera for camera, _, _ in objects], np.int32),
        class_id=np.array([classes.index(name) for _, name, _ in objects], np.int32),
        score=np.ones(len(objects), np.float32),
        box_px=np.array([box for _, _, box in objects], np.float32).reshape(-1, 4),
    )
    return Prediction(0, detections, classes)


def _compared(first: Prediction, second: Prediction, **values: float) -> dict[str, float]:
    """`a_x` and `b_x` are the shadow values of the first and the second."""
    one = {f"shadow.{name[2:]}": value for name, value in values.items() if name.startswith("a_")}
    other = {f"shadow.{name[2:]}": value for name, value in values.items() if name.startswith("b_")}
    comparator = CandidateComparator(first.class_names, second.class_names)
    comparisons = (Comparison(0, Action(), Action(), each) for each in (one, other))
    return comparator.compare(first, second, *comparisons, speed_mps=values.get("speed_mps"))


BOX = (10.0, 10.0, 50.0, 50.0)
NEARLY = (12.0, 10.0, 52.0, 50.0)
FAR = (200.0, 10.0, 240.0, 50.0)


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ([(0, "car", BOX)], [(0, "car", NEARLY)], (1, 0, 0)),
        ([(0, "car", BOX)], [(0, "car", FAR)], (0, 1, 1)),
        ([(0, "car", BOX)], [(1, "car", BOX)], (0, 1, 1)),
        ([(0, "car", BOX)], [(0, "pedestrian", BOX)], (0, 1, 1)),
        ([(0, "car", BOX), (0, "car", FAR)], [], (0, 2, 0)),
        ([], [(0, "car", BOX)], (0, 0, 1)),
        ([], [], (0, 0, 0)),
        ([(0, "car", BOX)], [(0, "car", BOX), (0, "car", NEARLY)], (1, 0, 1)),  # one object cannot be found twice
    ],
)
def test_objects_are_kept_lost_or_extra(first: list, second: list, counts: tuple[int, int, int]) -> None:
    values = _compared(_seen(*first), _seen(*second))
    assert tuple(values[f"ab.{name}_count"] for name in ("kept", "lost", "extra")) == counts


def test_classes_are_compared_by_name_and_those_of_one_network_alone_are_left_out() -> None:
    first = _seen((0, "car", BOX), (0, "pedestrian", FAR))
    second = _seen((0, "car", BOX), (0, "dog", FAR), classes=("dog", "car"))
    values = _compared(first, second)
    assert [values[f"ab.{name}_count"] for name in ("kept", "lost", "extra")] == [1, 0, 0]


def test_differences_are_first_minus_second_and_what_one_side_does_not_know_is_left_out() -> None:
    values = _compared(_seen(), _seen(), a_accel_mps2=1.0, b_accel_mps2=-2.0, a_lead_distance_m=30.0)
    assert values["ab.accel_mps2"] == 3.0
    assert "ab.lead_distance_m" not in values
    curved = _compared(_seen(), _seen(), a_curvature_1pm=0.01, b_curvature_1pm=0.0, speed_mps=10.0)
    assert curved["ab.lateral_accel_mps2"] == pytest.approx(1.0)


def test_the_second_candidates_values_have_names_of_their_own() -> None:
    assert second_names({"shadow.accel_mps2": 1.0, "diff.accel_mps2": 2.0}) == {
        "shadow_b.accel_mps2": 1.0,
        "diff_b.accel_mps2": 2.0,
    }
