from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from runtime.formats.documents import DocumentError
from runtime.inference.bundle import load_bundle
from runtime.inference.heads import build_decoder, check_head
from runtime.inference.heads.decoder import BatchLayout, BundleFitError, RowDetections
from runtime.inference.heads.specification import Yolov8Head
from runtime.inference.heads.yolov8 import form_of
from runtime.inference.model_import import import_model
from runtime.inference.network import Network
from tests.runtime.inference.tiny_networks import fixed_network, frameset_of, noise

ROWS, CANDIDATES = 2, 40
LAYOUT = BatchLayout(ROWS, 64, 96, {"left": 0, "right": 1})
ALL = np.ones(ROWS, np.bool_)


def head(**settings: object) -> Yolov8Head:
    fields = {"name": "detections", "decoder": "yolov8", "outputs": {"predictions": "out"}, "classes": ["a", "b", "c"]}
    return Yolov8Head.model_validate({**fields, "score_threshold": 0.2, **settings})


def decode(of: Yolov8Head, out: np.ndarray, present: np.ndarray = ALL) -> RowDetections:
    decoder = build_decoder(of, {"out": out.shape}, LAYOUT)
    found = decoder.decode({"out": out}, present).detections
    assert found is not None
    return found


def predictions() -> np.ndarray:
    """[B, 4 + classes, N] with one object in each row, and a weak second in row 0."""
    out = np.zeros((ROWS, 7, CANDIDATES), np.float32)
    out[0, :, 3] = (40.0, 30.0, 20.0, 10.0, 0.1, 0.8, 0.3)
    out[0, :, 4] = (41.0, 30.0, 20.0, 10.0, 0.0, 0.6, 0.0)  # the same object and class
    out[0, :, 5] = (40.0, 30.0, 20.0, 10.0, 0.5, 0.0, 0.0)  # another class at the same place
    out[1, :, 9] = (10.0, 10.0, 4.0, 6.0, 0.0, 0.0, 0.9)
    out[1, :, 8] = (50.0, 50.0, 4.0, 6.0, 0.19, 0.1, 0.0)  # below the threshold
    return out


def test_boxes_are_centres_and_sizes_in_pixels_and_suppressed_by_class() -> None:
    found = decode(head(), predictions())
    assert found.row.tolist() == [0, 0, 1]
    assert found.class_id.tolist() == [1, 0, 2]
    np.testing.assert_allclose(found.score, [0.8, 0.5, 0.9], rtol=1e-6)
    np.testing.assert_allclose(found.box_px, [[30, 25, 50, 35], [30, 25, 50, 35], [8, 7, 12, 13]])
    assert found.state == [None] * 3


def test_the_transposed_form_says_the_same() -> None:
    first = decode(head(), predictions())
    last = decode(head(form="channels_last"), np.ascontiguousarray(predictions().transpose(0, 2, 1)))
    assert last.class_id.tolist() == first.class_id.tolist()
    np.testing.assert_array_equal(last.box_px, first.box_px)


def test_logits_become_probabilities_and_meet_the_same_threshold() -> None:
    out = predictions()
    with np.errstate(divide="ignore"):
        out[:, 4:] = np.log(out[:, 4:] / (1.0 - out[:, 4:]))  # zeros become minus infinity
    found = decode(head(activation="sigmoid"), out)
    np.testing.assert_allclose(found.score, [0.8, 0.5, 0.9], rtol=1e-5)
    assert found.class_id.tolist() == [1, 0, 2]


def test_a_decoder_gives_each_tick_its_own_result() -> None:
    decoder = build_decoder(head(), {"out": predictions().shape}, LAYOUT)
    first = decoder.decode({"out": predictions()}, ALL).detections
    decoder.decode({"out": np.zeros_like(predictions())}, ALL)
    assert first is not None
    np.testing.assert_allclose(first.score, [0.8, 0.5, 0.9], rtol=1e-6)


