"""Why a test failed, for people: expected against got, and what the condition was at every difference.

expected firings at [2.1] s, fired at [4.5] s
  expected    got
  2.1 s       -           missing: the condition is unknown
  -           4.5 s       unexpected
the condition is unknown from 0 s, false from 1 s, true from 4.5 s
at 2.1 s, where a firing is missing (the rule is inactive):
  unknown   any_track(lane == "ego")
  unknown     lane == "ego"                             track 1: unknown
at 4.5 s, where a firing is unexpected:
  speed_mps = 20
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from runtime.messages import NANOSECONDS_PER_SECOND, Firing, SignalValue
from triggers.rules.testing.format import TestSection
from triggers.rules.testing.tracing import Answer, Trace

MAX_SHOWN_TIMES = 20
MAX_EXPLAINED = 3  # differences of each kind
MAX_STRETCHES = 12


def headline(test: TestSection, firings: Sequence[Firing]) -> str:
    """The difference in one line; empty when there is none."""
    fired_s = [round(_seconds(firing), 3) for firing in firings]
    if test.fires is not None and not test.fires.at_least <= len(fired_s) <= test.fires.at_most:
        shown = fired_s[:MAX_SHOWN_TIMES]
        return f"expected {test.fires.at_least} to {test.fires.at_most} firings, got {len(fired_s)}: {shown} s"
    if test.fires_at_s is not None and any(None in pair for pair in pairs(test, firings)):
        return f"expected firings at {list(test.fires_at_s)} s, fired at {fired_s[:MAX_SHOWN_TIMES]} s"
    for name, expected in test.operands.items():
        found = firings[0].operands.get(name) if firings else None
        if found != expected or not firings:
            return f"expected operand {name} to be {expected!r}, the first firing has {found!r}"
    return ""


def pairs(test: TestSection, firings: Sequence[Firing]) -> list[tuple[float | None, float | None]]:
    """Expected and found times side by side: the same line when within one tick, None where one is missing."""
    tolerance_s = 1.001 / test.rate_hz
    found_s = [_seconds(firing) for firing in firings]
    lines: list[tuple[float | None, float | None]] = []
    for expected_s in sorted(test.fires_at_s or ()):
        while found_s and found_s[0] < expected_s - tolerance_s:
            lines.append((None, found_s.pop(0)))
        is_met = bool(found_s) and found_s[0] <= expected_s + tolerance_s
        lines.append((expected_s, found_s.pop(0) if is_met else None))
    return lines + [(None, at_s) for at_s in found_s]


def describe_difference(test: TestSection, firings: Sequence[Firing], trace: Trace) -> str:
    """The headline and everything that explains it."""
    lines = [headline(test, firings)]
    if test.fires_at_s is not None:
        lines += _table(pairs(test, firings), trace)
    lines.append(f"the condition is {_stretches(trace)}")
    lines += _explanations(test, firings, trace)
    return "\n".join(lines)


def _table(lines: Sequence[tuple[float | None, float | None]], trace: Trace) -> Iterator[str]:
    yield f"  {'expected':12}{'got':12}".rstrip()
    for expected_s, found_s in lines[: 2 * MAX_SHOWN_TIMES]:
        note = "unexpected" if expected_s is None else ""
        if expected_s is not None and found_s is None:
            tick = trace.tick_at(expected_s)
            note = f"missing: the condition is {show(trace.conditions()[tick])}, the rule {trace.states[tick].value}"
        yield f"  {_time(expected_s):12}{_time(found_s):12}{note}".rstrip()


def _stretches(trace: Trace) -> str:
    """How the condition went, from change to change."""
    conditions = trace.conditions()
    starts = [tick for tick in range(len(conditions)) if not tick or conditions[tick] is not conditions[tick - 1]]
    told = [f"{show(conditions[tick])} from {tick / trace.rate_hz:g} s" for tick in starts[:MAX_STRETCHES]]
    untold = len(starts) - len(told)
    return ", ".join(told) + (f", and changes {untold} times more" if untold else "")


def _explanations(test: TestSection, firings: Sequence[Firing], trace: Trace) -> Iterator[str]:
    lines = pairs(test, firings) if test.fires_at_s is not None else []
    missing_s = [expected for expected, found in lines if expected is not None and found is None]
    unexpected_s = [found for expected, found in lines if found is not None and expected is None]
    if not lines or not (missing_s or unexpected_s):
        unexpected_s = [_seconds(firing) for firing in firings[:1]]
    for at_s in missing_s[:MAX_EXPLAINED]:
        tick = trace.tick_at(at_s)
        yield f"at {at_s:g} s, where a firing is missing (the rule is {trace.states[tick].value}):"
        yield from map(_part, trace.answers(tick))
        yield from _values(trace.operands(tick))
    for at_s in unexpected_s[:MAX_EXPLAINED]:
        firing = next(firing for firing in firings if _seconds(firing) == at_s)
        yield f"at {at_s:g} s, where it fired:"
        yield from _values(firing.operands)
        yield from map(_part, trace.answers(trace.tick_at(at_s)))


def _values(operands: Mapping[str, SignalValue | None]) -> Iterator[str]:
    for name, value in operands.items():
        yield f"  {name} = {show(value)}"


def _part(answer: Answer) -> str:
    """One part of a condition: what it was, its text, and the numbers in it."""
    indent = "  " * answer.depth
    if set(answer.values) == {""}:
        numbers = _numbers(answer.numbers.get("", ()))
        return f"  {show(answer.values['']):9} {indent}{answer.label}{numbers}"
    items = (f"{item}: {show(value)}{_numbers(answer.numbers[item])}" for item, value in answer.values.items())
    return f"  {'':9} {indent}{answer.label:44}  {'; '.join(items) or 'there is none'}"


def _numbers(values: Sequence[SignalValue | None]) -> str:
    return f" ({', '.join(map(show, values))})" if values else ""


def show(value: SignalValue | None) -> str:
    """A value as a person reads it."""
    if value is None:
        return "unknown"
    if isinstance(value, float) and not isinstance(value, bool):
        return f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False)


def _time(at_s: float | None) -> str:
    return "-" if at_s is None else f"{round(at_s, 3):g} s"


def _seconds(firing: Firing) -> float:
    return firing.time_ns / NANOSECONDS_PER_SECOND
