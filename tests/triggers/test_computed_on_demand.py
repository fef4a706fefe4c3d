"""What is computed only when it is needed is what would have been computed on every tick: on the whole library."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_ticks import MILLISECOND, SECOND, Signals, make_track, program_of

from runtime.messages import CameraView, ControllerObject, SignalSample
from triggers import RuleEngine, library_path, load_rules
from triggers.evaluation import schedule
from triggers.evaluation.parts import Part, PartKey
from triggers.evaluation.program import Program
from triggers.evaluation.schedule import EVERY_TICK, Schedule
from triggers.language.checking import check
from triggers.language.expressions import (
    Constant,
    Expression,
    ItemField,
    Membership,
    SignalRead,
    constant,
    operation,
    walk,
)
from triggers.language.populations import FIELDS, Population
from triggers.language.scope import Scope
from triggers.language.types import Type
from triggers.rules.rule import Budget, Rule, RuleSet

CAMERAS = ("front", "front_main", "left", "rear")
IMAGE_SIZES = dict.fromkeys(CAMERAS, (1920, 1080))


class Eager(Schedule):
    """Everything on every tick."""

    gates: list[schedule.Gate] = []  # type: ignore[assignment]  # noqa: RUF012

    def mask(self, key: PartKey) -> int:
        return EVERY_TICK

    def widen(self, nodes: Iterable[Expression]) -> None:
        pass

    def is_computed(self, key: PartKey, condition: Expression) -> bool:
        return True


def often(rule: Rule) -> Rule:
    """The rule without all that keeps it from going off often."""
    budget = Budget(firings_per_hour=3, by=rule.budget.by) if rule.budget.by else Budget()
    return replace(rule, hold_s=0.0, cooldown_s=0.1, rearm="level", sample=1.0, budget=budget)


def told(rule: Rule) -> Rule:
    """A rule that goes off all the time and says what the condition of `rule` is."""
    operands = {**rule.operands, "was": rule.when}
    return replace(rule, when=constant(True), operands=operands, version=rule.version + " told")


def asked(rule: Rule) -> Rule:
    """A rule whose condition is about the operands and the score of `rule`."""
    about = operation("known", Type.BOOLEAN, (rule.score or next(iter(rule.operands.values()), rule.when),))
    gate = check("vehicle.speed_mps > 5", Scope(), Type.BOOLEAN)
    return replace(rule, when=operation("and", Type.BOOLEAN, (gate, about)), version=rule.version + " asked")


RULES = [often(rule) for rule in load_rules([library_path()]).rules]


def _expressions(rule: Rule) -> list[Expression]:
    return [rule.when, *rule.operands.values(), *([rule.score] if rule.score is not None else [])]


def _choices() -> tuple[dict[str, Type], dict[str, list[Any]]]:
    """The signals of the library, and values for signals and fields: what they are compared with, and near it."""
    types: dict[str, Type] = {}
    values: dict[str, set[Any]] = defaultdict(set)
    for node in (node for rule in RULES for part in _expressions(rule) for node in walk(part)):
        if isinstance(node, SignalRead):
            types[node.name] = node.type
        constants = [each.value for each in node.operands if isinstance(each, Constant)]
        constants += node.choices if isinstance(node, Membership) else ()
        for leaf in walk(node) if constants else ():
            if isinstance(leaf, SignalRead | ItemField):
                values[leaf.name].update(each for each in constants if Type.of(each) is leaf.type)
    near = {name: sorted(each, key=repr) for name, each in values.items()}
    return types, near


TYPES, NEAR = _choices()


def draw(chance: random.Random, name: str, kind: Type, unknown: float = 0.1) -> Any:
    if chance.random() < unknown:
        return None
    if kind is Type.BOOLEAN:
        return chance.random() < 0.5
    chosen = chance.choice(NEAR.get(name) or (["other"] if kind is Type.TEXT else [0.0]))
    return chosen if kind is Type.TEXT else chosen * chance.choice((-1, 1, 1, 1)) + chance.choice((-1.0, 0.0, 1.0, 9.0))


def items(chance: random.Random, population: Population, time_ns: int) -> list[Any] | None:
    """None, no items, or some that mostly stay from tick to tick."""
    kind = chance.random()
    if kind < 0.15:
        return None if kind < 0.07 else []
    fields = FIELDS[population]
    found: list[Any] = []
    for number in range(chance.randint(1, 6)):
        if population is Population.CAMERAS:
            sure = {"camera": CAMERAS[number % 4], "state": draw(chance, "state", Type.TEXT, 0), "is_missing": False}
            rest = {name: draw(chance, name, fields[name]) for name in list(fields)[3:]}
            found += [CameraView(**sure, **rest)] if number < 4 else []
            continue
        rest = {name: draw(chance, name, kind) for name, kind in fields.items() if name in SETTABLE[population]}
        rest["class_name"] = draw(chance, "class_name", Type.TEXT, 0)
        if population is Population.OBJECTS:
            found.append(ControllerObject(object_id=number, **rest))
        else:
            left, top, size = chance.uniform(0, 1900), chance.uniform(0, 900), chance.choice((8, 30, 90, 300))
            box = (left, top, left + size, top + size * 0.8)
            sure = {"camera": CAMERAS[number % 4], "visible": chance.random() < 0.8, "score": chance.random()}
            found.append(make_track(number, time_ns, box_px=box, **(rest | sure)))
    return found


SETTABLE: Mapping[Population, frozenset[str]] = {
    Population.TRACKS: frozenset(FIELDS[Population.TRACKS])
    - {"track_id", "age_s", "border_px", "stands_on", "visible"}
    - {f"{side}_px" for side in ("left", "top", "right", "bottom", "width", "height")},
    Population.OBJECTS: frozenset(FIELDS[Population.OBJECTS]) - {"object_id", "age_s"},
}


class Drive:
    """Random ticks in which things mostly stay as they were."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._values = {name: draw(chance, name, kind, 0.05) for name, kind in TYPES.items()}
        self._items: dict[Population, Any] = dict.fromkeys(Population)

    def scene(self, time_ns: int) -> tuple[Any, ...]:
        """What an engine is given at one tick."""
        chance = self._chance
        for name in chance.sample(sorted(TYPES), len(TYPES) // 12):
            self._values[name] = draw(chance, name, TYPES[name], 0.05)
        for population in Population:
            if chance.random() < 0.3:
                self._items[population] = items(chance, population, time_ns)
        known = {name: value for name, value in self._values.items() if isinstance(value, bool)}
        samples = [SignalSample(name, time_ns - MILLISECOND, chance.random() < 0.5) for name in known]
        tracks, objects, cameras = self._items.values()
        return tracks, Signals(dict(self._values), samples), time_ns, time_ns, objects, cameras


def choose(chance: random.Random, count: int) -> RuleSet:
    return RuleSet(tuple(chance.choice((rule, rule, told(rule), asked(rule))) for rule in chance.sample(RULES, count)))


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32), st.integers(1, len(RULES)))
def test_firings_scores_tallies_and_states_are_those_of_computing_everything_on_every_tick(seed: int, few: int) -> None:
    chance = random.Random(seed)
    sets = [RuleSet(tuple(RULES)), choose(chance, len(RULES)), choose(chance, few), RuleSet(tuple(RULES))]
    lazy = RuleEngine(sets[0], seed=1, image_sizes=IMAGE_SIZES)
    with patch("triggers.evaluation.program.Schedule", Eager):
        eager = RuleEngine(sets[0], seed=1, image_sizes=IMAGE_SIZES)
    drive = Drive(chance)
    for tick in range(48):
        if tick % 12 == 11 and tick < 40:
            lazy.swap(lazy.prepare(sets[1 + tick // 12]))
            with patch("triggers.evaluation.program.Schedule", Eager):
                eager.swap(eager.prepare(sets[1 + tick // 12]))
        time_ns = SECOND + tick * 100 * MILLISECOND
        given_ = drive.scene(time_ns)
        expected = eager.evaluate(*given_)
        assert lazy.evaluate(*given_) == expected
        assert lazy.status() == eager.status()
    assert lazy.ledger == eager.ledger
    assert lazy.not_understood == eager.not_understood
    assert lazy.save() == eager.save()


def test_the_random_drives_make_most_of_the_library_go_off() -> None:
    drive, fired = Drive(random.Random(5)), Counter[str]()
    engine = RuleEngine(RuleSet(tuple(RULES)), seed=1, image_sizes=IMAGE_SIZES)
    for tick in range(1500):
        time_ns = SECOND + tick * 100 * MILLISECOND
        fired.update(firing.rule for firing in engine.evaluate(*drive.scene(time_ns)))
    assert len(fired) > len(RULES) / 2


def counted(program: Program, expression: Expression) -> Counter[str]:
    """How often the part of an expression is computed from now on."""
    count, key = Counter[str](), ("node", expression.key)
    part: Part = program._parts[key]
    assert part.step is not None
    inner = part.step

    def step() -> None:
        count["computed"] += 1
        inner()

    part.step = step
    return count


@pytest.mark.parametrize(("speed_mps", "value", "times"), [(1.0, False, 0), (None, None, 1), (9.0, True, 1)])
def test_items_are_looked_at_unless_a_signal_says_already_that_the_condition_is_false(
    speed_mps: float | None, value: bool | None, times: int
) -> None:
    first, _ = program_of("vehicle.speed_mps > 5 and any_track(score * 2 > 1)", Type.BOOLEAN)
    condition = check("vehicle.speed_mps > 5 and any_track(score * 2 > 1)", Scope(), Type.BOOLEAN)
    product = next(node for node in walk(condition) if getattr(node, "name", "") == "*")
    count = counted(first, product)
    program = first.evolve([condition])
    program.run([make_track()], Signals({"vehicle.speed_mps": speed_mps}), SECOND)
    assert program.value(program.slot(condition)) is value
    assert count["computed"] == times


@pytest.mark.parametrize(("tracks", "value"), [(None, None), ([], 0.0), ([make_track()], 1.0)])
def test_an_operand_over_items_is_computed_on_demand_whether_there_are_items_or_not(
    tracks: list[Any] | None, value: float | None
) -> None:
    condition = check("vehicle.speed_mps > 5", Scope(), Type.BOOLEAN)
    operand = check("count_tracks(score > 0.5)", Scope(), Type.NUMBER)
    program = Program([condition], 0, {}, [operand])
    demand = program.demand([operand], condition)
    count = counted(program, operand.operands[0])
    program.run(tracks, Signals({"vehicle.speed_mps": 9.0}), SECOND)
    assert not count["computed"]
    program.compute(demand)
    assert program.value(program.slot(operand)) == value
