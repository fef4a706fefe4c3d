"""Small means to drive programs and engines tick by tick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from runtime.messages import SignalSample, SignalValue, Track
from triggers import RuleEngine, load_rules
from triggers.evaluation.program import Program
from triggers.language.checking import check
from triggers.language.scope import Scope
from triggers.language.types import Type, Value

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class Signals:
    """The signals of one tick; `samples` are those that arrived since the tick before."""

    def __init__(self, values: Mapping[str, SignalValue | None], samples: Iterable[SignalSample] = ()) -> None:
        self._values = values
        self._samples = list(samples)

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return [sample for sample in self._samples if sample.name == name]

    def names(self) -> Sequence[str]:
        return list(self._values)


def program_of(text: str, expected: Type = Type.ANY, seed: int = 0) -> tuple[Program, int]:
    """A program of one expression, and the slot of its value."""
    expression = check(text, Scope(), expected)
    program = Program([expression], seed, {})
    return program, program.slot(expression)


def values_of(text: str, trace: Sequence[tuple[int, Mapping[str, Value]]]) -> list[Value]:
    """The value of an expression at each tick (time in ms, signals) of a trace."""
    program, slot = program_of(text)
    values = []
    for time_ms, signals in trace:
        program.run([], Signals(signals), time_ms * MILLISECOND)
        values.append(program.value(slot))
    return values


def value_of(text: str, signals: Mapping[str, Value] | None = None, tracks: Sequence[Track] | None = ()) -> Value:
    """The value of an expression at a single tick."""
    program, slot = program_of(text)
    program.run(tracks, Signals(signals or {}), SECOND)
    return program.value(slot)


def make_track(track_id: int = 1, time_ns: int = SECOND, **fields: object) -> Track:
    """A track that is seen now."""
    values: dict[str, object] = {
        "camera": "front",
        "class_name": "car",
        "score": 0.9,
        "box_px": (100.0, 100.0, 140.0, 130.0),
        "first_seen_ns": 0,
        "last_seen_ns": time_ns,
        "visible": True,
    }
    return Track(track_id=track_id, **{**values, **fields})  # type: ignore[arg-type]


def engine_of(folder: Path, rule: str, seed: int = 0) -> RuleEngine:
    """An engine with one rule, `probe`; `rule` is the rest of its YAML."""
    path = folder / "rules.yaml"
    path.write_text(f"rules:\n  - name: probe\n    description: A probe.\n{rule}")
    return RuleEngine(load_rules([path]), seed=seed)
