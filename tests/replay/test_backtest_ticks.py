"""Recorded ticks: rules evaluated on them fire exactly as in a full replay, from whichever source they came."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS, write_tiny_drive

from replay.backtest.columns import ColumnError, pack, unpack
from replay.backtest.evaluation import DriveOutcome, evaluate_drive
from replay.backtest.recorded_ticks import RecordedTick, TickRecorder, play_block
from replay.backtest.recording import DriveTicks, RecordingRequest, drive_ticks
from replay.session import ReplayRequest, replay_drive
from runtime.composition import open_rules
from runtime.config.rig_config import BUNDLED_MODELS
from runtime.messages import CameraView, ControllerObject, SignalSample, SignalValue, Track

#: Conditions over everything that a tick holds: pulses, windows, tracks, what the tick itself makes, the unknown.
BUSY_RULES = """\
rules:
  - {name: takeover, description: d., when: falling(controller.enabled), cooldown_s: 1}
  - {name: gas, description: d., when: rising(vehicle.gas_pressed) and controller.enabled, cooldown_s: 1}
  - {name: sampled, description: d., when: vehicle.speed_mps > 1, rearm: level, cooldown_s: 0.3, sample: 0.5}
  - {name: limited, description: d., when: vehicle.speed_mps > 1, rearm: level, cooldown_s: 0.3,
     budget: {firings_per_hour: 3}, operands: {mean: "mean_within(vehicle.speed_mps, 1.0)"}}
  - {name: differing, description: d., when: abs(diff.accel_mps2) > 1, rearm: level, cooldown_s: 0.7}
  - {name: missing, description: d., when: health.cameras_missing > 0, rearm: level, cooldown_s: 0.5}
  - {name: crowded, description: d., when: count_tracks(age_s > 0.1) >= 1, rearm: level, cooldown_s: 0.5}
  - {name: at_the_border, description: d., when: any_track(border_px < 20), rearm: level, cooldown_s: 0.5}
  - {name: rained, description: d., when: heads.rain_probability > 0.5}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), len(CAMERAS))


@pytest.fixture
def busy_rules(tmp_path: Path) -> Path:
    path = tmp_path / "busy.yaml"
    path.write_text(BUSY_RULES)
    return path


def outcome_of(request: RecordingRequest, rules: Path | str) -> DriveOutcome:
    loaded = open_rules([rules])
    with drive_ticks(request, loaded) as ticks:
        return evaluated(ticks, request.drive, rules)


def evaluated(ticks: DriveTicks, drive: Path, rules: Path | str) -> DriveOutcome:
    return evaluate_drive(drive, ticks.facts, ticks.drive.truth, ticks.blocks, open_rules([rules]), ticks.was_cached)


def assert_as_replayed(drive: Path, rules: Path | str, model: Path | str | None, cache: Path) -> DriveOutcome:
    """The backtest's firings are those of a full replay: same rules, times, operands, sequence; twice, once cached."""
    named = None if model is None else str(model)
    replayed = replay_drive(ReplayRequest(drive, named, (str(rules),)))
    fresh, cached = (outcome_of(RecordingRequest(drive, named, cache=cache), rules) for _ in range(2))
    assert (fresh.was_cached, cached.was_cached) == (False, True)
    for outcome in (fresh, cached):
        assert outcome.kept == replayed.firings
        assert outcome.suppressed == replayed.suppressed
        assert outcome.not_applicable.keys() >= replayed.not_applicable.keys()
        assert outcome.grades == replayed.grades
    return cached


def test_firings_with_a_network_are_those_of_a_full_replay(
    tiny_drive: Path, busy_rules: Path, bundle: Path, tmp_path: Path
) -> None:
    outcome = assert_as_replayed(tiny_drive, busy_rules, bundle, tmp_path / "cache")
    assert {firing.rule for firing in outcome.kept} >= {"takeover", "gas", "sampled", "limited", "differing"}
    assert outcome.suppressed["limited"]["budget"] > 0


def test_firings_of_signals_alone_are_those_of_a_full_replay(tmp_path: Path, busy_rules: Path) -> None:
    drive = write_tiny_drive(tmp_path / "signals", with_cameras=False)
    outcome = assert_as_replayed(drive, busy_rules, None, tmp_path / "cache")
    assert {"crowded", "rained"} <= outcome.not_applicable.keys()


def test_bundled_network_and_library_fire_as_in_a_full_replay(tiny_drive: Path, tmp_path: Path) -> None:
    if not (BUNDLED_MODELS / "hydra_mini" / "model.yaml").is_file():
        pytest.skip("the bundled network has not been trained yet")
    assert_as_replayed(tiny_drive, "library", "hydra_mini", tmp_path / "cache")


@pytest.mark.real
@pytest.mark.parametrize("name", ["model3_night", "rav4_highway"])
def test_real_drives_fire_as_in_a_full_replay(real_material: Path, name: str, tmp_path: Path) -> None:
    assert_as_replayed(real_material / "drives" / name, "library", None, tmp_path / "cache")


