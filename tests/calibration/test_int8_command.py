from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import residual_network, write_bundle
from test_int8_sampling import write_images

from calibration.int8 import command
from calibration.int8.agreement import Agreement
from calibration.int8.command import CPU_INT8_FILE, RANGES_FILE, calibrate_int8, doubts_of
from calibration.int8.manifest_edit import set_files
from calibration.int8.ranges import RangesError, RangesFile
from runtime.inference.bundle import load_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", residual_network())


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images", 12)


def agreement(**changes: object) -> Agreement:
    values: dict[str, object] = {
        "samples": 4,
        "cosine": {"mask": 0.999},
        "detections": 100,
        "detections_kept": 97,
        "best_score_fp32": 0.9,
        "best_score_int8": 0.9,
        "fp32_ms": 30.0,
        "int8_ms": 12.0,
    }
    return Agreement(**(values | changes))  # type: ignore[arg-type]


def test_a_calibrated_bundle_loads_with_both_networks(bundle: Path, images: list[Path]) -> None:
    report = calibrate_int8(bundle, images=images, samples=6, list_anyway=True)
    loaded = load_bundle(bundle)
    assert set(loaded.graphs) == {"fp32", "cpu_int8"}
    assert report.listed
    assert report.convolutions_int8 == 2
    ranges = RangesFile.load(bundle / RANGES_FILE)
    assert ranges.sample_sha256 == report.sample_sha256
    assert ranges.model_sha256 == loaded.sha256("fp32")


def test_other_lines_and_comments_of_the_manifest_stay(bundle: Path, images: list[Path]) -> None:
    before = (bundle / "model.yaml").read_text().splitlines()
    calibrate_int8(bundle, images=images, samples=6, list_anyway=True)
    after = (bundle / "model.yaml").read_text().splitlines()
    unchanged = [line for line in before if not line.startswith(("files:", "  fp32:"))]
    assert [line for line in after if line in unchanged] == unchanged


def test_the_same_sources_and_seed_give_the_same_bytes(bundle: Path, images: list[Path]) -> None:
    contents = []
    for _ in range(2):
        calibrate_int8(bundle, images=images, samples=6, seed=5, list_anyway=True)
        contents.append([(bundle / name).read_bytes() for name in (RANGES_FILE, CPU_INT8_FILE)])
    assert contents[0] == contents[1]


def test_a_doubtful_file_is_written_but_not_listed(
    bundle: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "measure_agreement", lambda *_: agreement(int8_ms=31.0))
    report = calibrate_int8(bundle, images=images, samples=6)
    assert not report.listed
    assert "not faster" in report.doubts[0]
    assert (bundle / CPU_INT8_FILE).exists()
    assert set(load_bundle(bundle).graphs) == {"fp32"}


def test_the_json_report_says_what_was_measured(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    calibrate_int8(bundle, images=images, samples=6, json_path=tmp_path / "report.json", list_anyway=True)
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["agreement"]["cosine"]["mask"] > 0.99
    assert facts["agreement"]["speed_up"] > 0
    assert facts["method"] == "percentile"


def test_all_wrong_settings_come_at_once(bundle: Path) -> None:
    with pytest.raises(RangesError) as caught:
        calibrate_int8(bundle, method="guess", percentile=3.0, samples=0)
    assert len(str(caught.value).splitlines()) == 3


def test_a_failing_calibration_leaves_the_bundle_as_it_was(bundle: Path, images: list[Path]) -> None:
    calibrate_int8(bundle, images=images, samples=6, list_anyway=True)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    model = onnx.load(str(bundle / "model.fp32.onnx"))
    for tensor in model.graph.initializer:
        if tensor.name == "a.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, np.inf, np.float32), "a.bias"))
    broken = write_bundle(bundle.parent / "broken", model)
    contents = {path.name: path.read_bytes() for path in broken.iterdir()}
    with pytest.raises(RangesError, match="overflows"):
        calibrate_int8(broken, images=images, samples=6)
    assert {path.name: path.read_bytes() for path in broken.iterdir()} == contents
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"int8_ms": 30.0}, "not faster"),
        ({"detections_kept": 90}, "90.0%"),
        ({"cosine": {"mask": 0.9}}, "mask"),
    ],
)
def test_each_kind_of_doubt_is_told(changes: dict[str, object], word: str) -> None:
    (doubt,) = doubts_of(agreement(**changes))
    assert word in doubt


def test_a_good_result_raises_no_doubt() -> None:
    assert doubts_of(agreement()) == []


def test_a_manifest_without_files_gets_the_block(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("name: x\n")
    set_files(path, {"fp32": {"path": "a.onnx", "sha256": "0"}})
    assert path.read_text() == "name: x\nfiles:\n  fp32: {path: a.onnx, sha256: 0}\n"


@pytest.mark.real
def test_yolox_nano_is_calibrated_and_its_loss_is_reported(real_material: Path, tmp_path: Path) -> None:
    from runtime.inference.model_import import import_model

    folder = import_model(real_material / "models" / "yolox_nano.onnx", "yolox", tmp_path / "yolox")
    report = calibrate_int8(folder, images=sorted((real_material / "images").glob("*.jpg")), samples=7)
    assert report.convolutions_int8 > 90
    assert report.agreement.best_score_fp32 > 0.6
    # Plain INT8 destroys this network (depthwise convolutions, SiLU): it must be said, and FP32 must stay in use.
    assert report.doubts
    assert not report.listed
    assert set(load_bundle(folder).graphs) == {"fp32"}
