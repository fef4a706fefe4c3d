"""Guards the bundle that is shipped: its stated scores, and that the files still do what the scores say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.int8.bundle_files import emit_from_ranges, needed_tensors, open_graph
from calibration.int8.ranges import RangesFile
from calibration.int8.trt_agreement import trt_agreement
from calibration.training import dataset
from calibration.training.dataset import TrainingSet, pack
from calibration.training.evaluate import Outputs, cosine_agreement, run_file, score
from calibration.training.layout import CAMERAS, OUTPUTS
from replay.synthetic import labelled_instants
from runtime.inference.bundle import ModelBundle, load_bundle

BUNDLE = Path(__file__).resolve().parents[2] / "runtime" / "models" / "hydra_mini"
MOST_POINTS_LOST = 2.0
#: Seeds that no other set uses.
UNSEEN_SEED, INSTANTS = 9900, 6
LEAST_TRT_COSINE = 0.999
LARGEST_BUNDLE_BYTES = 8_000_000


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return load_bundle(BUNDLE)


@pytest.fixture(scope="module")
def unseen() -> TrainingSet:
    return pack(labelled_instants(seed=UNSEEN_SEED, count=INSTANTS, size=dataset.SOURCE_SIZE), UNSEEN_SEED, INSTANTS)


@pytest.fixture(scope="module")
def outputs(bundle: ModelBundle, unseen: TrainingSet) -> dict[str, list[Outputs]]:
    return {role: run_file(bundle.file(role), unseen, lambda done, total: None) for role in ("fp32", "cpu_int8")}


def lost_points(fp32: dict[str, float], int8: dict[str, float]) -> dict[str, float]:
    """How much worse INT8 is, in points: shares times 100, errors in per cent of the truth's spread."""
    lost = {name: 100 * (fp32[name] - int8[name]) for name in fp32 if name.startswith(("map", "ap50", "iou"))}
    lost |= {name: 100 * (fp32[name] - int8[name]) for name in fp32 if name.endswith("_accuracy")}
    lost |= {name: int8[name] - fp32[name] for name in fp32 if name.endswith("_points")}
    return lost


def test_int8_costs_at_most_two_points_of_any_stated_metric(bundle: ModelBundle) -> None:
    metrics = bundle.manifest.metrics
    lost = lost_points(metrics["fp32"], metrics["cpu_int8"])
    assert len(lost) >= 15
    assert {name: points for name, points in lost.items() if points > MOST_POINTS_LOST} == {}


def test_the_control_head_has_learned_more_than_the_median(bundle: ModelBundle) -> None:
    shares = {"accel_mae_mps2": 0.8, "curvature_mae_1pm": 0.7, "lead_distance_mae_m": 0.4}
    metrics = bundle.manifest.metrics
    for name, share in shares.items():
        assert metrics["fp32"][name] < share * metrics["constant"][name], name


def test_the_files_score_on_unseen_instants_about_what_is_stated(
    bundle: ModelBundle, unseen: TrainingSet, outputs: dict[str, list[Outputs]]
) -> None:
    stated = bundle.manifest.metrics
    for role, results in outputs.items():
        found = score(unseen, results).summary()
        for name in ("ap50_vehicle", "iou_drivable", "iou_lane_lines"):
            assert found[name] > stated[role][name] - 0.2, (role, name)


def test_int8_says_what_fp32_says(outputs: dict[str, list[Outputs]]) -> None:
    for name in OUTPUTS:
        assert cosine_agreement(outputs["fp32"], outputs["cpu_int8"], name) > 0.98, name


def test_the_ranges_belong_to_the_shipped_network(bundle: ModelBundle) -> None:
    ranges = RangesFile.load(bundle.file("ranges"))
    assert ranges.model_sha256 == bundle.sha256("fp32")
    graph, plan = open_graph(bundle.file("fp32"))
    assert set(ranges.tensors) == set(needed_tensors(graph, plan))


def test_the_tensorrt_files_that_the_ranges_make_say_what_the_cpu_file_says(
    bundle: ModelBundle, unseen: TrainingSet, tmp_path: Path
) -> None:
    emit_from_ranges(bundle, tmp_path)
    speed = np.asarray(unseen.scalars["speed_mps"], np.float32)
    feeds = [{"images": np.array(unseen.images[i]), "speed_mps": speed[i : i + 1, None]} for i in range(3)]
    cpu = onnx.load(str(bundle.file("cpu_int8")))
    agreement = trt_agreement(cpu, onnx.load(str(tmp_path / "model.trt.qdq.onnx")), feeds)
    assert {name: value for name, value in agreement.items() if value < LEAST_TRT_COSINE} == {}


def test_the_bundle_names_its_cameras_in_the_order_it_was_trained_with(bundle: ModelBundle) -> None:
    assert bundle.manifest.cameras == CAMERAS


def test_a_missing_camera_sees_nothing(bundle: ModelBundle, unseen: TrainingSet) -> None:
    images = np.array(unseen.images[:1])
    images[0, 3] = 114
    blind = TrainingSet(images, unseen.masks[:1], unseen.objects, unseen.scalars[:1])
    (output,) = run_file(bundle.file("cpu_int8"), blind, lambda done, total: None)
    assert output["det_heatmap"][3].max() < 0.3


def test_the_bundle_stays_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) < LARGEST_BUNDLE_BYTES
