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
from triggers.evaluation.chance import Draws
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.windows import EventWindow, ExtremeWindow, LagWindow, MomentWindow, TotalWindow


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
_LONG_AGO_NS = -(2**62)


_Numbers: TypeAlias = "ExtremeWindow | TotalWindow | MomentWindow"
_LARGEST = 1.7976931348623157e308


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
        decided_ns = _LONG_AGO_NS
        gap_ns: int | None = None  # the newest time not known: before the first tick, or when it was unknown

        def step() -> None:
            nonlocal decided_ns, gap_ns
            value, time_ns = slots[operand], tick.time_ns
            if gap_ns is None:
                gap_ns = time_ns - 1
            if value is decisive:
                decided_ns = time_ns
                slots[out] = decisive
                return
            if value is None:
                gap_ns = time_ns
            start_ns = time_ns - length_ns
            if decided_ns >= start_ns:
                slots[out] = decisive
            else:
                slots[out] = (not decisive) if gap_ns < start_ns else None

        return step

    return make


def _events(count_edges: Callable[[Any], int]) -> TemporalMaker:
    """count_within (edges upward) and flips (all edges)."""

    def make(made: Temporal) -> Step:
        slots, out, operand, watch, tick = made.slots, made.out, made.operand, made.watch, made.tick
        window, length_ns = EventWindow(made.length_ns), made.length_ns
        made.windows.append(window)
        gap_ns: int | None = None

        def step() -> None:
            nonlocal gap_ns
            sequence, time_ns = slots[watch], tick.time_ns
            window.push(time_ns, count_edges(sequence) if sequence else 0)
            if gap_ns is None:
                gap_ns = time_ns - 1
            if slots[operand] is None:
                gap_ns = time_ns
            slots[out] = float(window.total()) if gap_ns < time_ns - length_ns else None

        return step

    return make


def _numeric(make: Callable[[int], _Numbers], read: str, sign: int = 1) -> TemporalMaker:
    """min_within and max_within (of negated values), mean_within, std_within: what the window's method `read` gives."""

    def maker(made: Temporal) -> Step:
        slots, out, operand, tick, length_ns = made.slots, made.out, made.operand, made.tick, made.length_ns
        window = make(length_ns)
        made.windows.append(window)
        push, result_of = window.push, getattr(window, read)
        gap_ns: int | None = None

        def step() -> None:
            nonlocal gap_ns
            value, time_ns = slots[operand], tick.time_ns
            if value is None:
                gap_ns = time_ns
                slots[out] = None
                return
            if gap_ns is None:
                gap_ns = time_ns - 1
            push(time_ns, sign * value)
            if gap_ns < time_ns - length_ns:
                result = sign * result_of()
                slots[out] = result if -_LARGEST <= result <= _LARGEST else None
            else:
                slots[out] = None

        return step

    return maker


def _lagged(combine: Callable[[Any, Any, float], Any] | None) -> TemporalMaker:
    """lag (None), delta and rate: `combine(now, then, seconds between)`, where now may be unknown."""

    def make(made: Temporal) -> Step:
        slots, out, operand, tick = made.slots, made.out, made.operand, made.tick
        window = LagWindow(made.length_ns)
        made.windows.append(window)
        see = window.see

        def step() -> None:
            value = slots[operand]
            time_ns = tick.time_ns
            then_ns, then = see(time_ns, value)
            if then is None or combine is None:
                slots[out] = then
            else:
                slots[out] = combine(value, then, (time_ns - then_ns) / NANOSECONDS_PER_SECOND)

        return step

    return make


def _delta(now: float | None, then: float, between_s: float) -> float | None:
    return None if now is None or not math.isfinite(now - then) else now - then


def _rate(now: float | None, then: float, between_s: float) -> float | None:
    change = _delta(now, then, between_s)
    return None if change is None or not math.isfinite(change / between_s) else change / between_s


def _at_random(made: Temporal) -> Step:
    slots, out, seconds, tick = made.slots, made.out, made.seconds, made.tick
    draw = Draws(tick.seed, "at_random", seconds)

    def step() -> None:
        if tick.previous_ns is None:
            slots[out] = False
            return
        elapsed_s = (tick.time_ns - tick.previous_ns) / NANOSECONDS_PER_SECOND
        probability = -math.expm1(-elapsed_s / seconds)  # of at least one event of a Poisson process
        slots[out] = draw.at(tick.time_ns) < probability

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
    "min_within": _numeric(ExtremeWindow, "smallest"),
    "max_within": _numeric(ExtremeWindow, "smallest", sign=-1),
    "mean_within": _numeric(TotalWindow, "mean"),
    "std_within": _numeric(MomentWindow, "deviation"),
    "lag": _lagged(None),
    "delta": _lagged(_delta),
    "rate": _lagged(_rate),
    "at_random": _at_random,
}
