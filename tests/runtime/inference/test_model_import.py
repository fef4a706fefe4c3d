from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from runtime.formats.documents import DocumentError
from runtime.formats.durable_files import sha256_of
from runtime.inference.bundle import load_bundle
from runtime.inference.coco import COCO_CLASSES
from runtime.inference.graph import Graph, TensorSpec
from runtime.inference.import_inputs import ImageConvention, InputHints, draft_inputs
from runtime.inference.model_import import import_model
from runtime.inference.network import Network
from tests.runtime.inference.input_networks import (
    calibrated_network,
    conv_gru_network,
    leaky_network,
    separate_network,
)
from tests.runtime.inference.tiny_networks import fixed_network, frameset_of, mean_network, noise

SHAPE = [1, 3, 32, 32]


def _onnx(path: Path, shape: list[int | str] | None = None, **outputs: np.ndarray) -> Path:
    path.write_bytes(fixed_network(outputs, shape or SHAPE).SerializeToString())
    return path


def _problems(*arguments: object, **options: object) -> str:
    with pytest.raises(DocumentError) as caught:
        import_model(*arguments, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_coco_has_eighty_classes_in_the_order_of_its_ids() -> None:
    assert len(set(COCO_CLASSES)) == 80
    places = {"person": 0, "car": 2, "traffic light": 9, "stop sign": 11, "toothbrush": 79}
    assert {name: COCO_CLASSES.index(name) for name in places} == places


def test_an_imported_detector_runs_and_keeps_its_file(tmp_path: Path) -> None:
    out = np.zeros((1, 21, 85), np.float32)
    out[0, 5, :5] = (0.5, 0.5, 0.5, 0.5, 0.9)
    out[0, 5, 5 + 11] = 1.0
    source = _onnx(tmp_path / "det.onnx", out=out)
    directory = import_model(source, "yolox", tmp_path / "models" / "det")
    bundle = load_bundle(directory)
    assert bundle.manifest.name == "det"
    assert bundle.manifest.images.image_spec.color == "bgr"
    assert sha256_of(bundle.file("fp32")) == sha256_of(source)
    prediction = Network.open(directory, ["camera_0"]).predict(frameset_of(noise(1, 0, 32, 32)), None, None)
    assert [prediction.class_names[index] for index in prediction.detections.class_id] == ["stop sign"]
    assert "# " in (directory / "model.yaml").read_text(encoding="utf-8")
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["det"]  # no leftovers


def test_own_labels_replace_coco_and_must_fit(tmp_path: Path) -> None:
    source = _onnx(tmp_path / "det.onnx", out=np.zeros((1, 21, 7), np.float32))
    assert "give their labels" in _problems(source, "yolox", tmp_path / "a")
    assert "[1, 21, 8]" in _problems(source, "yolox", tmp_path / "a", labels=["car", "sign", "light"])
    assert not (tmp_path / "a").exists()
    directory = import_model(source, "yolox", tmp_path / "a", labels=["yes", "no: really"])
    assert load_bundle(directory).manifest.heads[0].classes == ("yes", "no: really")  # type: ignore[union-attr]


def test_segmentation_makes_a_head_of_each_output(tmp_path: Path) -> None:
    masks = {"da": np.zeros((1, 2, 8, 8), np.float32), "LL.out": np.zeros((1, 3, 8, 8), np.float32)}
    directory = import_model(_onnx(tmp_path / "seg.onnx", **masks), "segmentation", tmp_path / "seg")
    prediction = Network.open(directory, ["camera_0"]).predict(frameset_of(noise(1, 0, 32, 32)), None, None)
    assert set(prediction.heads) == {"da", "ll_out"}
    assert set(prediction.scalars) == {"da_fraction", *(f"ll_out_{index}_fraction" for index in range(3))}


def test_an_open_batch_becomes_one(tmp_path: Path) -> None:
    source = _onnx(tmp_path / "e.onnx", ["batch", 3, 32, 32], vector=np.ones((1, 16), np.float32))
    assert load_bundle(import_model(source, "embedding", tmp_path / "e")).manifest.images.batch == 1


def test_everything_wrong_comes_at_once(tmp_path: Path) -> None:
    source = _onnx(tmp_path / "det.onnx", [1, 4, "height", 32], out=np.zeros((1, 21), np.float32))
    target = tmp_path / "full"
    target.mkdir()
    (target / "thesis.txt").write_text("mine", encoding="utf-8")
    told = _problems(source, "yolo", target)
    assert "unknown decoder 'yolo'" in told
    assert "did you mean 'yolox'?" in told
    assert "[batch, 3, height, width]" in told
    assert "left alone" in told
    assert (target / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_bundle_may_be_replaced_and_a_failed_import_leaves_it(tmp_path: Path) -> None:
    first = _onnx(tmp_path / "one.onnx", vector=np.ones((1, 4), np.float32))
    second = _onnx(tmp_path / "two.onnx", vector=np.ones((1, 5), np.float32))
    broken = _onnx(tmp_path / "nan.onnx", vector=np.full((1, 5), np.nan, np.float32))
    directory = import_model(first, "embedding", tmp_path / "bundle")
    assert "not finite" in _problems(broken, "embedding", directory)
    assert load_bundle(directory).manifest.name == "one"
    assert load_bundle(import_model(second, "embedding", directory)).manifest.name == "two"


def test_a_file_that_is_no_network_is_told(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x00\x01 garbage" * 50)
    assert "garbage.onnx: is not an ONNX file" in _problems(garbage, "yolox", tmp_path / "a")
    assert "cannot be read" in _problems(tmp_path / "absent.onnx", "yolox", tmp_path / "a")


def _saved(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_inputs_beside_images_are_recognised_by_name_and_shape(tmp_path: Path) -> None:
    signal = import_model(_saved(tmp_path / "a.onnx", mean_network(1)), "raw", tmp_path / "a")
    assert load_bundle(signal).manifest.signals[0].signal == "vehicle.speed_mps"
    matrices = import_model(_saved(tmp_path / "b.onnx", calibrated_network(2)), "raw", tmp_path / "b")
    whats = [entry.what for entry in load_bundle(matrices).manifest.calibrations]
    assert whats == ["intrinsics", "extrinsics", "projection"]
    recurrent = import_model(_saved(tmp_path / "c.onnx", conv_gru_network(2)), "raw", tmp_path / "c")
    (state,) = load_bundle(recurrent).manifest.states
    assert (state.name, state.output) == ("hidden", "hidden_next")
    assert [head.name for head in load_bundle(recurrent).manifest.heads] == ["mean_hidden"]
    separate = import_model(_saved(tmp_path / "d.onnx", separate_network(3)), "raw", tmp_path / "d")
    assert load_bundle(separate).manifest.rows == 3


def test_what_an_input_takes_can_be_said_and_is_asked_for(tmp_path: Path) -> None:
    network = leaky_network(2)
    for node in network.graph.node:
        node.input[:] = ["memory" if name == "seen" else name for name in node.input]
    network.graph.input[1].name = "memory"
    source = _saved(tmp_path / "net.onnx", network)
    told = _problems(source, "raw", tmp_path / "a")
    assert "it is not known what input memory float32[2, 3] takes" in told
    assert "--state memory=OUTPUT" in told
    hints = InputHints(states={"memory": "seen_nxt"}, signals={"speed": "vehicle.speed_mps"})
    told = _problems(source, "raw", tmp_path / "a", hints=hints)
    assert "did you mean 'seen_next'?" in told
    assert "the network has no input 'speed'" in told
    directory = import_model(source, "raw", tmp_path / "a", hints=InputHints(states={"memory": "seen_next"}))
    assert load_bundle(directory).manifest.states[0].output == "seen_next"


def test_matrices_of_separate_images_are_paired_in_order() -> None:
    tensors = {
        name: TensorSpec(name, "float32", shape)
        for name, shape in (
            ("left", (1, 3, 8, 8)),
            ("right", (1, 3, 8, 8)),
            ("left_intrinsics", (1, 3, 3)),
            ("right_intrinsics", (1, 3, 3)),
        )
    }
    convention = ImageConvention("rgb", "stretch", 1.0, "a test")
    drafts, faults = draft_inputs(Graph(tensors, {}), InputHints(), convention)
    assert not faults
    assert [draft.get("of") for draft in drafts] == [None, None, "left", "right"]


@pytest.mark.real
def test_yolox_nano_finds_the_cars_of_a_real_street(tmp_path: Path, real_material: Path) -> None:
    directory = import_model(real_material / "models" / "yolox_nano.onnx", "yolox", tmp_path / "yolox_nano")
    network = Network.open(directory, ["camera_0"])
    assert network.class_names == COCO_CLASSES
    source = cv2.imread(str(real_material / "images" / "cbd64c44-cdb37ccb.jpg"))
    geometry = network.image_spec.geometry(source.shape[1], source.shape[0])
    prepared = np.full((416, 416, 3), 114, np.uint8)
    fitted = cv2.resize(source, (geometry.content_width, geometry.content_height), interpolation=cv2.INTER_AREA)
    prepared[: geometry.content_height, : geometry.content_width] = fitted
    images = np.ascontiguousarray(prepared.transpose(2, 0, 1))[None]
    detections = network.predict(frameset_of(images), [geometry], None).detections
    sure = detections.score >= 0.5
    found = [network.class_names[index] for index in detections.class_id[sure]]
    assert found.count("car") >= 4
    (truck,) = detections.box_px[sure][[name == "truck" for name in found]]
    assert truck[0] < 20  # it stands at the left edge and is a third of the image wide and almost as high as it
    assert 300 < truck[2] < 450
    assert truck[3] - truck[1] > 400


@pytest.mark.real
def test_twinlitenet_finds_road_in_a_real_street(tmp_path: Path, real_material: Path) -> None:
    directory = import_model(real_material / "models" / "twinlitenet.onnx", "segmentation", tmp_path / "twin")
    network = Network.open(directory, ["camera_0"])
    spec = network.image_spec
    source = cv2.imread(str(real_material / "images" / "cc97fab0-f9a08d07.jpg"))
    prepared = cv2.cvtColor(cv2.resize(source, (spec.width, spec.height)), cv2.COLOR_BGR2RGB)
    images = np.ascontiguousarray(prepared.transpose(2, 0, 1))[None]
    scalars = network.predict(frameset_of(images), None, None).scalars
    assert 0.1 < float(scalars["da_fraction"]) < 0.6
    assert 0.001 < float(scalars["ll_fraction"]) < 0.1
