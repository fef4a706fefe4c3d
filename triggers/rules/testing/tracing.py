"""Plays a failed test again and asks, on every tick, what the condition and its parts were.

The questions are operands of a second rule that goes off on every tick, so that they are answered by the engine that
decides about the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.formats.documents import Document, DocumentError, validate
from runtime.messages import Firing, SignalValue
from triggers.engine import RuleEngine
from triggers.language.types import Type
from triggers.rules.format import BudgetSection, RuleFile
from triggers.rules.memory import WindowBudget
from triggers.rules.rule import Rule, RuleSet
from triggers.rules.rule_reader import RuleReader
from triggers.rules.testing.format import TestSection
from triggers.rules.testing.parts import Items, Question, questions_about
from triggers.rules.testing.scene import Scene, scene_at
from triggers.states import RuleState

#: The name of the rule that goes off on every tick; no written rule can have it.
WITNESS = "every tick"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one part was at one tick, by item ("": the whole scene): its value, and the numbers that it compares."""

    label: str
    depth: int
    values: Mapping[str, SignalValue | None]
    numbers: Mapping[str, Sequence[SignalValue | None]]


@dataclass(slots=True)
class Trace:
    """Every tick of a failed test."""

    rule: Rule
    rate_hz: float
    questions: Sequence[Question]
    states: list[RuleState] = field(default_factory=list)
    ticks: list[Mapping[str, SignalValue | None]] = field(default_factory=list)  # the witness's operands

    def tick_at(self, time_s: float) -> int:
        """The number of the tick at a time."""
        return min(max(round(time_s * self.rate_hz), 0), len(self.ticks) - 1)

    def conditions(self) -> list[SignalValue | None]:
        """The condition's value at every tick."""
        return [values["when"] for values in self.ticks]

    def operands(self, tick: int) -> dict[str, SignalValue | None]:
        """The rule's operands and the condition's signals at a tick."""
        values = self.ticks[tick]
        own = {name: values[f"operand {name}"] for name in self.rule.operands}
        return {**{name: values[f"signal {name}"] for name in self.rule.signals}, **own}

    def answers(self, tick: int) -> list[Answer]:
        """The condition's parts at a tick."""
        values = self.ticks[tick]
        answers = []
        for number, question in enumerate(self.questions):
            found = {item: values[_key(number, item)] for item in question.asks}
            numbers = {
                item: [values[_key(number, item, place)] for place in range(len(texts))]
                for item, texts in question.compares.items()
            }
            answers.append(Answer(question.label, question.depth, found, numbers))
        return answers


def engine_for(rules: tuple[Rule, ...], test: TestSection) -> RuleEngine:
    """An engine for these rules of a test."""
    size_px = test.image_size_px
    cameras = {track.camera for track in test.tracks or ()} | set(test.cameras or ())
    return RuleEngine(RuleSet(rules), seed=0, image_sizes=dict.fromkeys(cameras, size_px) if size_px else None)


def step(engine: RuleEngine, scene: Scene) -> list[Firing]:
    """Evaluate one scene."""
    return engine.evaluate(
        scene.tracks, scene.signals, scene.time_ns, scene.time_ns, objects=scene.objects, cameras=scene.cameras
    )


def trace(document: Document, rules: RuleSet, rule: Rule, test: TestSection, declared: Mapping[str, Type]) -> Trace:
    """Play `test` again, asking about every part of `rule`."""
    section = next(each for each in document.data["rules"] if each["name"] == rule.name)
    tracks, objects = range(1, len(test.tracks or ()) + 1), range(1, len(test.objects or ()) + 1)
    items = Items(tracks, objects, sorted(test.cameras or ()))
    questions = questions_about(section["when"], document.data.get("let") or {}, items)
    played = Trace(rule, test.rate_hz, questions)
    engine = engine_for((rule, _witness(document, rules, rule, questions, declared)), test)
    for tick in range(round(test.duration_s * test.rate_hz) + 1):
        firings = step(engine, scene_at(test, tick))
        played.ticks += [firing.operands for firing in firings if firing.rule == WITNESS]
        played.states.append(engine.status()[rule.name].state)
    return played


def _key(number: int, item: str, place: int | None = None) -> str:
    return f"{number} {item}" if place is None else f"{number} {item} {place}"


def _witness(
    document: Document, rules: RuleSet, rule: Rule, questions: Sequence[Question], declared: Mapping[str, Type]
) -> Rule:
    """A rule that goes off on every tick and keeps the answers to all questions."""
    file = validate(document, RuleFile)
    section = next(section for section in file.rules if section.name == rule.name)
    operands = {"when": section.when}
    operands |= {f"signal {name}": name for name in rule.signals}
    operands |= {f"operand {name}": text for name, text in section.operands.items()}
    for number, question in enumerate(questions):
        operands |= {_key(number, item): text for item, text in question.asks.items()}
        for item, texts in question.compares.items():
            operands |= {_key(number, item, place): text for place, text in enumerate(texts)}
    always = {"name": WITNESS, "when": "True", "operands": operands, "hold_s": 0.0, "cooldown_s": 0.0}
    every_tick = section.model_copy(update={**always, "rearm": "level", "sample": 1.0, "budget": BudgetSection()})
    changed = file.model_copy(update={"rules": (every_tick,)})
    reader = RuleReader(document, changed, declared, rules.queries, rules.classifiers, WindowBudget())
    witnesses = reader.read({})
    if reader.problems:
        raise DocumentError(reader.problems)
    return witnesses[0]
