"""Operators that remember earlier ticks. One object for each distinct use; `see` is called once a tick.

Windows are [now - length, now], both ends included. A window that is not yet full, or held an unknown value, answers
only what its known part already decides (`any_within` is true as soon as one tick was); else it is unknown.
Memory is bounded: entries are dropped as they leave, and a deque never holds more than `MAX_ENTRIES`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from triggers.evaluation.windows import MAX_ENTRIES, Coverage, ExtremeWindow
from triggers.language.types import Value

NANOSECONDS_PER_SECOND = 1_000_000_000


class Memory:
    """State of one temporal operator."""

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """Take in every value since the last tick, oldest first (at least one), and answer for this tick."""
        raise NotImplementedError


class Edge(Memory):
    """`rising`, `falling`, `changed`: between any two neighbouring known values since the last tick."""

    def __init__(self, is_edge: Callable[[Value, Value], bool]) -> None:
        self._is_edge = is_edge
        self._last: Value = None

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """True when one step since the last tick was such an edge; unknown while nothing is known before it."""
        answer: Value = None
        for value in values:
            if self._last is not None and value is not None:
                answer = bool(answer) or self._is_edge(self._last, value)
            self._last = value
        return answer


class Added(Memory):
    """`added`: entries of a comma-joined list that were not in it on the tick before."""

    def __init__(self) -> None:
        self._before: frozenset[str] = frozenset()

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """The new entries, sorted and joined; empty when there are none."""
        new: set[str] = set()
        for value in values:
            if isinstance(value, str):
                entries = frozenset(value.split(",")) - {""}
                new |= entries - self._before
                self._before = entries
        return None if values[-1] is None else ",".join(sorted(new))


class Since(Memory):
    """`since_s`."""

    def __init__(self) -> None:
        self._last_true_ns: int | None = None

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """Seconds since it was last true; unknown if it never was."""
        if True in values:
            self._last_true_ns = time_ns
        return None if self._last_true_ns is None else (time_ns - self._last_true_ns) / NANOSECONDS_PER_SECOND


class AnyWithin(Memory):
    """`any_within`, and `all_within` as its opposite: remembers only the last tick that decided."""

    def __init__(self, length_ns: int, deciding: bool) -> None:
        self._coverage = Coverage(length_ns)
        self._deciding = deciding
        self._last_ns: int | None = None

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """The deciding value if it occurred in the window, its opposite if the whole window is known."""
        covered = self._coverage.see(time_ns, None not in values)
        if any(value is self._deciding for value in values):
            self._last_ns = time_ns
        if self._last_ns is not None and self._last_ns >= time_ns - self._coverage.length_ns:
            return self._deciding
        return (not self._deciding) if covered else None


class Counted(Memory):
    """`count_within` and `flips`: how many edges lie in the window."""

    def __init__(self, length_ns: int, is_edge: Callable[[Value, Value], bool]) -> None:
        self._length_ns = length_ns
        self._is_edge = is_edge
        self._last: Value = None
        self._edges_ns: deque[int] = deque(maxlen=MAX_ENTRIES)

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """The number of edges; unknown while the value is."""
        for value in values:
            if self._last is not None and value is not None and self._is_edge(self._last, value):
                self._edges_ns.append(time_ns)
            self._last = value if value is not None else self._last
        while self._edges_ns and self._edges_ns[0] < time_ns - self._length_ns:
            self._edges_ns.popleft()
        return None if values[-1] is None else float(len(self._edges_ns))


class Extreme(Memory):
    """`min_within` (factor 1) and `max_within` (factor -1)."""

    def __init__(self, length_ns: int, factor: float) -> None:
        self._coverage = Coverage(length_ns)
        self._window = ExtremeWindow(length_ns)
        self._factor = factor

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """The extreme of a fully known window."""
        value = values[-1]
        covered = self._coverage.see(time_ns, value is not None)
        if not isinstance(value, float):
            return None
        self._window.push(time_ns, value * self._factor)
        return self._window.smallest() * self._factor if covered else None


class Past(Memory):
    """`mean_within`, `delta`, `rate` and `lag`: keeps the values of the window, thinned to `MAX_ENTRIES`."""

    def __init__(self, length_ns: int, answer: Callable[[Sequence[tuple[int, Value]], float], Value]) -> None:
        self._length_ns = length_ns
        self._answer = answer
        self._entries: deque[tuple[int, Value]] = deque()

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """Answer from the entries of the window, the newest at or before its start included."""
        step_ns = self._length_ns // MAX_ENTRIES
        if len(self._entries) > 1 and time_ns - self._entries[-2][0] < step_ns:
            self._entries.pop()
        self._entries.append((time_ns, values[-1]))
        start_ns = time_ns - self._length_ns
        while len(self._entries) > 1 and self._entries[1][0] <= start_ns:
            self._entries.popleft()
        if self._entries[0][0] > start_ns:
            return None
        return self._answer(self._entries, self._length_ns / NANOSECONDS_PER_SECOND)


class AtRandom(Memory):
    """`at_random`: a seeded draw each tick, with the probability that its share of the mean time asks for."""

    def __init__(self, length_ns: int, seed: str) -> None:
        self._length_ns = length_ns
        self._random = random.Random(seed)
        self._last_ns: int | None = None

    def see(self, time_ns: int, values: Sequence[Value]) -> Value:
        """True at random; never on the first tick."""
        elapsed_ns = 0 if self._last_ns is None else time_ns - self._last_ns
        self._last_ns = time_ns
        return self._random.random() < elapsed_ns / self._length_ns


def _became_true(before: Value, after: Value) -> bool:
    return before is False and after is True


def _became_false(before: Value, after: Value) -> bool:
    return before is True and after is False


def _differs(before: Value, after: Value) -> bool:
    return before != after


def _mean(entries: Sequence[tuple[int, Value]], length_s: float) -> Value:
    numbers = [value for _, value in entries]
    if None in numbers:
        return None
    return sum(value for value in numbers if isinstance(value, float)) / len(numbers)


def _delta(entries: Sequence[tuple[int, Value]], length_s: float) -> Value:
    before, now = entries[0][1], entries[-1][1]
    return now - before if isinstance(before, float) and isinstance(now, float) else None


def _rate(entries: Sequence[tuple[int, Value]], length_s: float) -> Value:
    change = _delta(entries, length_s)
    return change / length_s if isinstance(change, float) else None


def _lagged(entries: Sequence[tuple[int, Value]], length_s: float) -> Value:
    return entries[0][1]


def make_memory(name: str, seconds: float | None, seed: str) -> Memory | None:
    """The state of a temporal operator; None for operators that remember nothing."""
    length_ns = round((seconds or 0.0) * NANOSECONDS_PER_SECOND)
    makers: Mapping[str, Callable[[], Memory]] = {
        "rising": lambda: Edge(_became_true),
        "falling": lambda: Edge(_became_false),
        "changed": lambda: Edge(_differs),
        "added": Added,
        "since_s": Since,
        "any_within": lambda: AnyWithin(length_ns, True),
        "all_within": lambda: AnyWithin(length_ns, False),
        "count_within": lambda: Counted(length_ns, _became_true),
        "flips": lambda: Counted(length_ns, _differs),
        "min_within": lambda: Extreme(length_ns, 1.0),
        "max_within": lambda: Extreme(length_ns, -1.0),
        "mean_within": lambda: Past(length_ns, _mean),
        "delta": lambda: Past(length_ns, _delta),
        "rate": lambda: Past(length_ns, _rate),
        "lag": lambda: Past(length_ns, _lagged),
        "at_random": lambda: AtRandom(length_ns, seed),
    }
    return makers[name]() if name in makers else None
