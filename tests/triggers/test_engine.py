"""States of a rule: pending, firing, cooling, and what is not kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from runtime.formats.documents import DocumentError
from runtime.messages import Firing, SignalSample, SignalValue, Track
from triggers import Capabilities, RuleEngine, library_path, load_rules, run_rule_tests

SECOND = 1_000_000_000
TICK = SECOND // 20


class Signals:
    def __init__(self, values: Mapping[str, SignalValue], samples: Sequence[SignalSample] = ()) -> None:
        self._values = values
        self._samples = samples

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return [sample for sample in self._samples if sample.name == name]

    def names(self) -> Sequence[str]:
        return list(self._values)


def engine_for(tmp_path: Path, rule: str, seed: int = 0) -> RuleEngine:
    path = tmp_path / "rules.yaml"
    path.write_text(f"rules:\n  - name: probe\n    description: A probe.\n{rule}")
    return RuleEngine(load_rules([path]), seed=seed)


def play(engine: RuleEngine, speeds: Sequence[float | None]) -> list[Firing]:
    firings = []
    for tick, speed_mps in enumerate(speeds):
        values = {} if speed_mps is None else {"vehicle.speed_mps": speed_mps}
        firings += engine.evaluate([], Signals(values), tick * TICK, tick * TICK)
    return firings


FAST = "    when: vehicle.speed_mps > 30\n"


def test_condition_must_hold_before_the_rule_fires(tmp_path: Path) -> None:
    engine = engine_for(tmp_path, FAST + "    hold_s: 0.2\n")
    firings = play(engine, [0.0, 40.0, 40.0, 0.0, *[40.0] * 10])
    assert [firing.time_ns // TICK for firing in firings] == [8]


def test_unknown_never_fires_and_ends_pending(tmp_path: Path) -> None:
    engine = engine_for(tmp_path, FAST + "    hold_s: 0.2\n")
    assert play(engine, [40.0, 40.0, None, 40.0, 40.0, None, 40.0]) == []


def test_a_stretch_of_true_is_one_event(tmp_path: Path) -> None:
    engine = engine_for(tmp_path, FAST + "    cooldown_s: 0\n")
    assert len(play(engine, [40.0] * 50 + [0.0] + [40.0] * 50)) == 2


def test_events_during_cooldown_are_counted_not_kept(tmp_path: Path) -> None:
    engine = engine_for(tmp_path, FAST + "    cooldown_s: 60\n")
    assert len(play(engine, [40.0, 0.0] * 5)) == 1
    assert engine.suppressed == {"probe": {"cooldown": 4}}


def test_budget_limits_firings_of_an_hour(tmp_path: Path) -> None:
    engine = engine_for(tmp_path, FAST + "    cooldown_s: 0\n    budget: {firings_per_hour: 2}\n")
    assert len(play(engine, [40.0, 0.0] * 5)) == 2
    assert engine.suppressed == {"probe": {"budget": 3}}
    later = engine.evaluate([], Signals({"vehicle.speed_mps": 40.0}), 3601 * SECOND, 0)
    assert len(later) == 1


def test_sampling_keeps_its_share_and_says_so(tmp_path: Path) -> None:
    engine = engine_for(tmp_path, FAST + "    cooldown_s: 0\n    sample: 0.25\n")
    firings = play(engine, [40.0, 0.0] * 2000)
    assert 400 < len(firings) < 600
    assert len(firings) + engine.suppressed["probe"]["sample"] == 2000
    assert {firing.sample_probability for firing in firings} == {0.25}


def test_pulse_between_two_ticks_counts_as_rising(tmp_path: Path) -> None:
    engine = engine_for(tmp_path, "    when: rising(vehicle.brake_pressed)\n")
    name = "vehicle.brake_pressed"
    assert engine.evaluate([], Signals({name: False}), 0, 0) == []
    pulse = [SignalSample(name, 1, True), SignalSample(name, 2, False)]
    assert len(engine.evaluate([], Signals({name: False}, pulse), TICK, 0)) == 1


def test_firing_carries_operands_and_the_rules_definition(tmp_path: Path) -> None:
    rule = (
        FAST + "    operands: {double: vehicle.speed_mps * 2}\n    capture: {pre_s: 3, post_s: 1}\n    priority: high\n"
    )
    firing = play(engine_for(tmp_path, rule), [40.0])[0]
    assert firing.operands == {"vehicle.speed_mps": 40.0, "double": 80.0}
    assert (firing.capture.pre_s, firing.capture.post_s, firing.priority.value) == (3.0, 1.0, "high")
    other = play(engine_for(tmp_path, rule.replace("> 30", "> 31")), [40.0])[0]
    assert other.rule_version != firing.rule_version


def test_same_seed_fires_alike(tmp_path: Path) -> None:
    rule = "    when: at_random(1)\n    cooldown_s: 0\n"
    runs = [[f.time_ns for f in play(engine_for(tmp_path, rule, seed), [0.0] * 2000)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert 60 < len(runs[0]) < 140


def test_every_mistake_of_every_file_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("rules:\n  - name: one\n    description: x\n    when: vehicle.sped_mps > 3\n")
    (tmp_path / "b.yaml").write_text(
        "rules:\n  - name: two\n    description: x\n    when: any_track(scor > 1)\n    hold: 3\n"
        "  - name: one\n    description: x\n    when: vehicle.speed_mps\n"
    )
    with pytest.raises(DocumentError) as caught:
        load_rules([tmp_path])
    told = "\n".join(map(str, caught.value.problems))
    assert "a.yaml:4:" in told
    assert "vehicle.speed_mps" in told
    assert "b.yaml:5:" in told
    assert "hold" in told


def test_library_keeps_its_own_promises() -> None:
    report = run_rule_tests([library_path()])
    assert report.passed, str(report) + "".join(f"\n{result}" for result in report.results if not result.passed)
    tested = {result.rule for result in report.results}
    rules = load_rules([library_path()]).rules
    assert {rule.name for rule in rules} == tested
    assert all(rule.description and rule.why for rule in rules)


def test_rules_that_a_model_cannot_serve_are_named(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - name: rain\n    description: x\n    when: heads.rain_probability > 0.5\n"
        "  - name: crowd\n    description: x\n    when: count_tracks(visible) > 30\n"
    )
    rules = load_rules([tmp_path / "rules.yaml"])
    assert set(rules.not_applicable(Capabilities())) == {"rain", "crowd"}
    assert rules.not_applicable(Capabilities(frozenset({"rain_probability"}), cameras=8, has_images=True)) == {}


def test_image_sizes_that_become_known_while_driving_are_used(tmp_path: Path) -> None:
    """The runtime learns a camera's size from its first frame, after the engine was made."""
    path = tmp_path / "rules.yaml"
    path.write_text(
        "rules:\n  - {name: at_the_border, description: d., when: any_track(border_px < 20), cooldown_s: 0.1}\n"
    )
    sizes: dict[str, tuple[int, int]] = {}
    engine = RuleEngine(load_rules([path]), seed=0, image_sizes=sizes)
    track = Track(1, "front", "car", 0.9, (5.0, 40.0, 60.0, 80.0), 0, 0, True)
    assert engine.evaluate([track], Signals({}), TICK, TICK) == []
    sizes["front"] = (160, 120)
    moved = Track(1, "front", "car", 0.9, (6.0, 40.0, 61.0, 80.0), 0, 0, True)
    fired = [firing for tick in (2, 3) for firing in engine.evaluate([moved], Signals({}), tick * TICK, tick * TICK)]
    assert [firing.rule for firing in fired] == ["at_the_border"]
