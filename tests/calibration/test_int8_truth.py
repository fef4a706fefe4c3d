"""A drive with truth, made by hand: two cameras, of which one has true objects, and a car that should accelerate."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tiny_drive import write_tiny_drive
from video_samples import encode, scenes

from calibration.int8.findings import Instant
from calibration.int8.gate import AccuracyGate, GateResult
from calibration.int8.sampling import from_arrays
from calibration.int8.truth import TrueMoment, TrueObjects, TruthScore, losses, read_truth, time_of
from runtime.cli import main
from runtime.formats.mcap_files import McapTopicWriter
from runtime.formats.topics import ChannelSpec
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.heads.specification import ControlHead, Yolov8Head

START_NS = 5_000_000_000
PERIOD_NS = 50_000_000
FRAMES = 40
HEIGHT, WIDTH = 64, 96  # of the network; the cameras have 320x240
ROWS = 3  # one more than there are cameras
SEEN_BOX = (30.0, 20.0, 60.0, 40.0)  # network pixels
SEEN_IN_CAMERA = [100.0, 75.0, 200.0, 150.0]


def write_drive(path: Path) -> Path:
    ego = ChannelSpec("/truth/ego", "shadowrig.TruthEgo", "jsonschema", b"{}", "json")
    with McapTopicWriter(path) as writer:
        writer.metadata("synthetic", {"weather": "rain"})
        for camera in ("front", "rear"):
            for packet in encode(scenes(FRAMES), camera, start_ns=START_NS, period_ns=PERIOD_NS):
                writer.packet(packet)
        for frame in range(FRAMES):
            time_ns = START_NS + frame * PERIOD_NS
            small = {"class_name": "car", "box_px": [0.0, 0.0, 5.0, 5.0], "visible_fraction": 1.0}
            objects = [{"class_name": "car", "box_px": SEEN_IN_CAMERA, "visible_fraction": 0.9, "frame": frame}, small]
            writer.truth_objects("front", objects, time_ns, frame)
            values = {"target_accel_mps2": frame / 10, "target_curvature_1pm": 0.0, "lead_distance_m": 20.0}
            writer.write(ego, json.dumps(values).encode(), time_ns)
    return path


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("truth") / "drive.mcap")


def says(score: float = 0.9, accel: float = 0.0, lead_m: float = 20.0, rainy: float = 0.8) -> ModelProto:
    """A network that says the same whatever it sees: a car in the first camera, an action, the weather."""
    found = np.zeros((ROWS, 4, 6), np.float32)
    found[0, 0] = (*SEEN_BOX, score, 0)
    values = {
        "found": found,
        "control": np.array([[accel, 0.0, lead_m]], np.float32),
        "weather": np.array([[1 - rainy, rainy]], np.float32),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)) for name, value in values.items()
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [ROWS, 3, HEIGHT, WIDTH])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in values.items()]
    graph = helper.make_graph(nodes, "fixed", [images], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


HEADS = [
    {"name": "found", "decoder": "yolov8", "form": "suppressed", "outputs": {"predictions": "found"}},
    {"name": "control", "decoder": "control", "outputs": {"control": "control"}},
    {"name": "weather", "decoder": "classification", "outputs": {"probabilities": "weather"}},
]


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    folder = tmp_path / "bundle"
    folder.mkdir()
    content = says().SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    heads = [{**HEADS[0], "classes": ["car", "person"]}, HEADS[1], {**HEADS[2], "classes": ["clear", "rain"]}]
    manifest = {
        "name": "fixed",
        "version": "1",
        "licence": "Apache-2.0",
        "source": "made by a test",
        "inputs": [{"name": "images", "kind": "images", "shape": [ROWS, 3, HEIGHT, WIDTH], "dtype": "uint8"}],
        "heads": heads,
        "files": {"fp32": {"path": "model.onnx", "sha256": hashlib.sha256(content).hexdigest()}},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return load_bundle(folder)


def test_truth_is_that_of_the_frame_that_is_shown(bundle: ModelBundle, drive: Path) -> None:
    samples, moments = read_truth(bundle.manifest, drive, seed=0)
    assert len(samples) == len(moments) > 10
    for sample, moment in zip(samples, moments, strict=True):
        frame = (time_of(sample) - START_NS) // PERIOD_NS
        assert moment.ego["target_accel_mps2"] == pytest.approx(frame / 10)
        assert set(moment.objects) == {0}  # the rear camera has no truth: it is not scored
        np.testing.assert_allclose(moment.objects[0].box_px[0], SEEN_BOX, atol=1e-4)
        assert moment.objects[0].ignored.tolist() == [False, True]
        assert moment.weather == "rain"


def measured(bundle: ModelBundle, drive: Path, candidate: ModelProto) -> GateResult:
    held_out = [from_arrays(np.zeros((ROWS, 3, HEIGHT, WIDTH), np.uint8), {}, "black")]
    gate = AccuracyGate(bundle.file("fp32"), bundle.manifest, held_out, [drive])
    return gate.measure(candidate.SerializeToString())


def test_fp32_and_candidate_are_both_measured_against_truth(bundle: ModelBundle, drive: Path) -> None:
    result = measured(bundle, drive, says(score=0.86, accel=-1.0, lead_m=21.0, rainy=0.3))
    scores = {score.metric: score for score in result.scores if score.against == "truth"}
    assert (scores["map50_loss"].fp32, scores["map50_loss"].candidate) == pytest.approx((1.0, 1.0))
    accel = scores["accel_loss"]
    assert accel.fp32 is not None
    assert accel.candidate == pytest.approx(accel.fp32 + 1.0)  # one m/s² further below a truth that is never negative
    assert not accel.passes
    assert scores["curvature_loss"].value == 0.0
    assert scores["lead_distance_loss"].value == pytest.approx(1.0 / 20.0)
    weather = scores["accuracy_loss"]
    assert (weather.fp32, weather.candidate) == (1.0, 0.0)
    assert weather.value == pytest.approx((weather.count - 1) / weather.count)
    assert any("against truth (FP32" in reason for reason in result.reasons)


def test_a_lost_object_is_lost_against_truth(bundle: ModelBundle, drive: Path) -> None:
    result = measured(bundle, drive, says(score=0.01))
    loss = next(score for score in result.scores if score.metric == "map50_loss")
    assert (loss.value, loss.fp32, loss.candidate) == pytest.approx((1.0, 1.0, 0.0))
    assert not loss.passes


def test_a_drive_without_truth_is_noted(bundle: ModelBundle, tmp_path: Path) -> None:
    result = measured(bundle, write_tiny_drive(tmp_path / "tiny"), says())
    assert "carries no ground truth" in result.notes[0]
    assert all(score.against == "fp32" for score in result.scores)
    assert result.passes


def test_a_quick_look_leaves_truth_out(bundle: ModelBundle, drive: Path) -> None:
    held_out = [from_arrays(np.zeros((ROWS, 3, HEIGHT, WIDTH), np.uint8), {}, "black")]
    gate = AccuracyGate(bundle.file("fp32"), bundle.manifest, held_out, [drive])
    content = says().SerializeToString()
    assert {score.against for score in gate.measure(content).scores} == {"fp32", "truth"}
    assert {score.against for score in gate.measure(content, with_truth=False).scores} == {"fp32"}


def test_ignored_objects_and_other_classes_do_not_count() -> None:
    fields = {"name": "found", "decoder": "yolov8", "form": "suppressed", "outputs": {"predictions": "t"}}
    head = Yolov8Head.model_validate({**fields, "classes": ["car"]})
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    truth = TrueObjects(("car", "car", "bear"), boxes, np.array([False, True, False]))
    score = TruthScore(head, HEIGHT, WIDTH)
    for _ in range(5):
        tensor = np.zeros((1, 2, 6), np.float32)
        tensor[0, 0] = (0, 0, 10, 10, 0.05, 0)  # weak, but found
        score.add(Instant({"t": tensor}, np.ones(1, np.bool_)), TrueMoment({0: truth}))
    assert score.precision[0].objects == 5
    (loss,) = losses(score, score)
    assert (loss.value, loss.fp32, loss.count) == (0.0, 1.0, 5)


def test_a_control_head_of_one_camera_speaks_from_its_row() -> None:
    fields = {"name": "control", "decoder": "control", "outputs": {"control": "t"}, "camera": "rear"}
    score = TruthScore(ControlHead.model_validate(fields), HEIGHT, WIDTH)
    values = np.array([[1.0, 0.0], [3.0, 0.0]], np.float32)
    moment = TrueMoment({}, {"target_accel_mps2": 3.5}, None, {"front": 0, "rear": 1})
    score.add(Instant({"t": values}, np.ones(2, np.bool_)), moment)
    assert score.errors["accel"].value() == pytest.approx(0.5)


def test_the_command_judges_both_files_on_drives_with_truth(
    tmp_path: Path, drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network with a layer for INT8 and a control head, calibrated and judged on a drive that carries truth."""
    folder = write_control_bundle(tmp_path / "bundle")
    given = ["--drives", str(drive), "--truth-drives", str(drive), "--samples", "8", "--list-anyway", "--json"]
    assert main(["calibrate", "int8", str(folder), *given]) == 0
    facts = json.loads(capsys.readouterr().out)
    against_truth = {entry["metric"] for entry in facts["gate"]["scores"] if entry["against"] == "truth"}
    assert against_truth == {"accel_loss", "curvature_loss", "lead_distance_loss"}
    assert all(entry["against"] == "fp32" for entry in facts["choice"]["scores"])


