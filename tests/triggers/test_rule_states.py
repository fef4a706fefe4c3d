"""A rule's life, and which of its events are kept."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rule_ticks import MILLISECOND, SECOND, Signals, engine_of, make_track

from runtime.messages import Firing
from triggers import RuleEngine
from triggers.language.types import Value
from triggers.selection import HOUR_NS
from triggers.states import Event, RuleMachine, RuleState

TICK = 50 * MILLISECOND
FAST = "    when: vehicle.speed_mps > 30\n"


def play(engine: RuleEngine, speeds: str, start_tick: int = 0) -> list[int]:
    """Ticks of the firings; `f` is fast, `s` slow, `?` unknown."""
    firings: list[Firing] = []
    for tick, letter in enumerate(speeds, start=start_tick):
        signals = Signals({"vehicle.speed_mps": {"f": 40.0, "s": 3.0, "?": None}[letter]})
        firings += engine.evaluate([], signals, tick * TICK, tick * TICK)
    return [firing.time_ns // TICK for firing in firings]


def test_states_follow_one_another(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, FAST + "    hold_s: 0.1\n    cooldown_s: 0.2\n")
    states = []
    for tick, letter in enumerate("?sfffssssss"):
        play(engine, letter, tick)
        states.append(engine.status()["probe"].state.value)
    assert states == ["inactive"] * 2 + ["pending"] * 2 + ["firing"] + ["cooling"] * 3 + ["inactive"] * 3


def test_status_tells_unknown_from_false(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, FAST)
    play(engine, "?")
    assert engine.status()["probe"].is_unknown
    play(engine, "s", 1)
    assert not engine.status()["probe"].is_unknown


def test_edge_rule_is_silent_while_its_condition_lasts(tmp_path: Path) -> None:
    assert play(engine_of(tmp_path, FAST + "    cooldown_s: 0.2\n"), "f" * 40) == [0]


def test_level_rule_fires_again_whenever_it_has_cooled(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, FAST + "    cooldown_s: 0.2\n    rearm: level\n")
    assert play(engine, "f" * 10) == [0, 4, 8]
    assert engine.suppressed == {}


def test_level_rule_without_cooldown_fires_on_every_true_tick(tmp_path: Path) -> None:
    assert play(engine_of(tmp_path, FAST + "    cooldown_s: 0\n    rearm: level\n"), "sffsf") == [1, 2, 4]


def test_level_event_that_ends_while_cooling_is_counted_once(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, FAST + "    cooldown_s: 10\n    rearm: level\n")
    assert play(engine, "fsfffs") == [0]
    assert engine.suppressed == {"probe": {"cooldown": 1}}


def test_sampled_out_events_start_the_cooldown_too(tmp_path: Path) -> None:
    """Else the share of kept events would depend on the sampling, and fleet statistics would be wrong."""
    engine = engine_of(tmp_path, FAST + "    cooldown_s: 1\n    rearm: level\n    sample: 0.5\n")
    kept = len(play(engine, "f" * 4000))
    assert kept + engine.suppressed["probe"]["sample"] == 200
    assert 70 < kept < 130


def test_sampling_of_a_rule_does_not_depend_on_other_rules(tmp_path: Path) -> None:
    rule = FAST + "    cooldown_s: 0\n    sample: 0.5\n"
    alone = play(engine_of(tmp_path, rule), "fs" * 200)
    other = "  - name: other\n    description: x\n    when: vehicle.speed_mps > 1\n    cooldown_s: 0\n    sample: 0.3\n"
    engine, together = engine_of(tmp_path, rule + other), []
    for tick, letter in enumerate("fs" * 200):
        signals = Signals({"vehicle.speed_mps": 40.0 if letter == "f" else 0.0})
        fired = engine.evaluate([], signals, tick * TICK, 0)
        together += [firing.time_ns // TICK for firing in fired if firing.rule == "probe"]
    assert together == alone


def test_bytes_of_a_day_are_limited_once_clips_are_sealed(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, FAST + "    cooldown_s: 0\n    budget: {bytes_per_day: 1.5kB}\n")
    assert play(engine, "fs") == [0]
    assert engine.settle(0, 500)
    assert play(engine, "fs", 2) == [2]
    assert engine.settle(1, 500)
    assert play(engine, "fs", 4) == [4]
    assert engine.settle(2, 600)
    assert play(engine, "fs", 6) == []
    assert engine.suppressed == {"probe": {"budget": 1}}
    tomorrow = 26 * HOUR_NS // TICK
    assert play(engine, "fs", tomorrow) == [tomorrow]


def test_firing_names_the_surest_track_that_made_it_true(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, "    when: any_track(class_name == 'cyclist' and distance_m < 10)\n")
    tracks = [
        make_track(1, class_name="car", distance_m=3.0, score=0.99),
        make_track(2, class_name="cyclist", distance_m=8.0, score=0.5, camera="rear"),
        make_track(3, class_name="cyclist", distance_m=7.0, score=0.8, camera="left"),
        make_track(4, class_name="cyclist", distance_m=None, score=0.9),
    ]
    (firing,) = engine.evaluate(tracks, Signals({}), SECOND, 0)
    assert firing.operands == {
        "track.camera": "left", "track.class_name": "cyclist", "track.track_id": 3.0, "track.score": 0.8,
    }  # fmt: skip


def test_values_that_cannot_be_understood_are_counted(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, FAST)
    assert engine.evaluate([], Signals({"vehicle.speed_mps": "fast"}), 0, 0) == []
    assert engine.not_understood == {"vehicle.speed_mps": 1}


@given(
    st.lists(st.tuples(st.integers(1, 400), st.sampled_from([True, False, None])), max_size=60),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_edge_events_are_stretches_that_lasted_long_enough(
    ticks: list[tuple[int, Value]], hold_s: float, cooldown_s: float
) -> None:
    machine = RuleMachine(FakeRule(hold_s, cooldown_s))  # type: ignore[arg-type]
    time_ms, since_ms, counted, cools_until_ms = 0, None, False, -1.0
    for step_ms, condition in ticks:
        time_ms += step_ms
        expected = Event.NONE
        if condition is not True:
            since_ms, counted = None, False
        else:
            since_ms = time_ms if since_ms is None else since_ms
            if not counted and time_ms - since_ms >= hold_s * 1000:
                counted = True
                expected = Event.LOST if time_ms < cools_until_ms else Event.COMPLETE
                if expected is Event.COMPLETE:
                    cools_until_ms = time_ms + cooldown_s * 1000
        assert machine.step(condition, time_ms * MILLISECOND) is expected
        if condition is not True:
            assert machine.true_since_ns is None
            assert machine.state(time_ms * MILLISECOND) in (RuleState.INACTIVE, RuleState.COOLING)


class FakeRule:
    """What the machine reads of a rule."""

    rearm = "edge"

    def __init__(self, hold_s: float, cooldown_s: float) -> None:
        self.hold_s = hold_s
        self.cooldown_s = cooldown_s
