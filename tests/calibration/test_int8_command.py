from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import residual_network, write_bundle
from test_int8_sampling import write_images, write_video

from calibration.int8 import command
from calibration.int8.agreement import SpeedComparison
from calibration.int8.bundle_files import CPU_INT8_FILE, FILE_OF_ROLE, RANGES_FILE
from calibration.int8.command import Settings, calibrate_int8, doubts_of, emit_bundle
from calibration.int8.gate import GateResult, HeadScore
from calibration.int8.manifest_edit import set_files
from calibration.int8.ranges import RangesError, RangesFile
from calibration.int8.trt_judgement import TrtJudgement
from runtime.cli import main
from runtime.cli.model import with_tensorrt_files
from runtime.inference.bundle import load_bundle

FORCED = Settings(samples=6, list_anyway=True)
SLOWER = SpeedComparison(30.0, 31.0, 0.97, 0.95, 0.99, 12)
FASTER = SpeedComparison(30.0, 12.0, 2.5, 2.4, 2.6, 12)
IMPOSSIBLE = ("lanes.iou_mean=1", "lanes.iou_line=1", "lanes.iou_road=1")
#: Cuts a tenth of all values off: no answer stays as it was.
RUINED = 90.0


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", residual_network())


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_images(tmp_path / "images", 12)


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which INT8 is faster: small networks are too quick to tell."""
    monkeypatch.setattr(command, "compare_speed", lambda *_, **__: FASTER)


def score(value: float) -> HeadScore:
    return HeadScore("lanes", "iou_mean", "fp32", value, 0.9, value >= 0.9)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_calibrated_bundle_loads_with_all_networks(bundle: Path, images: list[Path]) -> None:
    report = calibrate_int8(bundle, images=images, settings=FORCED)
    loaded = load_bundle(bundle)
    assert {"fp32", "cpu_int8", "trt_int8"} <= set(loaded.graphs)
    assert set(report.files) == set(FILE_OF_ROLE)
    assert report.listed
    assert report.trade[report.chosen].layers_int8 == 2
    ranges = RangesFile.load(bundle / RANGES_FILE)
    assert ranges.sample_sha256 == report.sample_sha256
    assert ranges.model_sha256 == loaded.sha256("fp32")


def test_other_lines_and_comments_of_the_manifest_stay(bundle: Path, images: list[Path]) -> None:
    before = (bundle / "model.yaml").read_text().splitlines()
    calibrate_int8(bundle, images=images, settings=FORCED)
    after = (bundle / "model.yaml").read_text().splitlines()
    unchanged = [line for line in before if not line.startswith(("files:", "  fp32:"))]
    assert [line for line in after if line in unchanged] == unchanged


def test_the_same_sources_and_seed_give_the_same_bytes(bundle: Path, images: list[Path]) -> None:
    written = []
    for _ in range(2):
        calibrate_int8(bundle, images=images, settings=Settings(samples=6, seed=5, list_anyway=True))
        written.append([(bundle / name).read_bytes() for name in FILE_OF_ROLE.values()])
    assert written[0] == written[1]


def test_where_int8_is_not_faster_the_cpu_file_is_left_out_and_fp32_recommended(
    bundle: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "compare_speed", lambda *_, **__: SLOWER)
    settings = Settings(samples=6, drafts_dir=tmp_path / "drafts")
    report = calibrate_int8(bundle, images=images, settings=settings)
    assert (report.recommendation, report.listed, report.refused) == ("fp32", False, False)
    assert "not faster" in report.doubts[0]
    assert not (bundle / CPU_INT8_FILE).exists()
    assert set(load_bundle(bundle).manifest.files) == {"fp32", "ranges", "trt_int8", "trt_int8_fp16"}
    assert (tmp_path / "drafts" / CPU_INT8_FILE).exists()
    assert report.removed == ()
    assert "INT8 cannot win" in report.verdict


def test_a_cpu_file_of_an_earlier_calibration_is_removed_only_with_a_word(
    bundle: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate_int8(bundle, images=images, settings=FORCED)
    monkeypatch.setattr(command, "compare_speed", lambda *_, **__: SLOWER)
    code = main(["calibrate", "int8", str(bundle), "--samples", "6", "--images", *map(str, images)])
    assert code == 0
    assert not (bundle / CPU_INT8_FILE).exists()
    told = capsys.readouterr()
    assert f"{CPU_INT8_FILE}: of an earlier calibration" in " ".join(told.out.split())
    assert "ranges: 6 of 6" in told.err


def test_a_folder_of_images_and_videos_is_sampled_into_three_sets(bundle: Path, images: list[Path]) -> None:
    write_video(images[0].parent / "drive.mp4")
    report = calibrate_int8(bundle, images=[images[0].parent], settings=replace(FORCED, samples=8))
    assert report.sets == (4, 2, 2)


def test_the_report_says_what_the_tensorrt_files_answer(bundle: Path, images: list[Path], faster: None) -> None:
    report = calibrate_int8(bundle, images=images, settings=Settings(samples=6))
    assert [entry.role for entry in report.tensorrt] == ["trt_int8", "trt_int8_fp16"]
    for entry in report.tensorrt:
        assert entry.gate.passes
        assert entry.agreement["mask"] > 0.999
        assert "emulated: passes the gate" in entry.statement


def test_a_tensorrt_file_that_fails_the_gate_is_left_out_and_not_emitted_again(
    bundle: Path, images: list[Path], faster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(*given: object) -> list[TrtJudgement]:
        scores = {"trt_int8": score(0.95), "trt_int8_fp16": score(0.2)}
        results = {role: GateResult(4, (entry,), {"mask": 0.99}, (), ()) for role, entry in scores.items()}
        return [TrtJudgement(role, {"mask": 0.99}, result) for role, result in results.items()]

    monkeypatch.setattr(command, "judge_trt_drafts", judged)
    report = calibrate_int8(bundle, images=images, settings=Settings(samples=6))
    assert set(report.files) == {"ranges", "cpu_int8", "trt_int8"}
    files, notes = emit_bundle(bundle)
    assert set(files) == {"ranges", "cpu_int8", "trt_int8"}
    assert any("failed the accuracy gate" in note for note in notes)


def test_what_fails_the_gate_is_refused_and_the_bundle_stays_as_it_was(
    bundle: Path, images: list[Path], tmp_path: Path, faster: None
) -> None:
    before = contents(bundle)
    settings = Settings(samples=6, limits=IMPOSSIBLE, percentile=RUINED, drafts_dir=tmp_path / "drafts")
    report = calibrate_int8(bundle, images=images, settings=settings)
    assert report.refused
    assert not report.listed
    assert report.files == {}
    assert any("iou" in doubt for doubt in report.doubts)
    assert contents(bundle) == before
    assert set(contents(tmp_path / "drafts")) == set(FILE_OF_ROLE.values())


def test_a_refusal_is_overruled_by_asking_for_it(bundle: Path, images: list[Path], faster: None) -> None:
    settings = Settings(samples=6, limits=IMPOSSIBLE, percentile=RUINED, list_anyway=True)
    report = calibrate_int8(bundle, images=images, settings=settings)
    assert report.listed
    assert report.recommendation == "fp32"
    assert "cpu_int8" in load_bundle(bundle).manifest.files


def test_the_command_exits_with_one_when_it_refuses_and_still_says_all(
    bundle: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--samples",
        "6",
        "--percentile",
        str(RUINED),
        *(word for limit in IMPOSSIBLE for word in ("--limit", limit)),
    ]
    plot = tmp_path / "trade.png"
    given = [str(path) for path in images]
    code = main(["calibrate", "int8", str(bundle), "--images", *given, *options, "--plot", str(plot), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert code == 1
    assert facts["refused"] is True
    assert facts["files"] == {}
    assert len(facts["effects"]) == 2
    assert [point["name"] for point in facts["trade"]][:2] == ["FP32", "all INT8"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_files_are_emitted_again_from_the_ranges_alone(bundle: Path, images: list[Path]) -> None:
    calibrate_int8(bundle, images=images, settings=FORCED)
    before = contents(bundle)
    for name in (CPU_INT8_FILE, "model.trt.qdq.onnx"):
        (bundle / name).write_bytes(before[name])  # as if fetched; emission replaces them
    files, _ = emit_bundle(bundle)
    assert set(files) == set(FILE_OF_ROLE)
    assert contents(bundle) == before


def test_an_engine_build_emits_files_for_tensorrt_that_are_missing(
    bundle: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate_int8(bundle, images=images, settings=FORCED)
    before = contents(bundle)
    files = load_bundle(bundle).manifest.files
    kept = {role: files[role].model_dump() for role in ("fp32", "cpu_int8", "ranges")}
    set_files(bundle / "model.yaml", kept)
    for role in ("trt_int8", "trt_int8_fp16"):
        (bundle / FILE_OF_ROLE[role]).unlink()
    assert {"trt_int8", "trt_int8_fp16"} <= set(with_tensorrt_files(load_bundle(bundle)).graphs)
    assert f"shadowrig calibrate emit {bundle}" in capsys.readouterr().out
    assert contents(bundle) == before


def test_ranges_of_another_network_are_not_emitted_from(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    calibrate_int8(bundle, images=images, settings=FORCED)
    other = write_bundle(tmp_path / "other", residual_network(with_norm=True))
    (other / RANGES_FILE).write_bytes((bundle / RANGES_FILE).read_bytes())
    with pytest.raises(RangesError, match="calibrate again"):
        emit_bundle(other)


def test_the_json_report_says_what_was_measured(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    calibrate_int8(bundle, images=images, settings=FORCED, json_path=tmp_path / "report.json")
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["gate"]["cosine"]["mask"] > 0.99
    assert facts["speed"]["speed_up"] > 0
    assert facts["method"] == "percentile"
    assert "turned 1 Constant nodes into initializers" in facts["notes"]


def test_all_wrong_settings_come_at_once(bundle: Path) -> None:
    with pytest.raises(RangesError) as caught:
        calibrate_int8(bundle, settings=Settings(method="guess", percentile=3.0, samples=0))
    assert len(str(caught.value).splitlines()) == 3


def test_a_failing_calibration_leaves_the_bundle_as_it_was(bundle: Path, images: list[Path]) -> None:
    calibrate_int8(bundle, images=images, settings=FORCED)
    before = contents(bundle)
    model = onnx.load(str(bundle / "model.fp32.onnx"))
    for tensor in model.graph.initializer:
        if tensor.name == "a.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, np.inf, np.float32), "a.bias"))
    broken = write_bundle(bundle.parent / "broken", model)
    broken_before = contents(broken)
    with pytest.raises(RangesError, match="overflows"):
        calibrate_int8(broken, images=images, settings=Settings(samples=6))
    assert contents(broken) == broken_before
    assert contents(bundle) == before


@pytest.mark.parametrize(
    ("value", "speed", "word"), [(0.95, SLOWER, "not faster"), (0.8, FASTER, "iou_mean"), (0.95, FASTER, "")]
)
def test_each_kind_of_doubt_is_told(value: float, speed: SpeedComparison, word: str) -> None:
    doubts = doubts_of(GateResult(4, (score(value),), {"mask": 0.99}, (), ()), speed)
    assert [word in doubt for doubt in doubts] == ([True] if word else [])


def test_a_manifest_without_files_gets_the_block(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("name: x\n")
    set_files(path, {"fp32": {"path": "a.onnx", "sha256": "0a"}})
    assert path.read_text() == "name: x\nfiles:\n  fp32: {path: a.onnx, sha256: 0a}\n"


@pytest.mark.real
def test_yolox_nano_keeps_its_detections_with_its_sensitive_layers_in_float(
    real_material: Path, tmp_path: Path
) -> None:
    """What the search does at length, at one mixture: first stage, depthwise and narrow layers in floating point."""
    from calibration.int8.bundle_files import measure_ranges, open_graph
    from calibration.int8.feeds import build_feeds
    from calibration.int8.gate import AccuracyGate
    from calibration.int8.mixed_precision import try_mixture
    from calibration.int8.sampling import sample_sources
    from runtime.inference.model_import import import_model

    folder = import_model(real_material / "models" / "yolox_nano.onnx", "yolox", tmp_path / "yolox")
    manifest, fp32 = load_bundle(folder).manifest, folder / "model.fp32.onnx"
    images = sorted((real_material / "images").glob("*.jpg"))
    calibration = sample_sources(manifest, [], images[:4], 4, 0)
    held_out = sample_sources(manifest, [], images[4:], 3, 0)
    graph, plan = open_graph(fp32, manifest)
    ranges = measure_ranges(fp32, graph, plan, build_feeds(manifest, calibration, fp32), "percentile", 99.999, 0)
    narrow = [name for name in plan.layers if min(graph.constants[graph.producer[name].input[1]].shape[:2]) < 128]
    gate = AccuracyGate(fp32, manifest, held_out)

    def kept(float_layers: list[str]) -> float:
        result = try_mixture(graph, ranges.tensors, gate, float_layers).result
        return next(entry.value or 0.0 for entry in result.scores if entry.metric == "kept_share")

    assert kept([]) < 0.5  # naive INT8 destroys it
    assert kept(narrow) >= 0.9
