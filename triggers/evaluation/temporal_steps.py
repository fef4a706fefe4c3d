"""Closures for operators that remember earlier ticks. Each owns its state; time comes from the shared tick.

A window knows only what it saw in full: `all_within(x, 3)` is unknown until three seconds were seen, and a numeric
window is unknown while it holds an unknown value. `any_within` is true as soon as one tick was true, and
`all_within` false as soon as one was false (Kleene again: the rest cannot change it).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from runtime.messages import NANOSECONDS_PER_SECOND, SignalReader
from triggers.evaluation.chance import uniform
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.windows import Coverage, EventWindow, ExtremeWindow, LagWindow, MomentWindow, TotalWindow


@dataclass(slots=True)
class Tick:
    """The tick that is being evaluated; shared by every closure that needs time or samples."""

    seed: int
    time_ns: int = 0
    previous_ns: int | None = None
    signals: SignalReader | None = None


@dataclass(frozen=True, slots=True)
class Temporal:
    """What a temporal closure is made from. `watch` is the slot of the operand's edges, for those that need them."""

    slots: Slots
    out: int
    operand: int
    watch: int
    seconds: float
    tick: Tick
    windows: list[Sized] = field(default_factory=list)  # what the closure keeps, to account for memory

    @property
    def length_ns(self) -> int:
        """The window's length."""
        return round(self.seconds * NANOSECONDS_PER_SECOND)


TemporalMaker: TypeAlias = Callable[[Temporal], Step]


def _since_s(made: Temporal) -> Step:
    slots, out, operand, tick = made.slots, made.out, made.operand, made.tick
    last_true_ns: int | None = None  # also None after an unknown tick: it may have been true then

    def step() -> None:
        nonlocal last_true_ns
        value = slots[operand]
        if value is not False:
            last_true_ns = tick.time_ns if value else None
        slots[out] = None if last_true_ns is None else (tick.time_ns - last_true_ns) / NANOSECONDS_PER_SECOND

    return step


def _within(decisive: bool) -> TemporalMaker:
    """any_within (one true decides) and all_within (one false decides)."""

    def make(made: Temporal) -> Step:
        slots, out, operand, tick, length_ns = made.slots, made.out, made.operand, made.tick, made.length_ns
        coverage = Coverage(length_ns)
        last_decisive_ns: int | None = None

        def step() -> None:
            nonlocal last_decisive_ns
            value, time_ns = slots[operand], tick.time_ns
            is_covered = coverage.see(time_ns, value is not None)
            if value is decisive:
                last_decisive_ns = time_ns
            if last_decisive_ns is not None and last_decisive_ns >= time_ns - length_ns:
                slots[out] = decisive
            else:
                slots[out] = (not decisive) if is_covered else None

        return step

    return make


def _events(count_edges: Callable[[Any], int]) -> TemporalMaker:
    """count_within (edges upward) and flips (all edges)."""

    def make(made: Temporal) -> Step:
        slots, out, operand, watch, tick = made.slots, made.out, made.operand, made.watch, made.tick
        coverage, window = Coverage(made.length_ns), EventWindow(made.length_ns)
        made.windows.append(window)

        def step() -> None:
            sequence = slots[watch]
            window.push(tick.time_ns, count_edges(sequence) if sequence else 0)
            is_covered = coverage.see(tick.time_ns, slots[operand] is not None)
            slots[out] = float(window.total()) if is_covered else None

        return step

    return make


def _extreme(sign: int) -> TemporalMaker:
    def make(made: Temporal) -> Step:
        slots, out, operand, tick = made.slots, made.out, made.operand, made.tick
        coverage, window = Coverage(made.length_ns), ExtremeWindow(made.length_ns)
        made.windows.append(window)

        def step() -> None:
            value = slots[operand]
            is_covered = coverage.see(tick.time_ns, value is not None)
            if value is not None:
                window.push(tick.time_ns, sign * value)
            slots[out] = sign * window.smallest() if is_covered else None

        return step

    return make


def _averaged(make: Callable[[int], TotalWindow | MomentWindow], read: str) -> TemporalMaker:
    """mean_within and std_within: what the window's method `read` gives."""

    def maker(made: Temporal) -> Step:
        slots, out, operand, tick = made.slots, made.out, made.operand, made.tick
        coverage, window = Coverage(made.length_ns), make(made.length_ns)
        made.windows.append(window)
        push, average = window.push, getattr(window, read)

        def step() -> None:
            value = slots[operand]
            is_covered = coverage.see(tick.time_ns, value is not None)
            if value is not None:
                push(tick.time_ns, value)
            result = average() if is_covered else math.nan
            slots[out] = result if math.isfinite(result) else None

        return step

    return maker


def _lagged(combine: Callable[[Any, Any, float], Any]) -> TemporalMaker:
    """lag, delta and rate: `combine(now, then, seconds between)`, where now may be unknown."""

    def make(made: Temporal) -> Step:
        slots, out, operand, tick = made.slots, made.out, made.operand, made.tick
        window = LagWindow(made.length_ns)
        made.windows.append(window)

        def step() -> None:
            value = slots[operand]
            window.push(tick.time_ns, value)
            then_ns, then = window.oldest(tick.time_ns)
            between_s = (tick.time_ns - then_ns) / NANOSECONDS_PER_SECOND
            slots[out] = None if then is None else combine(value, then, between_s)

        return step

    return make


def _delta(now: float | None, then: float, between_s: float) -> float | None:
    return None if now is None or not math.isfinite(now - then) else now - then


def _rate(now: float | None, then: float, between_s: float) -> float | None:
    change = _delta(now, then, between_s)
    return None if change is None or not math.isfinite(change / between_s) else change / between_s


def _at_random(made: Temporal) -> Step:
    slots, out, seconds, tick = made.slots, made.out, made.seconds, made.tick

    def step() -> None:
        if tick.previous_ns is None:
            slots[out] = False
            return
        elapsed_s = (tick.time_ns - tick.previous_ns) / NANOSECONDS_PER_SECOND
        probability = -math.expm1(-elapsed_s / seconds)  # of at least one event of a Poisson process
        slots[out] = uniform(tick.seed, "at_random", seconds, tick.time_ns) < probability

    return step


def count_rises(sequence: list[Any]) -> int:
    """Changes from false to true in a watch's sequence."""
    return sum(before is False and after is True for before, after in itertools.pairwise(sequence))


def count_changes(sequence: list[Any]) -> int:
    """Changes between known values in a watch's sequence."""
    pairs = itertools.pairwise(sequence)
    return sum(before is not None and after is not None and before != after for before, after in pairs)


TEMPORAL_STEPS: Mapping[str, TemporalMaker] = {
    "since_s": _since_s,
    "any_within": _within(decisive=True),
    "all_within": _within(decisive=False),
    "count_within": _events(count_rises),
    "flips": _events(count_changes),
    "min_within": _extreme(1),
    "max_within": _extreme(-1),
    "mean_within": _averaged(TotalWindow, "mean"),
    "std_within": _averaged(MomentWindow, "deviation"),
    "lag": _lagged(lambda now, then, between_s: then),
    "delta": _lagged(_delta),
    "rate": _lagged(_rate),
    "at_random": _at_random,
}
