"""Rules over the recorded ticks of one drive, through the engine's own `evaluate`.

Rules that cannot fire on this drive are left out by name (they would cost time and change nothing). A first pass
runs all others as they are, with cooldown, sampling and budgets. Where sampling or a budget held something back, a
second pass runs those rules alone without them: its firings are the events before selection, which costs "before"
and precision and recall are made from.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from replay.backtest.clip_costs import ClipSettling
from replay.backtest.recorded_ticks import Block, RecordedTick, play_block
from replay.backtest.tick_file import DriveFacts
from replay.truth import Grades, grade
from runtime.drives import TruthEvent
from runtime.messages import NANOSECONDS_PER_SECOND, Firing, SignalValue
from triggers import Budget, RuleEngine, RuleSet

SEED = 0
COOLDOWN = "cooldown"
#: Points of a signal's curve in the report.
CURVE_POINTS = 1200
CURVES = ("vehicle.speed_mps", "controller.enabled")


#: Ticks between two looks at what was suppressed: marks are that exact.
LOOK_TICKS = 10
#: Marks that are kept for the report; what is beyond is counted all the same.
MAX_SUPPRESSED_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class SuppressedEvent:
    """An event that was not kept."""

    rule: str
    time_ns: int
    reason: str


@dataclass(slots=True)
class DriveOutcome:
    """What the rules did on one drive."""

    path: Path
    facts: DriveFacts
    kept: list[Firing]
    events: list[Firing]  # before sampling and budgets
    suppressed: Mapping[str, Mapping[str, int]]
    suppressed_events: list[SuppressedEvent]
    not_applicable: Mapping[str, str]
    truth: tuple[TruthEvent, ...] | None
    grades: Grades | None
    curves: Mapping[str, list[tuple[float, SignalValue | None]]]  # seconds from the start, value
    was_cached: bool
    evaluation_s: float  # spent on rules, all passes
    recording_s: float  # spent on getting the ticks
    notes: list[str] = field(default_factory=list)

    @property
    def bytes_per_s(self) -> dict[str, float]:
        """What each camera recorded."""
        return self.facts.bytes_per_s

    def elapsed_s(self, time_ns: int) -> float:
        """Seconds from the drive's start."""
        return (time_ns - self.facts.start_ns) / NANOSECONDS_PER_SECOND


@dataclass(slots=True)
class RuleRun:
    """What one pass of rules over recorded ticks brought."""

    firings: list[Firing] = field(default_factory=list)
    suppressed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    suppressed_events: list[SuppressedEvent] = field(default_factory=list)  # `LOOK_TICKS` late at most


def not_applicable(rules: RuleSet, facts: DriveFacts) -> dict[str, str]:
    """Rules that cannot fire on this drive with this model, with the reason of each."""
    return rules.not_applicable(facts.capabilities)


def run_rules(
    blocks: Iterator[Block],
    rules: RuleSet,
    facts: DriveFacts,
    watch: Callable[[int, RecordedTick], None] | None = None,
) -> RuleRun:
    """One pass. `watch` sees every tick."""
    engine = RuleEngine(rules, seed=SEED, image_sizes=facts.image_sizes)
    engine.bytes_per_s = sum(facts.bytes_per_s.values())
    settling = ClipSettling(facts.bytes_per_s)
    run = RuleRun()
    with _without_collector():
        for index, tick in enumerate(tick for block in blocks for tick in play_block(block)):
            for firing, share in settling.sealed(tick.time_ns):
                engine.settle(firing.sequence, share, firing.time_ns)
            if firings := tick.evaluate(engine):
                run.firings += firings
                settling.take(firings)
            if watch is not None:
                watch(index, tick)
            if index % LOOK_TICKS == 0:
                _look(run, engine, tick.time_ns)
        if run.firings or engine.suppressed:
            _look(run, engine, tick.time_ns)
    return run


@contextmanager
def _without_collector() -> Iterator[None]:
    """No search for reference cycles while millions of tracks come and go; there are none among them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _look(run: RuleRun, engine: RuleEngine, time_ns: int) -> None:
    now = engine.suppressed
    for rule, reasons in now.items():
        for reason, count in reasons.items():
            room = MAX_SUPPRESSED_EVENTS - len(run.suppressed_events)
            new = count - run.suppressed.get(rule, {}).get(reason, 0)
            run.suppressed_events += [SuppressedEvent(rule, time_ns, reason)] * min(new, room)
    run.suppressed = now


@dataclass(slots=True)
class _Curves:
    """Takes down some signals as they go by."""

    stride: int
    start_ns: int
    points: dict[str, list[tuple[float, SignalValue | None]]] = field(
        default_factory=lambda: {name: [] for name in CURVES}
    )

    def see(self, index: int, tick: RecordedTick) -> None:
        if index % self.stride == 0:
            at_s = round((tick.time_ns - self.start_ns) / NANOSECONDS_PER_SECOND, 2)
            for name, points in self.points.items():
                points.append((at_s, tick.signals.value(name)))


def evaluate_drive(
    path: Path,
    facts: DriveFacts,
    truth: tuple[TruthEvent, ...] | None,
    blocks: Callable[[], Iterator[Block]],
    rules: RuleSet,
    was_cached: bool = True,
    recording_s: float = 0.0,
    notes: Sequence[str] = (),
) -> DriveOutcome:
    """Both passes over one drive, graded where there is truth."""
    began_s = time.perf_counter()
    lacking = not_applicable(rules, facts)
    able = replace(rules, rules=tuple(rule for rule in rules.rules if rule.name not in lacking))
    curves = _Curves(max(1, facts.ticks // CURVE_POINTS), facts.start_ns)
    first = run_rules(blocks(), able, facts, curves.see)
    events = _before_selection(first, able, blocks, facts)
    times = [(firing.rule, firing.time_ns) for firing in events]
    return DriveOutcome(
        path=path,
        facts=facts,
        kept=first.firings,
        events=events,
        suppressed=first.suppressed,
        suppressed_events=first.suppressed_events,
        not_applicable=lacking,
        truth=truth,
        grades=None if truth is None else grade(truth, times, [rule.name for rule in rules.rules]),
        curves=curves.points,
        was_cached=was_cached,
        evaluation_s=time.perf_counter() - began_s,
        recording_s=recording_s,
        notes=[*notes, *facts.notes],
    )


def _before_selection(
    first: RuleRun, rules: RuleSet, blocks: Callable[[], Iterator[Block]], facts: DriveFacts
) -> list[Firing]:
    """The events before sampling and budgets: what fires when both are taken from the rules that they held back."""
    selective = {rule for rule, reasons in first.suppressed.items() if reasons.keys() - {COOLDOWN}}
    if not selective:
        return first.firings
    unlimited = tuple(
        replace(rule, budget=Budget(), sample=1.0, score=None, campaign="")
        for rule in rules.rules
        if rule.name in selective
    )
    second = run_rules(blocks(), replace(rules, rules=unlimited, terms={}), facts)
    untouched = [firing for firing in first.firings if firing.rule not in selective]
    return sorted([*untouched, *second.firings], key=lambda firing: (firing.time_ns, firing.rule))
