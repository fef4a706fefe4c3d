"""An expression's text, checked again, is the same expression."""

from __future__ import annotations

import pytest

from triggers import library_path, load_rules
from triggers.language.checking import check
from triggers.language.expressions import Expression, Inside, SignalRead, walk
from triggers.language.rendering import clauses, render
from triggers.language.scope import Scope
from triggers.language.types import Type

SHORTEST = (
    "1 - (2 - vehicle.speed_mps) > 0",
    "-vehicle.speed_mps ** 2 < 0",
    "(-vehicle.speed_mps) ** 2 > 1",
    "(1 if vehicle.gas_pressed else 2) > 1",
    "(2 ** vehicle.speed_mps) ** 2 > 1",
    "2 ** vehicle.speed_mps ** 2 > 1",
    "not (vehicle.gas_pressed and vehicle.brake_pressed)",
    "(vehicle.speed_mps > 1) == vehicle.gas_pressed",
    "vehicle.gas_pressed and (vehicle.brake_pressed or vehicle.standstill)",
    'vehicle.gear in ("D", "R") or vehicle.gear == "a\\"b"',
    "any_within(rising(vehicle.gas_pressed), 0.5)",
    "vehicle.speed_mps - -1 > 0",
    "max(vehicle.speed_mps, 3, 0.25) > 1 and not vehicle.gas_pressed == True",
)


def checked(text: str) -> Expression:
    return check(text, Scope(), Type.BOOLEAN)


@pytest.mark.parametrize("text", SHORTEST)
def test_brackets_stand_only_where_they_are_needed(text: str) -> None:
    rendered = render(checked(text))
    assert checked(rendered) == checked(text)
    assert len(rendered) <= len(text) + 2  # at most one pair that people leave out: -x ** 2


def test_chained_comparisons_become_two() -> None:
    assert render(checked("0 < vehicle.speed_mps <= 3")) == "0 < vehicle.speed_mps and vehicle.speed_mps <= 3"


def test_every_condition_of_the_library_comes_back() -> None:
    rules = load_rules([library_path()])
    for rule in rules.rules:
        # The types of open signals (heads.…) are learnt from their use in the whole rule, and what is called by its
        # name from the rule's file: take them along.
        signals = {node.name: node.type for node in walk(rule.when) if isinstance(node, SignalRead)}
        zones = {node.name: node.zone for node in walk(rule.when) if isinstance(node, Inside) and node.zone is not None}
        scope = Scope(signals, zones=zones, queries=rules.queries, classifiers=rules.classifiers)
        assert check(render(rule.when), scope, Type.BOOLEAN) == rule.when, rule.name


def test_clauses_are_what_must_hold_together() -> None:
    condition = checked(
        "vehicle.gas_pressed and (vehicle.brake_pressed or vehicle.standstill) and vehicle.speed_mps > 1"
    )
    assert clauses(condition) == [
        "vehicle.gas_pressed",
        "vehicle.brake_pressed or vehicle.standstill",
        "vehicle.speed_mps > 1",
    ]
