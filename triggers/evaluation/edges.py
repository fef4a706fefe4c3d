"""Edges between ticks. A watch follows one expression and yields the values that it took since the last tick.

Signals arrive faster than ticks: a brake pedal that was pressed and released between two ticks must still count
as pressed. A watch over an expression of signals alone is therefore computed once per latched sample, in the order
of time (samples of the same time together); over anything else, once a tick. Its slot holds the sequence
`[value at the last tick, ..., value now]`, or None when nothing changed (the usual case, and the cheapest).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.messages import SignalSample
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.signal_values import Converter
from triggers.evaluation.temporal_steps import Tick
from triggers.language.types import Value

MAX_LATCHED = 1024  # samples of one watch in one tick; beyond, only the newest count


@dataclass(frozen=True, slots=True)
class LatchedSignal:
    """A signal of a watch: where it stands in the program and in the watch's own small copy of it."""

    name: str
    convert: Converter
    slot: int
    copy_slot: int


@dataclass(slots=True)
class Replay:
    """The watched expression again, apart from the program, to compute it at each latched sample."""

    slots: Slots
    steps: list[Step] = field(default_factory=list)
    signals: list[LatchedSignal] = field(default_factory=list)
    out: int = 0

    def run(self, tick: Tick) -> list[Value]:
        """The expression's value after each latched sample of this tick."""
        assert tick.signals is not None
        samples_of = tick.signals.samples
        latched = [samples_of(signal.name) for signal in self.signals]
        if sum(map(len, latched)) < 2:
            return []  # the value at the tick says it all
        arrivals: list[tuple[SignalSample, LatchedSignal]] = []
        for samples, signal in zip(latched, self.signals, strict=True):
            arrivals.extend((sample, signal) for sample in samples[-MAX_LATCHED:])
        arrivals.sort(key=lambda arrival: arrival[0].time_ns)
        return self._play(arrivals)

    def _play(self, arrivals: Sequence[tuple[SignalSample, LatchedSignal]]) -> list[Value]:
        values: list[Value] = []
        for position, (sample, signal) in enumerate(arrivals):
            self.slots[signal.copy_slot] = signal.convert(sample.value)
            is_last_of_time = position + 1 == len(arrivals) or arrivals[position + 1][0].time_ns != sample.time_ns
            if is_last_of_time:
                for step in self.steps:
                    step()
                values.append(self.slots[self.out])
        return values

    def follow(self, slots: Slots) -> None:
        """Take over the signals as they stand at this tick, to start from at the next one."""
        for signal in self.signals:
            self.slots[signal.copy_slot] = slots[signal.slot]


def watch_step(slots: Slots, out: int, operand: int, tick: Tick, replay: Replay | None) -> Step:
    """Follow `operand`; see the module's text for what is written to `out`."""
    previous: Value = None

    def step() -> None:
        nonlocal previous
        now = slots[operand]
        between: list[Value] = []
        if replay is not None:
            between = replay.run(tick)
            replay.follow(slots)
        if not between and now == previous and now is not None:
            slots[out] = None
        else:
            slots[out] = [previous, *between, now]
        previous = now

    return step


def _any_pair(is_edge: Callable[[Value, Value], bool | None]) -> Callable[[list[Value]], bool | None]:
    """Kleene's `or` of an edge test over neighbours."""

    def test(sequence: list[Value]) -> bool | None:
        found: bool | None = False
        for before, after in itertools.pairwise(sequence):
            edge = is_edge(before, after)
            if edge:
                return True
            if edge is None:
                found = None
        return found

    return test


def _step_to(target: bool) -> Callable[[Value, Value], bool | None]:
    """`before is not target and after is target`, in three values."""

    def is_edge(before: Value, after: Value) -> bool | None:
        if before is target or after is (not target):
            return False
        return None if before is None or after is None else True

    return is_edge


def _differs(before: Value, after: Value) -> bool | None:
    return None if before is None or after is None else before != after


EDGE_TESTS: Mapping[str, Callable[[list[Value]], bool | None]] = {
    "rising": _any_pair(_step_to(True)),
    "falling": _any_pair(_step_to(False)),
    "changed": _any_pair(_differs),
}


def edge_step(slots: Slots, out: int, watch: int, test: Callable[[list[Value]], bool | None]) -> Step:
    """rising, falling, changed."""

    def step() -> None:
        sequence = slots[watch]
        slots[out] = False if sequence is None else test(sequence)

    return step


def added_step(slots: Slots, out: int, watch: int) -> Step:
    """Entries of a comma-joined list that were not in it before, against the last list that was known."""
    last: frozenset[str] = frozenset()

    def step() -> None:
        nonlocal last
        sequence: list[Any] | None = slots[watch]
        if sequence is None:
            slots[out] = ""
            return
        known = [value for value in sequence[1:] if value is not None]
        new: set[str] = set()
        for value in known:
            entries = frozenset(entry for entry in value.split(",") if entry)
            new |= entries - last
            last = entries
        slots[out] = ",".join(sorted(new)) if known else None

    return step
