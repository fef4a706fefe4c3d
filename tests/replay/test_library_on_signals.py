"""The library's rules over signals, on recordings: silent in ordinary driving, and of one mind about every takeover."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.report import ReplayResult
from replay.session import ReplayRequest, replay_drive
from replay.synthetic.drive_writer import write_signal_drive
from runtime.drives import open_drive
from triggers import library_path, load_rules

#: Which rule tells a takeover's cause; a cancelled one has none of its own.
RULE_OF_CAUSE = {
    "brake": "takeover_by_brake",
    "steering": "takeover_by_steering",
    "gas": "takeover_by_gas",
    "dropout": "disengagement_by_dropout",
}
#: Categories that need nothing but signals, without those that are kept for no reason.
OVER_SIGNALS = {"disagreements", "driver", "dynamics", "health", "lead", "near_misses", "places", "reactions", "wipers"}


def times_of(result: ReplayResult, rule: str) -> list[int]:
    return [firing.time_ns for firing in result.firings if firing.rule == rule]


def rules_fired(result: ReplayResult) -> set[str]:
    """Rules of the categories over signals that fired, and the interventions."""
    categories = {rule.name: rule.category for rule in load_rules([library_path()]).rules}
    return {firing.rule for firing in result.firings if categories[firing.rule] in OVER_SIGNALS | {"interventions"}}


@pytest.fixture(scope="module", params=[601, 602])
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ReplayResult:
    path = tmp_path_factory.mktemp("simulated") / "drive.mcap"
    write_signal_drive(path, request.param, duration_s=170.0)
    return replay_drive(ReplayRequest(path, model=None))


def test_rules_by_cause_fire_on_the_tick_of_the_takeover_and_agree_with_its_cause(simulated: ReplayResult) -> None:
    takeovers = [firing for firing in simulated.firings if firing.rule == "driver_takeover"]
    assert {firing.operands["cause"] for firing in takeovers} >= set(RULE_OF_CAUSE)
    for cause, rule in RULE_OF_CAUSE.items():
        assert times_of(simulated, rule) == [
            firing.time_ns for firing in takeovers if firing.operands["cause"] == cause
        ]


def test_planted_cut_ins_and_emergency_stops_are_near_misses(simulated: ReplayResult) -> None:
    planted = simulated.grades.by_rule["unforeseen_hard_braking"] if simulated.grades is not None else None
    assert planted is not None
    assert len(times_of(simulated, "emergency_braking")) == planted.hit + planted.missed
    assert len(times_of(simulated, "lead_cut_in")) == 3  # one in each cycle of the script


def test_what_nothing_happened_to_is_not_fired_at(simulated: ReplayResult) -> None:
    never = {"evasive_steering", "tailgating", "stop_and_go", "extreme_speed", "steering_dropout", "cruise_dropout"}
    never |= {"short_time_to_collision", "lead_flicker", "fast_reversing", "long_override", "vehicle_signals_lost"}
    assert rules_fired(simulated).isdisjoint(never)


@pytest.mark.real
def test_a_real_night_drive_fires_at_its_takeovers_only(real_material: Path) -> None:
    result = replay_drive(ReplayRequest(real_material / "drives" / "model3_night", model=None))
    assert rules_fired(result) == {"driver_takeover", "takeover_by_brake", "short_engagement", "repeated_takeovers"}


@pytest.mark.real
def test_a_real_highway_drive_fires_at_its_steering_dropouts_only(real_material: Path) -> None:
    path = real_material / "drives" / "rav4_highway"
    drive = open_drive(path)
    result = replay_drive(ReplayRequest(path, model=None))
    assert rules_fired(result) == {"steering_dropout"}
    assert drive.truth is not None
    dropouts_s = [result.elapsed_s(firing) for firing in result.firings if firing.rule == "steering_dropout"]
    for event in (event for event in drive.truth if event.event == "lateral_dropout"):
        at_s = (event.time_ns - drive.start_ns) / 1e9
        assert any(at_s <= dropout_s <= at_s + 0.5 for dropout_s in dropouts_s)
