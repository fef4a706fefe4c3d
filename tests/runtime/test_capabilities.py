"""What there is to ask for: only what something here can give, with the reason where nothing does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS, write_tiny_drive

from replay.report import ReplayResult
from replay.session import ReplayRequest, replay_drive
from runtime.capabilities import SourceFacts, capabilities_of, reads_images
from runtime.composition import open_rules
from runtime.formats.mcap_files import McapTopicWriter
from runtime.messages import SignalSample, SignalValue
from runtime.rig import NO_DISTORTION, Rig, RigCamera
from runtime.rotations import looking
from triggers import load_rules

BOTH = ("front", "rear")


def _rig(*names: str) -> Rig:
    camera = (1280, 960, 1000.0, 1000.0, 640.0, 480.0, NO_DISTORTION, looking(0.0), (0.0, 0.0, 1.4), 20.0)
    return Rig("rig", tuple(RigCamera(name, "", *camera) for name in names))


def _network(**facts: Any) -> Any:
    defaults = {"class_names": ("car",), "states": frozenset(), "object_fields": frozenset(), "embedding": None}
    return SimpleNamespace(**{**defaults, **facts})


def _reasons(tmp_path: Path, when: str, network: Any, sources: SourceFacts, cameras: tuple[str, ...] = BOTH) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text(f"rules:\n  - {{name: probe, description: Probe., when: '{when}'}}\n")
    capabilities = capabilities_of(network, (), cameras, _rig(*BOTH), sources)
    return load_rules([path]).not_applicable(capabilities).get("probe", "")


def test_fields_follow_from_calibration_and_heads() -> None:
    def fields(network: Any, rig: Rig | None) -> frozenset[str]:
        return capabilities_of(network, (), BOTH, rig, SourceFacts()).track_fields

    assert fields(_network(), None) == {"border_px"}
    assert "distance_m" in fields(_network(), _rig("front"))
    assert "confirming_gap_deg" not in fields(_network(), _rig("front", "stranger"))
    assert "confirming_gap_deg" in fields(_network(), _rig("front", "rear"))
    assert "state" in fields(_network(states=frozenset({"red"})), None)
    assert "predicted_speed_mps" in fields(_network(object_fields=frozenset({"predicted_speed_mps"})), None)


@pytest.mark.parametrize(
    ("outside", "lacking"),
    [
        ({"vehicle.speed_mps", "vehicle.yaw_rate_radps"}, set()),
        ({"vehicle.speed_mps"}, {"lateral_speed_mps"}),
        (set(), {"lateral_speed_mps", "speed_mps"}),
    ],
)
def test_speeds_over_ground_need_the_cars_own_motion(outside: set[str], lacking: set[str]) -> None:
    every = capabilities_of(_network(), (), BOTH, _rig(*BOTH), SourceFacts()).track_fields
    facts = SourceFacts(frozenset(outside))
    assert every - capabilities_of(_network(), (), BOTH, _rig(*BOTH), facts).track_fields == lacking


def test_sources_that_are_known_are_held_to_what_they_give(tmp_path: Path) -> None:
    csv = SourceFacts(frozenset({"vehicle.speed_mps"}))
    assert _reasons(tmp_path, "vehicle.rain", _network(), csv) == "no source gives vehicle.rain"
    assert _reasons(tmp_path, "any_object(score > 0)", _network(), csv) == "the controller publishes no objects"
    assert _reasons(tmp_path, "vehicle.speed_mps > 3", _network(), csv) == ""
    assert _reasons(tmp_path, "diff.accel_mps2 > 3", _network(), csv) == ""
    anything = SourceFacts(None)
    assert _reasons(tmp_path, "vehicle.rain", _network(), anything) == ""
    assert _reasons(tmp_path, "any_object(score > 0)", _network(), anything) == ""


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ("any_track(score > 0.5)", "no network runs, so nothing is tracked"),
        ("heads.rain > 0.5", "no network runs to give heads.rain"),
        ("diff.accel_mps2 > 3", "no network runs to give diff.accel_mps2"),
        ("health.cameras_missing > 0", "no network runs to give health.cameras_missing"),
        ("any_camera(luma < 5)", "no network runs, so no images are decoded for luma"),
        ("any_camera(is_missing)", ""),
        ("any_track(distance_m < 5)", "no network runs, so nothing is tracked"),
    ],
)
def test_without_a_network_the_reason_is_the_network_and_not_the_cameras(
    tmp_path: Path, when: str, reason: str
) -> None:
    assert _reasons(tmp_path, when, None, SourceFacts()) == reason


def test_without_cameras_the_reason_is_the_cameras(tmp_path: Path) -> None:
    assert "there are no cameras" in _reasons(tmp_path, "any_track(score > 0.5)", None, SourceFacts(), cameras=())


def test_replay_cannot_ask_about_the_machine(tmp_path: Path) -> None:
    assert _reasons(tmp_path, "health.tick_ms > 50", _network(), SourceFacts()) == ""
    replayed = _reasons(tmp_path, "health.tick_ms > 50", _network(), SourceFacts(is_replay=True))
    assert "a replay" in replayed
    assert "health.tick_ms" in replayed


def test_lateness_of_cameras_is_known_only_where_frames_are_taken(tmp_path: Path) -> None:
    lagging = "max_cameras(latency_ms, is_true(not is_missing)) > 100"
    assert _reasons(tmp_path, lagging, _network(), SourceFacts()) == ""
    assert "no network runs" in _reasons(tmp_path, lagging, None, SourceFacts())
    replayed = _reasons(tmp_path, lagging, _network(), SourceFacts(is_replay=True))
    assert replayed == "a replay says nothing of the machine that recorded: latency_ms of cameras"
    lacking = open_rules(["library"]).not_applicable(
        capabilities_of(_network(), (), BOTH, _rig(*BOTH), SourceFacts(is_replay=True))
    )
    assert "latency_ms of cameras" in lacking["camera_lags_behind"]


def _mcap_drive(path: Path, samples: list[SignalSample]) -> Path:
    with McapTopicWriter(path, chunked=True) as writer:
        for sample in samples:
            writer.signal_samples([sample])
    return path


def _samples(name: str, values: list[SignalValue]) -> list[SignalSample]:
    return [SignalSample(name, 10**9 + tick * 50_000_000, value) for tick, value in enumerate(values)]


def _replayed(tmp_path: Path, drive: Path, when: str) -> ReplayResult:
    path = tmp_path / "rules.yaml"
    path.write_text(f"rules:\n  - {{name: probe, description: Probe., when: '{when}'}}\n")
    return replay_drive(ReplayRequest(drive, None, (str(path),)))


def test_a_drive_that_holds_no_object_list_serves_no_object_rules(tmp_path: Path, tiny_drive: Path) -> None:
    asks = "any_object(score > 0)"
    assert _replayed(tmp_path, tiny_drive, asks).not_applicable == {"probe": "the controller publishes no objects"}
    speeds = _samples("vehicle.speed_mps", [1.0] * 200)
    silent = _mcap_drive(tmp_path / "silent.mcap", speeds)
    assert _replayed(tmp_path, silent, asks).not_applicable == {"probe": "the controller publishes no objects"}
    short = _mcap_drive(tmp_path / "short.mcap", [*speeds, *_samples("controller.enabled", [True] * 20)])
    assert _replayed(tmp_path, short, asks).not_applicable.keys() == {"probe"}


def test_an_object_list_that_may_still_come_is_not_held_against_rules(tmp_path: Path) -> None:
    asks = 'any_object(class_name == "car")'
    engaged = _samples("controller.enabled", [True] * 200)
    long = _mcap_drive(tmp_path / "long.mcap", engaged)
    assert _replayed(tmp_path, long, asks).not_applicable == {}
    late = SignalSample("controller.objects", engaged[-10].time_ns, '[{"id": 1, "class_name": "car"}]')
    holding = _mcap_drive(tmp_path / "late.mcap", sorted([*engaged, late], key=lambda sample: sample.time_ns))
    assert [firing.rule for firing in _replayed(tmp_path, holding, asks).firings] == ["probe"]


def test_a_replay_tells_which_signals_were_not_understood(tmp_path: Path) -> None:
    drive = _mcap_drive(tmp_path / "odd.mcap", _samples("vehicle.speed_mps", [1.0] * 20 + ["fast"] * 20))
    result = _replayed(tmp_path, drive, "vehicle.speed_mps > 3")
    assert result.not_understood.keys() == {"vehicle.speed_mps"}
    assert result.to_json()["not_understood"] == result.not_understood
    assert any("signal vehicle.speed_mps" in note and "not understood" in note for note in result.notes)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("when: any_camera(luma < 5)", True),
        ("when: any_camera(is_missing)", False),
        ("when: vehicle.rain, operands: {light: 'min_cameras(luma, luma > 0)'}", True),
        ("when: vehicle.rain, score: 'max_cameras(sharpness, luma > 0)'", True),
        ("when: any_camera(misalignment_deg > 1)", False),
    ],
)
def test_images_are_measured_only_for_rules_that_ask(tmp_path: Path, rule: str, expected: bool) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(f"rules:\n  - {{name: probe, description: Probe., {rule}}}\n")
    assert reads_images(load_rules([path])) is expected


def test_a_replay_without_inference_says_that_no_network_runs(tmp_path: Path, tiny_drive: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: crowd, description: Three., when: count_tracks(score > 0.5) > 2}\n")
    assert "no network runs" in replay_drive(ReplayRequest(tiny_drive, None, (str(rules),))).not_applicable["crowd"]


def test_drive_may_hold_signals_of_its_own_that_rules_read(tmp_path: Path) -> None:
    drive = write_tiny_drive(tmp_path / "drive", with_cameras=False)
    text = (drive / "drive.yaml").read_text().replace("signals:\n", "signals:\n  trailer: trailer.csv\n")
    (drive / "drive.yaml").write_text(text)
    start_ns = 100_000_000_000
    rows = "".join(f"{start_ns + tick * 50_000_000},{int(tick > 40)},{10 * tick}\n" for tick in range(120))
    (drive / "trailer.csv").write_text("mono_ns,is_attached,mass_kg\n" + rows)
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n"
        "  - {name: attached, description: A., when: rising(trailer.is_attached), cooldown_s: 100}\n"
        "  - {name: heavy, description: H., when: trailer.mass_kg > 1000, cooldown_s: 100}\n"
        "  - {name: never, description: N., when: vehicle.rain}\n"
    )
    result = replay_drive(ReplayRequest(drive, None, (str(rules),)))
    assert [firing.rule for firing in result.firings] == ["attached", "heavy"]
    assert result.not_applicable == {"never": "no source gives vehicle.rain"}


def test_border_of_a_box_is_known_once_the_first_image_came(tmp_path: Path, tiny_drive: Path) -> None:
    from runtime.capture.camera_watch import CameraWatch
    from runtime.composition import ModelChoice, compose_tick, open_network, open_signals

    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: edge, description: E., when: any_track(border_px < 5)}\n")
    network = open_network(ModelChoice(write_tiny_bundle(tmp_path / "bundle", 3)), tuple(CAMERAS))
    watches = [CameraWatch(name) for name in CAMERAS]
    loaded = load_rules([rules])
    parts = compose_tick(watches, network, None, open_signals({}), loaded, 0, 20.0, "front")
    assert parts.not_applicable == {}
    assert parts.assembler is not None
    parts.grid.start(0)
    geometry = network.image_spec.geometry(160, 120)
    parts.assembler.offer("front", 0, 0, lambda view: geometry)
    report = parts.pipeline.tick(0, 0, 0)
    assert report.tracks == []
    assert parts.image_sizes == {"front": (160, 120)}
    network.close()
