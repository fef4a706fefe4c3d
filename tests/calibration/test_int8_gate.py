from __future__ import annotations

import gc
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from detector_network import CLASSES, detector_network
from onnx import ModelProto, numpy_helper
from small_networks import SIDE, residual_network, write_bundle
from video_samples import scenes

from calibration.int8.command import CPU_INT8_FILE, calibrate_int8
from calibration.int8.gate import AccuracyGate, GateResult
from calibration.int8.limits import PRINCIPAL, RULES, GateLimits, LimitError, metrics_of, rule_of
from calibration.int8.sampling import Sample, from_arrays, sample_sources
from calibration.int8.tensor_store import TensorStore
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.heads import DECODERS
from runtime.inference.model_import import import_model


def changed(model: ModelProto, **factors: float) -> bytes:
    """The model with some of its stored tensors multiplied."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in factors:
            value = numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return copy.SerializeToString()


def samples(count: int, batch: int = 2, seed: int = 0) -> list[Sample]:
    generator = np.random.default_rng(seed)
    shape = (batch, 3, SIDE, SIDE)
    return [from_arrays(generator.integers(0, 256, shape).astype(np.uint8), {}, f"noise {n}") for n in range(count)]


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return load_bundle(write_bundle(tmp_path / "bundle", residual_network()))


@pytest.fixture
def gate(bundle: ModelBundle) -> AccuracyGate:
    return AccuracyGate(bundle.file("fp32"), bundle.manifest, samples(3))


def values(result: GateResult) -> dict[str, float | None]:
    return {f"{score.head}.{score.metric}": score.value for score in result.scores}


def test_fp32_is_perfect_beside_itself(gate: AccuracyGate, bundle: ModelBundle) -> None:
    result = gate.measure(bundle.file("fp32"))
    assert result.passes
    assert result.headroom == pytest.approx(1.0)
    assert values(result)["lanes.iou_mean"] == 1.0
    assert result.cosine["mask"] == pytest.approx(1.0)
    assert result.instants == 3


def test_a_ruined_file_fails_with_head_metric_and_what_to_do(gate: AccuracyGate) -> None:
    result = gate.measure(changed(residual_network(), **{"out.weight": -1.0}))
    assert not result.passes
    assert result.headroom < 0
    reason = next(reason for reason in result.reasons if "iou_mean" in reason)
    for word in ("head lanes", "at least 0.9", "--limit lanes.iou_mean=", "more layers in float"):
        assert word in reason
    facts = json.loads(json.dumps(result.as_dict()))
    assert facts["passes"] is False
    assert facts["scores"][0]["metric"] == "iou_mean"


def test_a_limit_of_ones_own_decides(bundle: ModelBundle) -> None:
    heads = bundle.manifest.heads
    slightly = changed(residual_network(), **{"out.bias": 0.5})
    for text, passes in (("lanes=0.9", True), ("lanes=1", False)):
        gate = AccuracyGate(bundle.file("fp32"), bundle.manifest, samples(2), limits=GateLimits.parse([text], heads))
        result = gate.measure(slightly)
        assert 0.9 < (values(result)["lanes.iou_mean"] or 0) < 1.0
        assert result.passes is passes


def test_measuring_is_deterministic_whatever_came_before(gate: AccuracyGate, bundle: ModelBundle) -> None:
    candidate = changed(residual_network(), **{"b.weight": 1.05})
    first = gate.measure(candidate).as_dict()
    gate.measure(bundle.file("fp32"))
    assert gate.measure(candidate).as_dict() == first
    again = AccuracyGate(bundle.file("fp32"), bundle.manifest, samples(3))
    assert again.measure(candidate).as_dict() == first


def test_a_file_that_says_no_numbers_is_broken(gate: AccuracyGate) -> None:
    result = gate.measure(changed(residual_network(), **{"out.bias": np.nan}))
    assert not result.passes
    assert "output mask is not finite on noise 0" in result.reasons[0]
    assert result.headroom == -np.inf
    json.dumps(result.as_dict(), allow_nan=False)


def test_without_samples_there_is_no_gate(bundle: ModelBundle) -> None:
    with pytest.raises(ValueError, match="no held-out samples"):
        AccuracyGate(bundle.file("fp32"), bundle.manifest, [])


def write_scenes(folder: Path, first: int, count: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for index, picture in enumerate(scenes(first + count, 192, 128)[first:]):
        paths.append(folder / f"{index}.png")
        cv2.imwrite(str(paths[-1]), picture)
    return paths


def detector(tmp_path: Path) -> Path:
    source = tmp_path / "detector.onnx"
    onnx.save(detector_network(), str(source))
    return import_model(source, "yolov8", tmp_path / "detector", labels=CLASSES)


def test_where_nothing_can_be_measured_the_tensors_are_judged(tmp_path: Path) -> None:
    bundle = load_bundle(detector(tmp_path))
    sees_nothing = {"scores.weight": 0.0, "scores.bias": 3.0}
    silent = changed(detector_network(), **sees_nothing)
    (tmp_path / "silent.onnx").write_bytes(silent)
    shape = bundle.manifest.images.shape
    grey = [from_arrays(np.full(shape, 90, np.uint8), {}, "grey")]
    gate = AccuracyGate(tmp_path / "silent.onnx", bundle.manifest, grey)
    result = gate.measure(silent)
    assert values(result)["detections.kept_share"] is None
    assert values(result)["detections.cosine_mean"] == pytest.approx(1.0)
    assert "cosine of its tensors stands in" in result.notes[0]
    assert result.passes
    astray = gate.measure(changed(detector_network(), **sees_nothing, **{"boxes.weight": -40}))
    assert not astray.passes
    assert "cosine_mean" in astray.reasons[0]


def test_a_yolov8_like_detector_goes_through_import_calibration_and_gate(tmp_path: Path) -> None:
    directory, images = detector(tmp_path), write_scenes(tmp_path / "images", 0, 16)
    report = calibrate_int8(directory, images=images, samples=16, list_anyway=True)
    assert report.convolutions_int8 > 2
    bundle = load_bundle(directory)
    held_out = sample_sources(bundle.manifest, [], write_scenes(tmp_path / "others", 40, 6), 6, 1)
    gate = AccuracyGate(bundle.file("fp32"), bundle.manifest, held_out)
    result = gate.measure(directory / CPU_INT8_FILE)
    kept = next(score for score in result.scores if score.metric == "kept_share")
    assert kept.count > 20
    assert kept.value is not None
    assert kept.value > 0.8
    ruined = gate.measure(changed(detector_network(), **{"block1.weight": 0.2}))
    assert (values(ruined)["detections.kept_share"] or 0.0) < 0.5
    assert not ruined.passes


def test_a_network_of_single_images_is_compared_camera_by_camera(tmp_path: Path) -> None:
    bundle = load_bundle(detector(tmp_path))
    shape = bundle.manifest.images.shape
    generator = np.random.default_rng(0)
    three = from_arrays(generator.integers(0, 256, (3, *shape[1:])).astype(np.uint8), {}, "three cameras")
    three.present[1] = False
    single = [from_arrays(three.images[row : row + 1], {}, f"row {row}") for row in (0, 2)]
    candidate = changed(detector_network(), **{"scores.weight": 1.1})
    together = AccuracyGate(bundle.file("fp32"), bundle.manifest, [three]).measure(candidate)
    apart = AccuracyGate(bundle.file("fp32"), bundle.manifest, single).measure(candidate)
    assert values(together)["detections.kept_share"] == values(apart)["detections.kept_share"]
    counts = [[score.count for score in result.scores] for result in (together, apart)]
    assert counts[0] == counts[1]
    assert counts[0][0] > 0


def test_every_decoder_has_a_metric_and_every_metric_a_rule() -> None:
    assert set(PRINCIPAL) == set(DECODERS)
    for rule in RULES.values():
        assert 0.0 < rule.limit < 1.0
        assert rule.because
        perfect = 1.0 if rule.is_likeness else 0.0
        assert rule.passes(perfect, rule.limit)
        assert rule.passes(rule.limit, rule.limit)
        assert not rule.passes(float("nan"), rule.limit)
        assert not rule.passes(1.0 - perfect, rule.limit)
        assert rule.headroom(perfect, rule.limit) == pytest.approx(1.0)
        assert rule.headroom(rule.limit, rule.limit) == pytest.approx(0.0)
    assert rule_of("best_score") is None


def test_limits_are_read_for_heads_and_single_metrics(bundle: ModelBundle) -> None:
    heads = bundle.manifest.heads
    limits = GateLimits.parse(["lanes=0.85", "lanes.iou_line = 0.5"], heads)
    assert limits.of("lanes", "iou_mean") == 0.85
    assert limits.of("lanes", "iou_line") == 0.5
    assert limits.of("lanes", "iou_road") == RULES["iou_class"].limit
    assert limits.of("lanes", "best_score") is None
    assert "iou_line" in metrics_of(heads[0])


def test_all_wrong_limits_come_at_once(bundle: ModelBundle) -> None:
    wrong = ["lanes", "lane=0.5", "lanes.iou_lin=0.5", "lanes=much", "lanes=1.5"]
    with pytest.raises(LimitError) as caught:
        GateLimits.parse(wrong, bundle.manifest.heads)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(wrong)
    assert "'lanes'" in lines[1]
    assert "iou_line" in lines[2]


def test_stored_tensors_stay_within_the_limit_and_come_back_whole() -> None:
    store = TensorStore(limit_bytes=1000)
    entries = [{"a": np.full(50, index, np.float32), "b": np.arange(3) + index} for index in range(12)]
    for entry in entries:
        store.append(entry)
    assert 0 < store.held_bytes <= 1000
    for found, entry in zip(store, entries, strict=True):
        assert {name: value.tolist() for name, value in found.items()} == {k: v.tolist() for k, v in entry.items()}
    folder = Path(store._folder.name) if store._folder is not None else Path("/nonexistent")
    assert folder.is_dir()
    del store, found
    gc.collect()
    assert not folder.exists()