def test_rows_without_a_frame_and_values_that_are_not_finite_give_nothing() -> None:
    out = predictions()
    out[0, :, 20] = np.nan
    found = decode(head(), out, np.array([True, False]))
    assert set(found.row.tolist()) == {0}
    assert np.isfinite(found.score).all()
    assert len(decode(head(), np.full_like(out, np.nan))) == 0


def test_a_network_that_fires_everywhere_is_bounded() -> None:
    out = np.zeros((ROWS, 7, 2000), np.float32)
    out[:, 0], out[:, 2:4], out[:, 4] = np.arange(2000) * 10.0, 2.0, 0.9
    assert np.bincount(decode(head(max_per_camera=7), out).row).tolist() == [7, 7]


def suppressed() -> np.ndarray:
    out = np.zeros((ROWS, 10, 6), np.float32)
    out[0, 0] = (30, 25, 50, 35, 0.8, 1)
    out[0, 1] = (30, 25, 50, 35, 0.7, 1)  # final: it is not suppressed again
    out[0, 2] = (0, 0, 9, 9, 0.9, 3)  # a class that does not exist
    out[1, 0] = (8, 7, 12, 13, 0.3, 2)
    out[1, 1] = (8, 7, 12, 13, 0.1, 2)  # below the threshold
    return out


def test_final_boxes_are_taken_as_they_are() -> None:
    found = decode(head(form="suppressed"), suppressed())
    assert (found.row.tolist(), found.class_id.tolist()) == ([0, 0, 1], [1, 1, 2])
    np.testing.assert_allclose(found.box_px[2], [8, 7, 12, 13])
    assert decode(head(form="suppressed", max_per_camera=1), suppressed()).score.tolist() == pytest.approx([0.8, 0.3])
    assert len(decode(head(form="suppressed"), np.full_like(suppressed(), np.nan))) == 0


@pytest.mark.parametrize(
    ("settings", "shape", "words"),
    [
        ({}, (2, 8400, 7), ["write form: channels_last", "4 of a box + 3 classes"]),
        ({"form": "channels_last"}, (2, 7, 8400), ["write form: channels_first"]),
        ({}, (2, 300, 6), ["write form: suppressed"]),
        ({}, (2, 8, 8400), ["objectness", "decoder: yolox"]),
        ({}, (2, 84, 8400), ["list as many classes", "[2, 84, 8400]"]),
        ({"form": "suppressed"}, (2, 7), ["[2, ?, 6]"]),
    ],
)
def test_each_misfit_is_told_with_what_to_write(
    settings: dict[str, object], shape: tuple[int, ...], words: list[str]
) -> None:
    (fault,) = check_head(head(**settings), {"out": shape}, LAYOUT)
    assert fault.output == "predictions"
    for word in words:
        assert word in f"{fault.message} {fault.fix}"


def test_a_fitting_tensor_has_no_fault() -> None:
    assert check_head(head(), {"out": (2, 7, None)}, LAYOUT) == []
    assert check_head(head(form="suppressed"), {"out": (2, 300, 6)}, LAYOUT) == []


def test_the_form_is_seen_in_the_shape() -> None:
    shapes = {(1, 84, 8400): "channels_first", (1, 8400, 84): "channels_last", (1, 300, 6): "suppressed"}
    shapes |= {(1, 6, 8400): "channels_first", (1, 8400, 6): "channels_last", (1, 8400): None, (1, 4, 100): None}
    assert {shape: form_of(shape) for shape in shapes} == shapes


def imported(tmp_path: Path, out: np.ndarray, labels: list[str] | None = None, names: str | None = None) -> Path:
    source = tmp_path / "det.onnx"
    model = fixed_network({"out": out}, [1, 3, 64, 96])
    if names is not None:
        onnx.helper.set_model_props(model, {"names": names})
    source.write_bytes(model.SerializeToString())
    return import_model(source, "yolov8", tmp_path / "bundle", labels=labels)


