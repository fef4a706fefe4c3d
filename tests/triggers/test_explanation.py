"""An explanation says what a rule reads, what it remembers and with whom it shares that, and what is lacking."""

from __future__ import annotations

from pathlib import Path

import pytest

from triggers import Capabilities, RuleSet, load_rules
from triggers.rules.explanation import explain

RULES = """
let: {braked: "any_within(vehicle.brake_pressed, 2.0)"}
rules:
  - name: first
    description: The first.
    when: braked and mean_within(delta(vehicle.speed_mps, 3.0), 5.0) < -1 and lag(vehicle.gear, 0.5) == "D"
    hold_s: 0.5
    operands: {speed_mps: "max_within(vehicle.speed_mps, 7.0)"}
  - name: second
    description: The second.
    when: braked and any_track(class_name == "moose" and displacement_px(3.0) < 20)
"""


@pytest.fixture
def rules(tmp_path: Path) -> RuleSet:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return load_rules([path])


def test_clauses_signals_and_operands_are_told(rules: RuleSet) -> None:
    explanation = explain(rules, "first", Capabilities())
    assert explanation.clauses == (
        "any_within(vehicle.brake_pressed, 2)",
        "mean_within(delta(vehicle.speed_mps, 3), 5) < -1",
        'lag(vehicle.gear, 0.5) == "D"',
    )
    assert explanation.signals == {
        "vehicle.brake_pressed": "true or false",
        "vehicle.speed_mps": "a number",
        "vehicle.gear": "text",
    }
    assert explanation.operands == {"speed_mps": "max_within(vehicle.speed_mps, 7)"}


def test_windows_inside_windows_add_up_and_the_hold_comes_on_top(rules: RuleSet) -> None:
    assert explain(rules, "first", Capabilities()).reach_s == 3.0 + 5.0 + 0.5


def test_shared_windows_name_the_other_rules(rules: RuleSet) -> None:
    windows = {window.text: window for window in explain(rules, "first", Capabilities()).windows}
    assert windows["any_within(vehicle.brake_pressed, 2)"].shared_with == ("second",)
    assert windows["lag(vehicle.gear, 0.5)"].shared_with == ()
    assert windows["delta(vehicle.speed_mps, 3)"].memory_bytes > 0


def test_what_is_lacking_is_named(rules: RuleSet) -> None:
    blind = explain(rules, "second", Capabilities())
    assert blind.lacking is not None
    assert "cameras" in blind.lacking
    other_model = Capabilities(cameras=8, has_images=True, classes=frozenset({"car"}))
    assert explain(rules, "second", other_model).lacking == "the model has no class moose"
    assert explain(rules, "first", other_model).lacking is None
    assert explain(rules, "second", other_model).fields == ("track.class_name",)


def test_an_unknown_rule_is_a_key_error(rules: RuleSet) -> None:
    with pytest.raises(KeyError):
        explain(rules, "third", Capabilities())
