from __future__ import annotations

import numpy as np
import pytest

from runtime.inference.heads import DECODERS, build_decoder
from runtime.inference.heads.decoder import BatchLayout, HeadResult
from runtime.inference.heads.selection import MAX_CANDIDATES_PER_ROW
from runtime.inference.heads.specification import (
    ClassificationHead,
    ControlHead,
    DepthHead,
    Head,
    HydraDetectionsHead,
    RawHead,
    SegmentationHead,
    Yolov8Head,
    YoloxHead,
)
from runtime.inference.heads.yolox import grid_cells

_HEADS = (
    HydraDetectionsHead,
    YoloxHead,
    Yolov8Head,
    ControlHead,
    SegmentationHead,
    ClassificationHead,
    DepthHead,
    RawHead,
)
ROWS = 2
LAYOUT = BatchLayout(ROWS, 64, 96, {"left": 0, "right": 1})
ALL = np.ones(ROWS, np.bool_)


def _decode(head: Head, present: np.ndarray = ALL, **tensors: np.ndarray) -> HeadResult:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return build_decoder(head, shapes, LAYOUT).decode(tensors, present)


def _hydra(**settings: object) -> HydraDetectionsHead:
    outputs = {"heatmap": "heatmap", "box": "box", "state": "state"}
    fields = {"name": "detections", "decoder": "hydra_detections", "outputs": outputs, "classes": ["car", "light"]}
    states = {"light": ["red", "green"]}
    return HydraDetectionsHead.model_validate({**fields, "states": states, "score_threshold": 0.3, **settings})


def _hydra_tensors() -> dict[str, np.ndarray]:
    shape = (8, 12)  # cells of 8x8 pixels
    return {
        "heatmap": np.zeros((ROWS, 2, *shape), np.float32),
        "box": np.zeros((ROWS, 4, *shape), np.float32),
        "state": np.zeros((ROWS, 2, *shape), np.float32),
    }


def test_hydra_decodes_a_peak_into_its_box_class_and_row() -> None:
    tensors = _hydra_tensors()
    tensors["heatmap"][1, 0, 3, 5] = 0.9
    tensors["box"][1, :, 3, 5] = (0.5, 0.25, 2.0, 1.0)
    found = _decode(_hydra(), **tensors).detections
    assert found is not None
    assert (found.row.tolist(), found.class_id.tolist()) == ([1], [0])
    np.testing.assert_allclose(found.box_px, [[44.0 - 8.0, 26.0 - 4.0, 44.0 + 8.0, 26.0 + 4.0]])
    assert found.score[0] == np.float32(0.9)
    assert found.state == [None]


def test_hydra_keeps_only_the_highest_of_neighbouring_cells() -> None:
    tensors = _hydra_tensors()
    tensors["box"][:, 2:] = 0.1
    tensors["heatmap"][0, 0, 2:5, 2:5] = 0.5
    tensors["heatmap"][0, 0, 3, 3] = 0.8
    tensors["heatmap"][0, 0, 0, 0] = 0.7  # at the border, alone
    found = _decode(_hydra(), **tensors).detections
    assert found is not None
    np.testing.assert_allclose(sorted(found.score.tolist()), [0.7, 0.8], rtol=1e-6)


def test_hydra_tells_a_state_only_when_it_is_likely_and_only_for_its_class() -> None:
    tensors = _hydra_tensors()
    tensors["box"][:, 2:] = 0.5
    for x, probabilities in ((1, (0.9, 0.1)), (5, (0.45, 0.4)), (9, (0.2, 0.8))):
        tensors["heatmap"][0, 1, 2, x] = 0.6 + x / 100
        tensors["state"][0, :, 2, x] = probabilities
    tensors["heatmap"][0, 0, 6, 6] = 0.99
    tensors["state"][0, :, 6, 6] = (1.0, 0.0)
    found = _decode(_hydra(), **tensors).detections
    assert found is not None
    assert found.state == [None, "green", None, "red"]  # by falling score: the car, then the lights at 9, 5, 1


def test_hydra_suppresses_the_weaker_of_two_boxes_on_one_object() -> None:
    tensors = _hydra_tensors()
    tensors["box"][:, 2:] = 6.0
    tensors["heatmap"][0, 0, 3, 4], tensors["heatmap"][0, 0, 3, 6] = 0.9, 0.8
    assert len(_decode(_hydra(iou_threshold=0.4), **tensors).detections or ()) == 1
    assert len(_decode(_hydra(iou_threshold=0.6), **tensors).detections or ()) == 2