def test_an_export_is_recognised_and_runs(tmp_path: Path) -> None:
    out = np.zeros((1, 84, 126), np.float32)
    out[0, :4, 7], out[0, 4 + 2, 7] = (40, 30, 20, 10), 0.9
    directory = imported(tmp_path, out)
    images = load_bundle(directory).manifest.images
    assert (images.color, images.resize, images.scale) == ("rgb", "letterbox", pytest.approx(1 / 255))
    prediction = Network.open(directory, ["camera_0"]).predict(frameset_of(noise(1, 0, 64, 96)), None, None)
    assert [prediction.class_names[index] for index in prediction.detections.class_id] == ["car"]
    assert prediction.scalars["detection_entropy"] == pytest.approx(0.469, abs=1e-3)  # of 0.9, in bits


def test_logits_that_are_read_as_probabilities_are_refused_with_the_fix(tmp_path: Path) -> None:
    out = np.full((1, 84, 126), -7.0, np.float32)
    out[0, :4] = 10.0
    with pytest.raises(
        (DocumentError, BundleFitError), match=r"head 'detections': scores are -7 to 0 .*activation: sigm"
    ):
        Network.open(imported(tmp_path, out), ["camera_0"])


def test_an_export_with_suppression_inside_needs_its_labels(tmp_path: Path) -> None:
    out = np.zeros((1, 300, 6), np.float32)
    out[0, 0] = (30, 25, 50, 35, 0.8, 1)
    with pytest.raises(DocumentError, match="give their labels"):
        imported(tmp_path, out)
    directory = imported(tmp_path, out, ["cat", "dog"])
    prediction = Network.open(directory, ["camera_0"]).predict(frameset_of(noise(1, 0, 64, 96)), None, None)
    assert [prediction.class_names[index] for index in prediction.detections.class_id] == ["dog"]


def test_what_is_no_such_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="choose another decoder"):
        imported(tmp_path, np.zeros((1, 10), np.float32))
    with pytest.raises(DocumentError, match="not COCO's 80"):
        imported(tmp_path, np.zeros((1, 7, 126), np.float32))


def test_class_names_that_the_exporter_noted_are_used(tmp_path: Path) -> None:
    directory = imported(tmp_path, np.zeros((1, 300, 6), np.float32), names="{0: 'cat', 1: 'dog'}")
    assert load_bundle(directory).manifest.heads[0].classes == ("cat", "dog")  # type: ignore[union-attr]
    directory = imported(tmp_path, np.zeros((1, 300, 6), np.float32), ["bird"], names="{0: 'cat', 1: 'dog'}")
    assert load_bundle(directory).manifest.heads[0].classes == ("bird",)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "names", ["{0: 'cat', 2: 'dog'}", "{0: 'cat'", "[1]", "{0: 'cat', 1: 'cat'}", "{'a': 'cat'}", "{}"]
)
def test_notes_that_are_no_class_names_are_left_alone(tmp_path: Path, names: str) -> None:
    with pytest.raises(DocumentError, match="give their labels"):
        imported(tmp_path, np.zeros((1, 300, 6), np.float32), names=names)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("form", ["channels_first", "channels_last", "suppressed"])
def test_a_box_that_is_not_finite_is_no_detection(form: str, broken: float) -> None:
    out = predictions()
    out[0, 0, 3] = broken  # the best object's centre
    out[0, 2, 3] = broken
    if form == "channels_last":
        out = np.ascontiguousarray(out.transpose(0, 2, 1))
    if form == "suppressed":
        out = np.zeros((ROWS, 3, 6), np.float32)
        out[0, 0] = (broken, 1.0, broken, 9.0, 0.9, 0.0)
        out[0, 1] = (1.0, 1.0, 9.0, 9.0, 0.8, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        found = decode(head(form=form), out)
    assert np.isfinite(found.box_px).all()
    assert len(found)
