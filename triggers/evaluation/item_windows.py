"""Sliding windows over all items at once: one row per step of time, one column per place of the item table.

All items are seen at the same ticks, so one list of times serves every column and each tick costs a few array
operations, however many items there are; a queue made of two stacks turns over once in a window's length, so that the
cost is O(1) amortised. A window has at most `MAX_ROWS` rows: ticks within 1/MAX_ROWS of its length share one and leave
together, that much late at most. A tick whose time is earlier than the last one's shares that one's row, so that no
order of times needs more. Allocated once, never grown (see `sizes` for how much).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triggers.evaluation.sizes import MAX_ROWS


class PlaceTotals:
    """For each place, the sum over the window of what was added, of `width` quantities. Exact for counts.

    A tick at which nothing is added takes no row: of events, which are rare, most ticks cost next to nothing.
    """

    def __init__(self, length_ns: int, capacity: int, width: int = 1) -> None:
        self._length_ns = length_ns
        self._step_ns = step_ns(length_ns)
        self._rows = np.zeros((MAX_ROWS, width, capacity))
        self._times_ns = [0] * MAX_ROWS
        self._oldest = 0
        self._count = 0
        self._newest_ns = 0
        self._all: NDArray[np.float64] = np.zeros((width, capacity))

    @property
    def totals(self) -> NDArray[np.float64]:
        """The sums by place; `[width, capacity]` of more quantities than one."""
        return self._all[0] if len(self._all) == 1 else self._all

    def wipe(self, places: Any) -> None:
        """Forget everything about these places."""
        self._rows[:, :, places] = 0
        self._all[:, places] = 0

    def add(self, time_ns: int, places: NDArray[np.intp], values: NDArray[Any] | float) -> None:
        """Add values to each of `places` at this tick, and let old ones leave."""
        self._newest_ns = time_ns = max(time_ns, self._newest_ns)
        self._leave(time_ns - self._length_ns)
        newest = (self._oldest + self._count - 1) % MAX_ROWS
        is_shared = self._count > 0 and self._times_ns[newest] // self._step_ns >= time_ns // self._step_ns
        if places.size:
            row = self._rows[newest if is_shared else self._begin_row()]
            row[:, places] += values
            self._all[:, places] += values
        if is_shared or places.size:
            self._times_ns[(self._oldest + self._count - 1) % MAX_ROWS] = time_ns

    def _begin_row(self) -> int:
        newest = (self._oldest + self._count) % MAX_ROWS
        self._rows[newest] = 0
        self._count += 1
        return newest

    def _leave(self, start_ns: int) -> None:
        while self._count and self._times_ns[self._oldest] < start_ns:
            self._all -= self._rows[self._oldest]
            self._oldest = (self._oldest + 1) % MAX_ROWS
            self._count -= 1


class TwoStacks:
    """The times of a queue made of two stacks of rows: what arrived, and what leaves, turned over from time to time."""

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._step_ns = step_ns(length_ns)
        self._arrived_times_ns: list[int] = []
        self._leaving_times_ns: list[int] = []  # newest first, as the rows that leave

    def _begins_row(self, time_ns: int) -> bool:
        """Take in a tick; False when it shares the newest row (also when time went back)."""
        times = self._arrived_times_ns
        if times and times[-1] // self._step_ns >= time_ns // self._step_ns:
            times[-1] = max(times[-1], time_ns)
            return False
        times.append(time_ns)
        return True

    def _leave(self, time_ns: int) -> None:
        """Let rows leave that are older than the window at `time_ns`."""
        times, start_ns = self._leaving_times_ns, time_ns - self._length_ns
        if (times and times[0] < start_ns) or (not times and self._arrived_times_ns[0] < start_ns):
            self._turn_over(len(self._arrived_times_ns))
            times[:] = reversed(self._arrived_times_ns)
            self._arrived_times_ns.clear()
        while times and times[-1] < start_ns:
            times.pop()

    def _turn_over(self, rows: int) -> None:
        """Make what leaves of the `rows` that arrived, each with all newer ones; forget what arrived."""
        raise NotImplementedError


class PlaceMinima(TwoStacks):
    """For each place, the smallest of the window, of `width` quantities at once."""

    def __init__(self, length_ns: int, width: int, capacity: int, dtype: type[np.floating[Any]] = np.float32) -> None:
        super().__init__(length_ns)
        self._arrived = np.full((MAX_ROWS, width, capacity), np.inf, dtype)
        self._arrived_minima = np.full((width, capacity), np.inf, dtype)
        self._leaving = np.full((MAX_ROWS, width, capacity), np.inf, dtype)

    def wipe(self, places: Any) -> None:
        """Forget everything about these places."""
        self._arrived[: len(self._arrived_times_ns), :, places] = np.inf
        self._arrived_minima[:, places] = np.inf
        self._leaving[: len(self._leaving_times_ns), :, places] = np.inf

    def push(self, time_ns: int, places: NDArray[np.intp], values: NDArray[Any]) -> None:
        """Add `values[width, len(places)]` at this tick, and let old ones leave."""
        is_new = self._begins_row(time_ns)
        row = self._arrived[len(self._arrived_times_ns) - 1]
        if is_new:
            row[:] = np.inf
            row[:, places] = values
        else:
            row[:, places] = np.minimum(row.take(places, axis=1), values)
        self._arrived_minima[:, places] = np.minimum(self._arrived_minima.take(places, axis=1), values)
        self._leave(time_ns)

    def _turn_over(self, rows: int) -> None:
        np.minimum.accumulate(self._arrived[rows - 1 :: -1], axis=0, out=self._leaving[:rows])
        self._arrived_minima.fill(np.inf)

    def minima(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """`[width, len(places)]` minima of the window that ends with the last push."""
        arrived = self._arrived_minima.take(places, axis=1)
        if not self._leaving_times_ns:
            return arrived
        leaving = self._leaving[len(self._leaving_times_ns) - 1].take(places, axis=1)
        smallest: NDArray[Any] = np.minimum(arrived, leaving)
        return smallest


class PlaceLags:
    """For each place, the value at the newest tick that is at least the window's length old."""

    def __init__(self, length_ns: int, capacity: int, unknown: Any, dtype: Any) -> None:
        self._length_ns = length_ns
        self._step_ns = step_ns(length_ns)
        self._unknown = unknown
        self._rows = np.full((MAX_ROWS, capacity), unknown, dtype)
        self._times_ns = [0] * MAX_ROWS
        self._oldest = 0
        self._count = 0

    def wipe(self, places: Any) -> None:
        """Forget everything about these places."""
        self._rows[:, places] = self._unknown

    def push(self, time_ns: int, places: NDArray[np.intp], values: NDArray[Any]) -> None:
        """Keep a value for each of `places` (others are unknown); of ticks that share a row the first is kept."""
        newest = (self._oldest + self._count - 1) % MAX_ROWS
        if not self._count or self._times_ns[newest] // self._step_ns < time_ns // self._step_ns:
            newest = (newest + 1) % MAX_ROWS if self._count else self._oldest
            self._count += 1
            self._times_ns[newest] = time_ns
            self._rows[newest] = self._unknown
            self._rows[newest, places] = values
        start_ns = time_ns - self._length_ns
        while self._count > 1 and self._times_ns[(self._oldest + 1) % MAX_ROWS] <= start_ns:
            self._oldest = (self._oldest + 1) % MAX_ROWS
            self._count -= 1

    def then_ns(self, time_ns: int) -> int | None:
        """When that tick was; None while there is none."""
        oldest_ns = self._times_ns[self._oldest]
        return oldest_ns if oldest_ns <= time_ns - self._length_ns else None

    def then(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The values at that tick; unknown for a place that was wiped since."""
        values: NDArray[Any] = self._rows[self._oldest].take(places)
        return values


def step_ns(length_ns: int) -> int:
    """A window of that many steps touches at most four more: partly at both ends, and by rounding."""
    return max(length_ns // (MAX_ROWS - 4), 1)
