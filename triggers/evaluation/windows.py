"""Sliding windows over ticks: O(1) amortised per tick, bounded in memory whatever the window's length.

The window of length w at time t holds the ticks in [t - w, t], both ends included. Times are integer nanoseconds
and never go back. A window longer than `MAX_ENTRIES` ticks keeps `MAX_ENTRIES` steps: ticks within 1/MAX_ENTRIES
of its length share an entry, which then leaves as one, up to that much late.

Booleans need no window: the times at which they were last true, false or unknown answer every question.
Extremes are a monotonic queue (Lemire 2006, arXiv:cs/0610046). Totals and moments are a queue made of two stacks,
which adds only and never subtracts, so that no rounding error stays behind when a large value leaves the window.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TypeAlias

from triggers.evaluation.sizes import MAX_ENTRIES
from triggers.language.types import Value

_LONG_AGO_NS = -(2**62)


class ExtremeWindow:
    """Smallest value of the window; for the largest, push and read negated values."""

    __slots__ = ("_entries", "_length_ns", "_step_ns")

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._step_ns = _step_ns(length_ns)
        self._entries: deque[tuple[int, float]] = deque()  # times and values both increase

    def push(self, time_ns: int, value: float) -> None:
        """Add this tick's value."""
        entries = self._entries
        while entries and entries[-1][1] >= value:
            entries.pop()
        if entries and entries[-1][0] // self._step_ns == time_ns // self._step_ns:
            value = entries.pop()[1]  # one entry a step: the smaller value stays that much longer
        entries.append((time_ns, value))
        start_ns = time_ns - self._length_ns
        while entries[0][0] < start_ns:
            entries.popleft()

    def smallest(self) -> float:
        """The smallest value of the window that ends with the last push."""
        return self._entries[0][1]

    def __len__(self) -> int:
        return len(self._entries)


class TotalWindow:
    """Sum and number of the window's values."""

    __slots__ = ("_arrived", "_arrived_count", "_arrived_sum", "_leaving", "_length_ns", "_step_end_ns", "_step_ns")

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._step_ns = _step_ns(length_ns)
        self._step_end_ns = 0  # of the newest entry's step
        self._arrived: list[tuple[int, float, int]] = []  # (time, sum, count) of one step each, oldest first
        self._arrived_sum = 0.0
        self._arrived_count = 0
        self._leaving: list[tuple[int, float, int]] = []  # newest first; sum and count of it and all newer ones

    def push(self, time_ns: int, value: float) -> None:
        """Add this tick's value."""
        arrived = self._arrived
        if arrived and time_ns < self._step_end_ns:
            _, total, count = arrived[-1]
            arrived[-1] = (time_ns, total + value, count + 1)
        else:
            arrived.append((time_ns, value, 1))
            self._step_end_ns = _step_end_ns(time_ns, self._step_ns)
        self._arrived_sum += value
        self._arrived_count += 1
        start_ns, leaving = time_ns - self._length_ns, self._leaving
        while leaving and leaving[-1][0] < start_ns:
            leaving.pop()
        if not leaving and arrived[0][0] < start_ns:
            self._turn_over()
            while leaving and leaving[-1][0] < start_ns:
                leaving.pop()

    def _turn_over(self) -> None:
        total, count = 0.0, 0
        for time_ns, step_sum, step_count in reversed(self._arrived):
            total += step_sum
            count += step_count
            self._leaving.append((time_ns, total, count))
        self._arrived.clear()
        self._arrived_sum, self._arrived_count = 0.0, 0

    def mean(self) -> float:
        """The mean of the window that ends with the last push."""
        _, total, count = self._leaving[-1] if self._leaving else (0, 0.0, 0)
        return (total + self._arrived_sum) / (count + self._arrived_count)

    def __len__(self) -> int:
        return len(self._arrived) + len(self._leaving)


#: How many values, their mean, and the sum of their squared deviations from it.
Moments: TypeAlias = tuple[int, float, float]


def merged(one: Moments, other: Moments) -> Moments:
    """Moments of both together (Chan, Golub and LeVeque 1983): adds only squares, so that no digits cancel out."""
    (count, mean, squares), (other_count, other_mean, other_squares) = one, other
    both = count + other_count
    if not count or not other_count:
        return one if count else other
    gap = other_mean - mean
    weight = other_count / both
    return both, mean + gap * weight, squares + other_squares + gap * gap * count * weight


