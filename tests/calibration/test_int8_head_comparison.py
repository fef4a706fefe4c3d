"""Every metric of the gate against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.int8.findings import Finding, Instant
from calibration.int8.head_comparison import comparison_of
from calibration.metrics import cosine, kept
from runtime.inference.heads.specification import (
    ClassificationHead,
    ControlHead,
    DepthHead,
    Head,
    RawHead,
    SegmentationHead,
    Yolov8Head,
)

BOTH = np.ones(2, np.bool_)


def compare(head: Head, *pairs: tuple[np.ndarray, np.ndarray], present: np.ndarray = BOTH) -> dict[str, Finding]:
    """Findings by metric, over instants of FP32's and the candidate's tensor `t`."""
    comparison = comparison_of(head, 64, 96)
    for one, other in pairs:
        comparison.add(Instant({"t": one}, present), Instant({"t": other}, present))
    return {finding.metric: finding for finding in comparison.findings()}


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    """[2, 8, 6] final boxes (x1 y1 x2 y2 score class), all in the first camera."""
    out = np.zeros((2, 8, 6), np.float32)
    for place, row in enumerate(rows):
        out[0, place] = row
    return out


def detector(threshold: float = 0.3) -> Yolov8Head:
    fields = {"name": "found", "decoder": "yolov8", "form": "suppressed", "outputs": {"predictions": "t"}}
    return Yolov8Head.model_validate({**fields, "classes": ["car", "person"], "score_threshold": threshold})


FP32_BOXES = [
    (0.0, 0.0, 10.0, 10.0, 0.9, 0),
    (20.0, 0.0, 30.0, 10.0, 0.8, 0),
    (40.0, 0.0, 50.0, 10.0, 0.7, 0),
    (60.0, 0.0, 70.0, 10.0, 0.6, 1),
]


def test_a_detection_is_kept_by_class_place_and_score() -> None:
    candidate = boxes(
        (0, 0, 10, 7, 0.86, 0),  # IoU 0.7, score 0.04 lower: kept
        (20, 0, 30, 4, 0.8, 0),  # IoU 0.4: lost
        (40, 0, 50, 10, 0.64, 0),  # score 0.06 lower: lost
        (60, 0, 70, 10, 0.6, 0),  # another class: lost
    )
    found = compare(detector(), (boxes(*FP32_BOXES), candidate))
    assert found["kept_share"].value == 0.25
    assert found["kept_share"].count == 4
    assert (found["best_score"].fp32, found["best_score"].candidate) == (np.float32(0.9), np.float32(0.86))


def test_one_detection_keeps_one() -> None:
    twice = boxes((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.9, 0))
    assert compare(detector(), (twice, boxes((0, 0, 10, 10, 0.9, 0))))["kept_share"].value == 0.5


def test_a_detection_that_slips_below_the_threshold_by_less_than_the_tolerance_is_kept() -> None:
    one, other = boxes((0, 0, 10, 10, 0.32, 0)), boxes((0, 0, 10, 10, 0.28, 0))
    found = compare(detector(0.3), (one, other))
    assert found["kept_share"].value == 1.0
    assert found["kept_above_threshold"].value == 0.0
    assert compare(detector(0.3), (one, boxes((0, 0, 10, 10, 0.24, 0))))["kept_share"].value == 0.0


def test_map_counts_what_int8_invents_and_leaves_rare_classes_out() -> None:
    reference = boxes(*((20.0 * place, 0.0, 20.0 * place + 10.0, 10.0, 0.9, 0) for place in range(5)))
    invented = boxes(
        (0.0, 50.0, 10.0, 60.0, 0.95, 0),  # best of all, and false
        *((20.0 * place, 0.0, 20.0 * place + 10.0, 10.0, 0.9, 0) for place in range(5)),
        (0.0, 30.0, 10.0, 40.0, 0.9, 1),  # a class that FP32 never saw
    )
    found = compare(detector(), (reference, invented))
    # Precision 1/2, 2/3, 3/4, 4/5, 5/6 at rising recall; the envelope is 5/6 throughout.
    assert found["map50"].value == pytest.approx(5 / 6)
    assert found["kept_share"].value == 1.0
    assert compare(detector(), (boxes(*FP32_BOXES), boxes(*FP32_BOXES)))["map50"].value is None


def test_nothing_found_is_nothing_measured() -> None:
    assert compare(detector(), (boxes(), boxes()))["kept_share"].value is None


def test_cameras_without_a_frame_are_left_out() -> None:
    found = compare(detector(), (boxes(*FP32_BOXES), boxes()), present=np.array([False, True]))
    assert found["kept_share"].value is None


def test_groups_are_never_mixed() -> None:
    box = np.array([[0, 0, 10, 10]], np.float32)
    score = np.array([0.9], np.float32)
    same, other = np.array([1]), np.array([2])
    assert kept((same, score, box), (same, score, box)).tolist() == [True]
    assert kept((same, score, box), (other, score, box)).tolist() == [False]


def segmentation(**settings: object) -> SegmentationHead:
    fields = {"name": "road", "decoder": "segmentation", "outputs": {"mask": "t"}, "classes": ["lane", "road"]}
    return SegmentationHead.model_validate({**fields, **settings})


def test_segmentation_is_intersection_over_union_by_class() -> None:
    one, other = np.zeros((2, 2, 10, 10), np.float32), np.zeros((2, 2, 10, 10), np.float32)
    one[0, 0, :4], other[0, 0, 1:5] = 1.0, 1.0  # 30 of 50 pixels
    one[1, 1], other[1, 1] = 1.0, 0.9  # the same 100
    found = compare(segmentation(), (one, other))
    assert found["iou_lane"].value == pytest.approx(0.6)
    assert found["iou_road"].value == 1.0
    assert found["iou_mean"].value == pytest.approx(0.8)


def test_a_class_that_nobody_sees_has_no_value() -> None:
    one = np.zeros((2, 2, 10, 10), np.float32)
    one[:, 1] = 1.0
    found = compare(segmentation(), (one, one))
    assert found["iou_lane"].value is None
    assert found["iou_mean"].value == 1.0


def test_class_numbers_are_compared_like_scores() -> None:
    one, other = np.zeros((2, 4, 4), np.int64), np.zeros((2, 4, 4), np.int64)
    other[0, 0] = 1  # 4 of 32 pixels
    found = compare(segmentation(form="class_ids"), (one, other))
    assert found["iou_lane"].value == pytest.approx(28 / 32)
    assert found["iou_road"].value == 0.0


def control(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


CONTROL = ControlHead.model_validate({"name": "control", "decoder": "control", "outputs": {"control": "t"}})


def test_control_errors_are_shares_of_the_spread() -> None:
    accelerations = np.linspace(-2.0, 2.0, 101)
    pairs = [(control((value, 0.0)), control((value + 0.18, 0.001))) for value in accelerations]
    found = compare(CONTROL, *pairs)
    assert found["accel_error"].value == pytest.approx(0.18 / 3.6, rel=1e-4)  # the 5th to 95th percentile is 3.6 m/s²
    assert found["curvature_error"].value == pytest.approx(0.1, rel=1e-4)  # without a spread: of 0.01 1/m
    assert "lead_agreement" not in found


def test_the_vehicle_ahead_is_compared_where_both_see_it() -> None:
    one = [
        control((0, 0, 20.0, 0.9)),
        control((0, 0, 40.0, 0.9)),
        control((0, 0, 5.0, 0.1)),
        control((0, 0, 9.0, 0.52)),
    ]
    other = [
        control((0, 0, 21.0, 0.9)),
        control((0, 0, 40.0, 0.2)),
        control((0, 0, 9.0, 0.1)),
        control((0, 0, 9.0, 0.4)),
    ]
    found = compare(CONTROL, *zip(one, other, strict=True))
    assert found["lead_agreement"].value == pytest.approx(2 / 3)  # the last one was undecided
    assert found["lead_agreement"].count == 3
    assert found["lead_distance_error"].value == pytest.approx(0.05)  # 1 m of 20 m, of the first alone


def classification(**settings: object) -> ClassificationHead:
    fields = {"name": "weather", "decoder": "classification", "outputs": {"probabilities": "t"}}
    return ClassificationHead.model_validate({**fields, "classes": ["dry", "wet"], **settings})


def test_classes_agree_where_fp32_was_decided() -> None:
    one = [control((0.9, 0.1)), control((0.2, 0.8)), control((0.52, 0.48))]
    other = [control((0.7, 0.3)), control((0.6, 0.4)), control((0.4, 0.6))]
    found = compare(classification(), *zip(one, other, strict=True))
    assert found["agreement"].value == 0.5
    assert found["agreement"].count == 2


def test_logits_and_yes_or_no_are_probabilities_first() -> None:
    logits = [(control((2.0, 2.05)), control((2.05, 2.0)))]  # 0.4875 and 0.5125: undecided
    assert compare(classification(activation="softmax"), *logits)["agreement"].value is None
    yes = [(control((0.9,)), control((0.4,))), (control((0.2,)), control((0.3,)))]
    assert compare(classification(classes=["wiper"]), *yes)["agreement"].value == 0.5


def test_depth_is_a_relative_error_and_a_lost_pixel_is_wholly_wrong() -> None:
    head = DepthHead.model_validate({"name": "depth", "decoder": "depth", "outputs": {"depth": "t"}, "max_m": 100})
    one, other = np.full((2, 1, 1, 2), 20.0, np.float32), np.full((2, 1, 1, 2), 20.0, np.float32)
    other[0, 0, 0] = 22.0, 18.0  # 10 % each
    other[1, 0, 0, 0] = 150.0  # beyond what is known
    one[1, 0, 0, 1] = -1.0  # unknown to FP32: not compared
    found = compare(head, (one, other))
    assert found["relative_error"].value == pytest.approx((0.1 + 0.1 + 1.0) / 3)
    assert found["relative_error"].count == 3


def test_inverse_depth_is_compared_in_metres() -> None:
    fields = {"name": "depth", "decoder": "depth", "outputs": {"depth": "t"}, "quantity": "inverse_metres"}
    one, other = np.full((2, 1, 1, 1), 0.1, np.float32), np.full((2, 1, 1, 1), 0.08, np.float32)
    assert compare(DepthHead.model_validate(fields), (one, other))["relative_error"].value == pytest.approx(0.25)


def test_an_embedding_is_compared_row_by_row() -> None:
    head = RawHead.model_validate({"name": "embedding", "decoder": "raw", "outputs": {"embedding": "t"}})
    one, other = control((1, 0), (0, 2)), control((3, 0), (1.5, 2))
    found = compare(head, (one, other))
    assert found["embedding_cosine_worst"].value == pytest.approx(0.8)
    assert found["embedding_cosine_mean"].value == pytest.approx(0.9)


def test_a_raw_tensor_has_no_metric_of_its_own() -> None:
    head = RawHead.model_validate({"name": "extra", "decoder": "raw", "outputs": {"tensor": "t"}})
    assert compare(head, (control((1, 0), (0, 1)), control((1, 0), (0, 1)))) == {}


def test_cosine_of_nothing_with_nothing_is_one() -> None:
    assert cosine(np.zeros(3), np.zeros(3)) == 1.0
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
    assert cosine(np.array([1.0, 0.0]), np.array([-2.0, 0.0])) == -1.0