def test_clip_is_evaluated_from_its_own_ticks_without_a_network(
    tiny_drive: Path, tiny_rules: Path, bundle: Path, tmp_path: Path
) -> None:
    first = replay_drive(ReplayRequest(tiny_drive, str(bundle), (str(tiny_rules),), out_dir=tmp_path / "clips"))
    clip = next(iter(first.clips.values()))
    no_such_model = RecordingRequest(clip, None, predictions="recorded", cache=tmp_path / "cache")
    outcome = outcome_of(no_such_model, tiny_rules)
    assert outcome.facts.model == {"name": "recorded"}
    assert outcome.facts.cameras.keys() == CAMERAS.keys()
    took_over = next(firing for firing in outcome.kept if firing.rule == "driver_takeover")
    original = next(firing for firing in first.firings if firing.rule == "driver_takeover")
    assert took_over.time_ns == original.time_ns
    assert took_over.operands == original.operands


def test_events_are_what_would_have_fired_without_sampling_and_budgets(tmp_path: Path, busy_rules: Path) -> None:
    drive = write_tiny_drive(tmp_path / "signals", with_cameras=False)
    outcome = outcome_of(RecordingRequest(drive, None), busy_rules)
    unlimited = tmp_path / "unlimited.yaml"
    text = busy_rules.read_text().replace(", sample: 0.5", "").replace("budget: {firings_per_hour: 3}, ", "")
    unlimited.write_text(text.replace("\n     budget: {firings_per_hour: 3},", "\n    "))
    free = outcome_of(RecordingRequest(drive, None), unlimited)
    assert sorted((each.rule, each.time_ns) for each in outcome.events) == sorted(
        (each.rule, each.time_ns) for each in free.kept
    )
    refused = sum(count for reasons in outcome.suppressed.values() for count in reasons.values())
    assert len(outcome.suppressed_events) == refused


# -- the layout

plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5)


@given(st.lists(plain) | st.lists(st.none() | st.floats(allow_nan=False)) | st.lists(st.none() | st.booleans()))
def test_columns_come_back_as_they_were(values: list[SignalValue | None]) -> None:
    assert unpack(pack(values)) == values


def test_number_that_is_not_one_comes_back_as_unknown() -> None:
    assert unpack(pack([1.0, float("nan"), None])) == [1.0, None, None]
    assert unpack(pack([np.float32(0.5), np.int64(3)])) == [0.5, 3.0]
    assert unpack(pack([2**62, None, -(2**63) + 1])) == [2**62, None, -(2**63) + 1]
    assert unpack(pack([2**80])) == [2.0**80]


@pytest.mark.parametrize("packed", [[], ["x", b""], ["n", b"123"], ["t", b"\x05\0\0\0", ["a"]], ["n", 7]])
def test_damaged_column_is_an_error(packed: list[object]) -> None:
    with pytest.raises(ColumnError):
        unpack(packed)


class _Signals:
    def __init__(self, values: dict[str, SignalValue], samples: dict[str, list[SignalSample]]) -> None:
        self._values, self._samples = values, samples

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> list[SignalSample]:
        return self._samples.get(name, [])

    def names(self) -> list[str]:
        return sorted({*self._values, *self._samples, "declared.never_seen"})


class _Nothing:
    def evaluate(self, *inputs: object, **more: object) -> list[object]:
        return []


class _Sink:
    def __init__(self) -> None:
        self.blocks: list[dict[str, object]] = []

    def write(self, block: dict[str, object]) -> None:
        self.blocks.append(block)


def a_track(number: int) -> Track:
    known = {field.name: None for field in fields(Track)}
    known.update(
        track_id=number, camera="front", class_name="car", score=0.5, box_px=(1.5, 2.0, 3.0, 4.0), first_seen_ns=1,
        last_seen_ns=2, visible=number % 2 == 0, lane="ego", overlapping_cameras=number, confirming_gap_deg=-0.25,
    )  # fmt: skip
    return Track(**known)


def test_every_field_of_every_population_comes_back() -> None:
    tracks, objects = [a_track(1), a_track(2)], [ControllerObject(4, "truck", score=0.25)]
    views = [CameraView("front", "ok", False, luma=12.0), CameraView("rear", "late", True)]
    sink, samples = _Sink(), [SignalSample("a.pressed", 5, True), SignalSample("a.pressed", 7, False)]
    recorder = TickRecorder(_Nothing(), sink)
    recorder.evaluate(None, _Signals({"a.pressed": False, "b.text": "x"}, {"a.pressed": samples}), 10, 11)
    recorder.evaluate(tracks, _Signals({}, {}), 20, 21, objects=objects, cameras=views)
    recorder.evaluate([], _Signals({"b.text": "y"}, {}), 30, 31, objects=[], cameras=None)
    recorder.finish()
    seen = [(copied(tick), tick.signals.value("b.text"), list(tick.signals.samples("a.pressed")))
            for tick in play_block(sink.blocks[0])]  # fmt: skip
    assert seen == [
        ((10, 11, None, None, None), "x", samples),
        ((20, 21, tracks, objects, views), None, []),
        ((30, 31, [], [], None), "y", []),
    ]
    assert recorder.known_signals == {"a.pressed", "b.text"}


def copied(tick: RecordedTick) -> tuple[object, ...]:
    return tick.time_ns, tick.wall_ns, tick.tracks, tick.objects, tick.cameras