def test_a_row_without_a_frame_gives_no_detections() -> None:
    tensors = _hydra_tensors()
    tensors["heatmap"][:, 0, 3, 5] = 0.9
    tensors["box"][:, 2:] = 1.0
    found = _decode(_hydra(), np.array([True, False]), **tensors).detections
    assert found is not None
    assert found.row.tolist() == [0]


def test_a_network_that_fires_everywhere_is_bounded() -> None:
    tensors = _hydra_tensors()
    tensors["heatmap"][:] = 0.9  # a plateau: every cell is a peak
    tensors["box"][:, 2:] = 0.2
    found = _decode(_hydra(max_per_camera=7), **tensors).detections
    assert found is not None
    assert np.bincount(found.row).tolist() == [7, 7]
    assert MAX_CANDIDATES_PER_ROW < 8 * 12 * 2 * 10


def _yolox(**settings: object) -> YoloxHead:
    fields = {"name": "detections", "decoder": "yolox", "outputs": {"predictions": "out"}, "classes": ["a", "b"]}
    return YoloxHead.model_validate({**fields, "score_threshold": 0.2, **settings})


def _yolox_cells() -> np.ndarray:
    cells = sum((96 // stride) * (64 // stride) for stride in (8, 16, 32))
    return np.zeros((ROWS, cells, 7), np.float32)


def test_yolox_cells_run_by_stride_then_row_then_column() -> None:
    cell, stride = grid_cells(96, 64, (8, 16, 32))
    assert stride.tolist() == [8.0] * 96 + [16.0] * 24 + [32.0] * 6
    assert cell[13].tolist() == [1.0, 1.0]
    assert cell[96 + 7].tolist() == [1.0, 1.0]


def test_yolox_decodes_centre_size_and_score() -> None:
    out = _yolox_cells()
    out[1, 96 + 7] = (0.5, 0.25, np.log(2.0), np.log(0.5), 0.8, 0.1, 0.5)
    found = _decode(_yolox(), out=out).detections
    assert found is not None
    np.testing.assert_allclose(found.box_px, [[24 - 16, 20 - 4, 24 + 16, 20 + 4]], rtol=1e-5)
    assert (found.row.tolist(), found.class_id.tolist()) == ([1], [1])
    np.testing.assert_allclose(found.score, [0.4], rtol=1e-6)


def test_yolox_suppresses_by_class() -> None:
    out = _yolox_cells()
    out[0, 20] = (0.0, 0.0, 2.0, 2.0, 0.9, 0.9, 0.0)
    out[0, 21] = (0.0, 0.0, 2.0, 2.0, 0.8, 0.9, 0.0)  # the same object and class
    out[0, 32] = (0.0, 0.0, 2.0, 2.0, 0.7, 0.0, 0.9)  # another class
    found = _decode(_yolox(iou_threshold=0.5), out=out).detections
    assert found is not None
    assert found.class_id.tolist() == [0, 1]


def test_yolox_survives_values_that_are_not_finite() -> None:
    out = _yolox_cells()
    out[0, 5] = (0.0, 0.0, 1000.0, np.nan, 0.9, 0.9, 0.0)
    out[0, 50] = np.nan
    found = _decode(_yolox(), out=out).detections
    assert found is not None
    assert np.isfinite(found.score).all()


def _control(**settings: object) -> ControlHead:
    fields = {"name": "control", "decoder": "control", "outputs": {"control": "control"}}
    return ControlHead.model_validate({**fields, **settings})


def test_control_tells_the_lead_only_when_it_is_likely() -> None:
    seen = _decode(_control(), control=np.array([[0.5, -0.01, 22.0, 0.9]], np.float32))
    assert seen.control is not None
    assert (seen.control.accel_mps2, seen.lead_distance_m) == (0.5, 22.0)
    assert seen.control.curvature_1pm == pytest.approx(-0.01)
    assert seen.scalars["lead_probability"] == pytest.approx(0.9)
    unseen = _decode(_control(), control=np.array([[0.5, -0.01, 22.0, 0.1]], np.float32))
    assert unseen.lead_distance_m is None


def test_control_is_unknown_without_frames_and_where_not_finite() -> None:
    control = np.array([[np.nan, 0.02]], np.float32)
    assert _decode(_control(), np.zeros(ROWS, np.bool_), control=control).control is None
    known = _decode(_control(), control=control).control
    assert known is not None
    assert known.accel_mps2 is None
    assert known.curvature_1pm == pytest.approx(0.02)


def test_control_per_camera_speaks_for_the_named_camera() -> None:
    control = np.array([[1.0, 0.0], [2.0, 0.0]], np.float32)
    right = _control(camera="right")
    spoken = _decode(right, control=control).control
    assert spoken is not None
    assert spoken.accel_mps2 == 2.0
    assert _decode(right, np.array([True, False]), control=control).control is None


def _segmentation(**settings: object) -> SegmentationHead:
    fields = {"name": "road", "decoder": "segmentation", "outputs": {"mask": "mask"}, "classes": ["lane", "drivable"]}
    return SegmentationHead.model_validate({**fields, **settings})


def test_segmentation_publishes_fractions_of_the_cameras_that_delivered() -> None:
    mask = np.zeros((ROWS, 2, 10, 10), np.float32)
    mask[0, 1, :5] = 0.9
    mask[1, 1] = 1.0
    both = _decode(_segmentation(), mask=mask)
    assert both.scalars == {"lane_fraction": 0.0, "drivable_fraction": 0.75}
    assert both.arrays["road"] is mask
    one = _decode(_segmentation(), np.array([True, False]), mask=mask)
    assert one.scalars["drivable_fraction"] == 0.5
    assert _decode(_segmentation(), np.zeros(ROWS, np.bool_), mask=mask).scalars == {}


def test_segmentation_of_exclusive_classes_counts_the_highest() -> None:
    mask = np.zeros((ROWS, 2, 10, 10), np.float32)
    mask[:, 0] = -1.0
    mask[:, 1, :, :3] = -2.0
    scalars = _decode(_segmentation(exclusive=True, publish=["drivable"]), mask=mask).scalars
    assert scalars == {"drivable_fraction": 0.7}


def test_segmentation_of_logits_cuts_at_zero() -> None:
    mask = np.full((ROWS, 2, 10, 10), 0.2, np.float32)
    assert _decode(_segmentation(activation="sigmoid"), mask=mask).scalars["lane_fraction"] == 1.0
    assert _decode(_segmentation(), mask=mask).scalars["lane_fraction"] == 0.0


def _classification(classes: list[str], **settings: object) -> ClassificationHead:
    fields = {"name": "weather", "decoder": "classification", "outputs": {"probabilities": "out"}, "classes": classes}
    return ClassificationHead.model_validate({**fields, **settings})


def test_classification_names_the_top_class_and_every_probability() -> None:
    scalars = _decode(_classification(["clear", "rain"]), out=np.array([[0.25, 0.75]], np.float32)).scalars
    assert scalars == {
        "weather": "rain",
        "weather_clear_probability": 0.25,
        "weather_rain_probability": 0.75,
        "weather_entropy": 0.8113,  # of 1/4 and 3/4, in bits: two classes
        "weather_margin": 0.5,
    }


def test_classification_with_one_class_is_a_yes_or_no() -> None:
    scalars = _decode(_classification(["wiper"]), out=np.array([[0.75]], np.float32)).scalars
    assert scalars == {
        "weather": True, "weather_probability": 0.75, "weather_entropy": 0.8113, "weather_margin": 0.5,
    }  # fmt: skip


def test_classification_of_logits_gives_probabilities() -> None:
    head = _classification(["clear", "rain"], activation="softmax")
    scalars = _decode(head, out=np.array([[1000.0, 1000.0]], np.float32)).scalars
    assert scalars["weather_rain_probability"] == pytest.approx(0.5)


def test_classification_says_nothing_without_frames_or_with_broken_scores() -> None:
    head = _classification(["clear", "rain"])
    out = np.array([[0.25, 0.75]], np.float32)
    assert _decode(head, np.zeros(ROWS, np.bool_), out=out).scalars == {}
    assert _decode(head, out=np.array([[np.nan, 0.75]], np.float32)).scalars == {}


def test_raw_tensors_are_handed_on_uncopied() -> None:
    tensor = np.zeros((ROWS, 64), np.float32)
    single = RawHead.model_validate({"name": "embedding", "decoder": "embedding", "outputs": {"embedding": "t"}})
    assert _decode(single, t=tensor).arrays["embedding"] is tensor
    double = RawHead.model_validate({"name": "extra", "decoder": "raw", "outputs": {"a": "t", "b": "u"}})
    assert set(_decode(double, t=tensor, u=tensor).arrays) == {"extra.a", "extra.b"}


def test_every_decoder_name_has_a_specification() -> None:
    known = {
        name
        for model in _HEADS
        for name in model.model_json_schema()["properties"]["decoder"].get(
            "enum", [model.model_json_schema()["properties"]["decoder"].get("const")]
        )
    }
    assert known == set(DECODERS)
