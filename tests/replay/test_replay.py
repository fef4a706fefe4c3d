"""A drive through the tick with recorded time: what fires, what is written, what a bad camera costs."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import pytest
from calibrated_rig import focal_lengths, write_rig
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS, DURATION_S, FIRINGS, write_tiny_drive

from replay.report import ReplayResult
from replay.session import ReplayError, ReplayRequest, replay_drive
from runtime.config.rig_config import BUNDLED_MODELS
from runtime.formats.documents import DocumentError
from runtime.formats.durable_files import sha256_of
from runtime.recording.verify import verify_clip

JSON_KEYS = [
    "drive", "duration_s", "cameras", "framesets", "framesets_dropped", "real_time_factor", "firings", "latency_ms",
    "model", "truth",
]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), len(CAMERAS))


@pytest.fixture
def damaged_drive(tiny_drive: Path, tmp_path: Path) -> Path:
    """A copy of the drive to damage."""
    return Path(shutil.copytree(tiny_drive, tmp_path / "damaged"))


def replay(drive: Path, rules: Path, model: Path | None = None, **more: object) -> ReplayResult:
    return replay_drive(ReplayRequest(drive, None if model is None else str(model), (str(rules),), **more))


def facts_that_do_not_depend_on_load(result: ReplayResult) -> dict[str, object]:
    facts = result.to_json()
    return {key: facts[key] for key in JSON_KEYS if key not in ("real_time_factor", "latency_ms")}


def fired(result: ReplayResult) -> list[tuple[str, float]]:
    return [(firing.rule, result.elapsed_s(firing)) for firing in result.firings]


def test_rules_fire_at_the_recorded_times(tiny_drive: Path, tiny_rules: Path) -> None:
    result = replay(tiny_drive, tiny_rules)
    assert [rule for rule, _ in fired(result)] == [rule for rule, _ in FIRINGS]
    assert [at_s for _, at_s in fired(result)] == pytest.approx([at_s for _, at_s in FIRINGS], abs=0.051)
    assert result.firings[1].operands["braking"] is True
    assert result.to_json()["truth"] == {"hit": 1, "missed": 0, "false": 0}


def test_two_replays_with_inference_find_the_same(tiny_drive: Path, tiny_rules: Path, bundle: Path) -> None:
    first, second = (replay(tiny_drive, tiny_rules, bundle) for _ in range(2))
    assert facts_that_do_not_depend_on_load(first) == facts_that_do_not_depend_on_load(second)
    assert first.agreement == second.agreement
    assert first.agreement["diff.accel_mps2"]["count"] > 0


def test_every_frame_reaches_a_frameset(tiny_drive: Path, tiny_rules: Path, bundle: Path) -> None:
    result = replay(tiny_drive, tiny_rules, bundle)
    assert result.framesets == round(DURATION_S * 20)
    assert result.frames_missing == {"front": 0, "rear": 0, "side": 0}  # the side camera is held between its frames
    assert result.model == {**result.model, "name": "tiny", "precision": "fp32"}


def test_json_has_the_promised_keys(tiny_drive: Path, tiny_rules: Path, tmp_path: Path) -> None:
    facts = replay(tiny_drive, tiny_rules).to_json()
    assert list(facts) == JSON_KEYS
    assert set(facts["firings"][0]) == {"rule", "mono_ns", "elapsed_s", "operands", "clip"}
    assert set(facts["latency_ms"]) >= {"p50", "p99", "p99_9", "max"}
    without_truth = Path(shutil.copytree(tiny_drive, tmp_path / "drive"))
    text = (without_truth / "drive.yaml").read_text().replace("truth: truth.csv\n", "")
    (without_truth / "drive.yaml").write_text(text)
    assert list(replay(without_truth, tiny_rules).to_json()) == JSON_KEYS[:-1]


def test_drive_without_cameras_ticks_at_the_asked_rate(tmp_path: Path, tiny_rules: Path) -> None:
    drive = write_tiny_drive(tmp_path / "signals", with_cameras=False)
    result = replay(drive, tiny_rules, rate_hz=50.0)
    assert result.latency_ms["count"] == pytest.approx(DURATION_S * 50, abs=1)
    assert [rule for rule, _ in fired(result)] == [rule for rule, _ in FIRINGS]


def test_rules_that_need_tracks_are_not_applicable_without_inference(
    tiny_drive: Path, tiny_rules: Path, bundle: Path, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n"
        "  - {name: crowd, description: Three tracks., when: count_tracks(score > 0.5) > 2}\n"
        "  - {name: lead, description: A lead., when: heads.lead_probability > 300}\n"
        "  - {name: rain, description: It rains., when: heads.rain_probability > 0.5}\n"
    )
    assert set(replay(tiny_drive, rules).not_applicable) == {"crowd", "lead", "rain"}
    with_network = replay(tiny_drive, rules, bundle)
    assert set(with_network.not_applicable) == {"rain"}
    assert any("rule rain is not applicable" in note for note in with_network.notes)


@pytest.mark.parametrize("camera", list(CAMERAS))
def test_missing_video_costs_only_its_camera(damaged_drive: Path, tiny_rules: Path, bundle: Path, camera: str) -> None:
    (damaged_drive / f"{camera}.mp4").unlink()
    result = replay(damaged_drive, tiny_rules, bundle)
    assert [rule for rule, _ in fired(result)] == [rule for rule, _ in FIRINGS]
    assert result.framesets == pytest.approx(DURATION_S * 20, abs=1)
    others = set(CAMERAS) - {camera}
    assert all(result.frames_missing[other] <= 1 for other in others), result.frames_missing
    assert set(result.camera_faults) == {camera}
    assert any(f"camera {camera}:" in note and "is missing" in note for note in result.notes)


def test_truncated_video_plays_to_its_end_and_is_reported(damaged_drive: Path, tiny_rules: Path, bundle: Path) -> None:
    torn = damaged_drive / "front.ts"  # a transport stream can be cut anywhere, as a torn recording is
    remux(damaged_drive / "front.mp4", torn)
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    text = (damaged_drive / "drive.yaml").read_text().replace("front.mp4", "front.ts")
    (damaged_drive / "drive.yaml").write_text(text)
    result = replay(damaged_drive, tiny_rules, bundle)
    assert 40 <= result.frames_missing["front"] <= 80
    assert result.frames_missing["rear"] <= 1
    assert set(result.camera_faults) == {"front"}
    assert [rule for rule, _ in fired(result)] == [rule for rule, _ in FIRINGS]


def test_camera_fault_rule_names_the_dead_camera(damaged_drive: Path, tmp_path: Path) -> None:
    (damaged_drive / "rear.mp4").unlink()
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        'rules:\n  - {name: fault, description: A fault., when: health.faulty_cameras != "", cooldown_s: 60}\n'
    )
    result = replay(damaged_drive, rules)
    assert [firing.operands["health.faulty_cameras"] for firing in result.firings] == ["rear"]


def test_all_cameras_dead_leaves_the_signal_rules(damaged_drive: Path, tiny_rules: Path, bundle: Path) -> None:
    for camera in CAMERAS:
        (damaged_drive / f"{camera}.mp4").unlink()
    result = replay(damaged_drive, tiny_rules, bundle)
    assert result.framesets == 0
    assert [rule for rule, _ in fired(result)] == [rule for rule, _ in FIRINGS]
    assert set(result.camera_faults) == set(CAMERAS)


def test_clips_are_named_in_the_result_and_keep_every_promise(
    tiny_drive: Path, tiny_rules: Path, bundle: Path, tmp_path: Path
) -> None:
    result = replay(tiny_drive, tiny_rules, bundle, out_dir=tmp_path / "clips")
    clips = {firing["clip"] for firing in result.to_json()["firings"]}
    assert len(clips) == 1  # the two windows overlap: one clip answers both
    report = verify_clip(Path(clips.pop()))
    assert [str(problem) for problem in report.problems] == []
    assert set(report.frames_decoded) == set(CAMERAS)
    assert report.frames_decoded["front"] >= 20


@pytest.mark.parametrize("lies", ["named", "beside the drive"])
def test_clips_have_the_calibrations_of_the_rig(
    damaged_drive: Path, tiny_rules: Path, tmp_path: Path, lies: str
) -> None:
    rig = write_rig(tmp_path if lies == "named" else damaged_drive, CAMERAS)
    named = {"rig": rig} if lies == "named" else {}
    result = replay(damaged_drive, tiny_rules, out_dir=tmp_path / "clips", **named)
    clip = Path(result.to_json()["firings"][0]["clip"])
    report = verify_clip(clip)
    assert report.problems == []
    assert report.manifest is not None
    provenance = report.manifest.provenance
    assert all(provenance.cameras[name].calibrated for name in CAMERAS)
    assert provenance.calibration_sha256 == sha256_of(rig)
    assert focal_lengths(clip) == {name: 100.0 + row for row, name in enumerate(CAMERAS)}


def test_clip_is_a_drive_that_fires_again(tiny_drive: Path, tiny_rules: Path, tmp_path: Path) -> None:
    first = replay(tiny_drive, tiny_rules, out_dir=tmp_path / "clips")
    clip = Path(first.to_json()["firings"][0]["clip"])
    again = replay(clip, tiny_rules)
    times_ns = {firing.rule: firing.time_ns for firing in again.firings}
    assert times_ns["driver_takeover"] == pytest.approx(first.firings[1].time_ns, abs=50_000_000)


def test_bad_drive_and_bad_rules_are_told_together(damaged_drive: Path, tmp_path: Path) -> None:
    (damaged_drive / "drive.yaml").write_text("name: x\ncamera: {}\nsignals:\n  vehicle: nowhere.csv\n")
    rules = tmp_path / "bad.yaml"
    rules.write_text("rules:\n  - name: r\n    description: d\n    when: vehicle.spede_mps > 1\n")
    with pytest.raises(DocumentError) as caught:
        replay(damaged_drive, rules, tmp_path / "no_bundle")
    text = str(caught.value)
    assert f"{damaged_drive / 'drive.yaml'}:2:1" in text
    assert f"{rules}:4:" in text
    assert "no_bundle" in text


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, 1e9, float("nan")])
def test_rate_that_cannot_be_is_refused(tiny_drive: Path, tiny_rules: Path, rate_hz: float) -> None:
    with pytest.raises(ReplayError, match="--rate"):
        replay(tiny_drive, tiny_rules, rate_hz=rate_hz)


def test_bundle_for_fewer_cameras_is_refused(tiny_drive: Path, tiny_rules: Path, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="3 cameras"):
        replay(tiny_drive, tiny_rules, write_tiny_bundle(tmp_path / "two", 2))


def test_bundled_network_runs_over_the_drive(tiny_drive: Path, tiny_rules: Path) -> None:
    if not (BUNDLED_MODELS / "hydra_mini" / "model.yaml").is_file():
        pytest.skip("the bundled network has not been trained yet")
    result = replay_drive(ReplayRequest(tiny_drive, "hydra_mini", (str(tiny_rules),)))
    assert result.model is not None
    assert result.model["name"] == "hydra_mini"
    assert result.framesets == round(DURATION_S * 20)
    assert [rule for rule, _ in fired(result)] == [rule for rule, _ in FIRINGS]


def remux(source: Path, target: Path) -> None:
    """The same packets in another container."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for packet in reading.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writing.mux(packet)