class MomentWindow:
    """Mean and standard deviation of the window's values."""

    __slots__ = ("_arrived", "_arrived_all", "_leaving", "_length_ns", "_step_ns")

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._step_ns = _step_ns(length_ns)
        self._arrived: list[tuple[int, Moments]] = []  # one entry a step, oldest first
        self._arrived_all: Moments = (0, 0.0, 0.0)
        self._leaving: list[tuple[int, Moments]] = []  # newest first; of it and all newer ones

    def push(self, time_ns: int, value: float) -> None:
        """Add this tick's value."""
        arrived, one = self._arrived, (1, value, 0.0)
        self._arrived_all = merged(self._arrived_all, one)
        if arrived and arrived[-1][0] // self._step_ns == time_ns // self._step_ns:
            arrived[-1] = (time_ns, merged(arrived[-1][1], one))
        else:
            arrived.append((time_ns, one))
        start_ns, leaving = time_ns - self._length_ns, self._leaving
        while leaving and leaving[-1][0] < start_ns:
            leaving.pop()
        if not leaving and arrived[0][0] < start_ns:
            self._turn_over()
            while leaving[-1][0] < start_ns:
                leaving.pop()
                if not leaving:
                    break

    def _turn_over(self) -> None:
        both: Moments = (0, 0.0, 0.0)
        for time_ns, moments in reversed(self._arrived):
            both = merged(both, moments)
            self._leaving.append((time_ns, both))
        self._arrived.clear()
        self._arrived_all = (0, 0.0, 0.0)

    def deviation(self) -> float:
        """Standard deviation of the values of the window that ends with the last push (not of what they sample)."""
        count, _, squares = merged(self._leaving[-1][1] if self._leaving else (0, 0.0, 0.0), self._arrived_all)
        return math.sqrt(squares / count)

    def __len__(self) -> int:
        return len(self._arrived) + len(self._leaving)


class EventWindow:
    """How many events the window holds."""

    __slots__ = ("_entries", "_length_ns", "_step_ns", "_total")

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._step_ns = _step_ns(length_ns)
        self._entries: deque[tuple[int, int]] = deque()
        self._total = 0

    def push(self, time_ns: int, count: int) -> None:
        """Add this tick's events."""
        entries = self._entries
        if count:
            self._total += count
            if entries and entries[-1][0] // self._step_ns == time_ns // self._step_ns:
                count += entries.pop()[1]
            entries.append((time_ns, count))
        start_ns = time_ns - self._length_ns
        while entries and entries[0][0] < start_ns:
            self._total -= entries.popleft()[1]

    def total(self) -> int:
        """Events in the window that ends with the last push."""
        return self._total

    def __len__(self) -> int:
        return len(self._entries)


class LagWindow:
    """The value at the newest tick that is at least the window's length old."""

    __slots__ = ("_entries", "_length_ns", "_next_ns", "_step_end_ns", "_step_ns")

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._step_ns = _step_ns(length_ns)
        self._step_end_ns = _LONG_AGO_NS  # of the newest entry's step
        self._next_ns: int | None = None  # of the entry after the oldest
        self._entries: deque[tuple[int, Value]] = deque()

    def see(self, time_ns: int, value: Value) -> tuple[int, Value]:
        """Take in this tick's value; time and value of that tick: None while the window reaches back before the first.

        Cheap on most ticks: one entry comes, at most one goes.
        """
        entries = self._entries
        if time_ns >= self._step_end_ns:
            entries.append((time_ns, value))
            self._step_end_ns = _step_end_ns(time_ns, self._step_ns)
            if len(entries) == 2:
                self._next_ns = time_ns
        start_ns = time_ns - self._length_ns
        while self._next_ns is not None and self._next_ns <= start_ns:
            entries.popleft()
            self._next_ns = entries[1][0] if len(entries) > 1 else None
        oldest = entries[0]
        return oldest if oldest[0] <= start_ns else (oldest[0], None)

    def __len__(self) -> int:
        return len(self._entries)


def _step_end_ns(time_ns: int, step_ns: int) -> int:
    """Where the step that holds a time ends."""
    return time_ns - time_ns % step_ns + step_ns


def _step_ns(length_ns: int) -> int:
    return max(length_ns // MAX_ENTRIES, 1)