def test_a_truth_drive_that_cannot_be_opened_is_told_before_anything_is_measured(
    tmp_path: Path, drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_control_bundle(tmp_path / "bundle")
    given = ["--drives", str(drive), "--truth-drives", str(tmp_path / "nowhere"), "--samples", "8"]
    assert main(["calibrate", "int8", str(folder), *given]) == 2
    told = capsys.readouterr().err
    assert "nowhere" in told
    assert "sampling" not in told


def write_control_bundle(folder: Path) -> Path:
    """uint8 images -> Cast, Mul -> convolution, ReLU -> convolution -> mean over each image: `[3, 3]` for `control`."""
    generator = np.random.default_rng(4)
    shapes = {"a.weight": (8, 3, 3, 3), "b.weight": (3, 8, 3, 3)}
    constants = [
        numpy_helper.from_array(generator.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    constants.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "factor"))
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "factor"], ["pixels"]),
        helper.make_node("Conv", ["pixels", "a.weight"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["a_relu"]),
        helper.make_node("Conv", ["a_relu", "b.weight"], ["b"], pads=[1] * 4),
        helper.make_node("ReduceMean", ["b"], ["control"], axes=[2, 3], keepdims=0),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [ROWS, 3, HEIGHT, WIDTH])
    control = helper.make_tensor_value_info("control", TensorProto.FLOAT, [ROWS, 3])
    graph = helper.make_graph(nodes, "control", [images], [control], constants)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content)
    manifest = {
        "name": "control",
        "version": "1",
        "licence": "Apache-2.0",
        "source": "made by a test",
        "inputs": [{"name": "images", "kind": "images", "shape": [ROWS, 3, HEIGHT, WIDTH], "dtype": "uint8"}],
        "heads": [HEADS[1]],
        "files": {"fp32": {"path": "model.onnx", "sha256": hashlib.sha256(content).hexdigest()}},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder
