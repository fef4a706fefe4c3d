"""mean_within and std_within of every item, all such operators at once, without drift.

A window is a queue made of two stacks of blocks (count, mean, sum of squared deviations). Blocks are merged by the
formula of Chan, Golub and LeVeque (1983), which only ever adds squares: nothing is subtracted when a value leaves, so
that a huge value leaves no rounding error behind, and numbers far from zero lose no digits. Turning over is one
cumulative pass over the arrived rows, once in a window's length: O(1) array operations a tick, amortised.

`Moments` is what one operator remembers; a `MomentBank` computes several together, as rows of a few arrays, and takes
their memory over at its first tick (see `item_decisive`, whose banks are made alike).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triggers.evaluation.item_decisive import LONG_AGO_NS
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.item_windows import TwoStacks
from triggers.evaluation.sizes import MAX_ROWS

#: What each operator tells.
MOMENTS = {"mean_within": "mean", "std_within": "deviation"}
_COUNT, _MEAN, _SQUARES = 0, 1, 2
_ROW, _ALL = 0, 1


class Moments(TwoStacks):
    """The memory of one operator, by place."""

    def __init__(self, length_ns: int, capacity: int, told: str) -> None:
        super().__init__(length_ns)
        self.length_ns, self.told, self.is_first = length_ns, told, True
        self.arrived = np.zeros((3, MAX_ROWS, capacity))  # blocks of one row each; of the newest row once it is over
        self.leaving = np.zeros((3, MAX_ROWS, capacity))  # each row merged with all newer ones
        self.newest: NDArray[np.float64] = np.zeros((3, 2, capacity))  # the newest row; all arrived rows merged
        self.head: NDArray[np.float64] = np.zeros((3, capacity))  # what leaves next
        self._has_turned = False
        #: When a value was last not known, or the item had not come.
        self.unknown_ns: NDArray[np.int64] = np.full(capacity, LONG_AGO_NS, np.int64)

    @property
    def has_leaving(self) -> bool:
        """Whether anything waits to leave."""
        return bool(self._leaving_times_ns)

    def begin(self, time_ns: int) -> None:
        """Before a tick's values are added: a new row, unless they share the newest one."""
        rows = len(self._arrived_times_ns)
        if self._begins_row(time_ns):
            if rows:
                self.arrived[:, rows - 1] = self.newest[:, _ROW]
            self.newest[:, _ROW] = 0

    def let_leave(self, time_ns: int) -> None:
        """After a tick's values were added: old ones go."""
        rows = len(self._leaving_times_ns)
        self._has_turned = False
        self._leave(time_ns)
        if self._has_turned or len(self._leaving_times_ns) != rows:  # as many rows may be others
            self.head[:] = self.leaving[:, len(self._leaving_times_ns) - 1] if self._leaving_times_ns else 0

    def wipe(self, places: Any) -> None:
        """Forget everything about these places, but when they were not known."""
        self.arrived[:, : len(self._arrived_times_ns), places] = 0
        self.leaving[:, : len(self._leaving_times_ns), places] = 0
        self.newest[:, :, places] = 0
        self.head[:, places] = 0

    def _turn_over(self, rows: int) -> None:
        self.arrived[:, rows - 1] = self.newest[:, _ROW]
        counts, means, squares = self.arrived[:, rows - 1 :: -1]
        all_counts = np.cumsum(counts, axis=0)
        all_means = np.cumsum(counts * means, axis=0) / np.maximum(all_counts, 1)
        gaps = means[1:] - all_means[:-1]
        between = gaps * gaps * (all_counts[:-1] * counts[1:] / np.maximum(all_counts[1:], 1))
        squares = squares.copy()
        squares[1:] += between
        leaving = self.leaving[:, :rows]
        leaving[_COUNT], leaving[_MEAN], leaving[_SQUARES] = all_counts, all_means, np.cumsum(squares, axis=0)
        self.newest[:] = 0
        self._has_turned = True


class MomentBank:
    """Some of these operators; `update` once a tick."""

    def __init__(self, operators: Sequence[Moments]) -> None:
        self._operators = operators
        self._lengths_ns = np.array([[each.length_ns] for each in operators], np.int64)
        self._is_mean = np.array([[each.told == "mean"] for each in operators])
        self._newest: NDArray[np.float64] | None = None  # [3, 2, operators, capacity]
        self._heads: NDArray[np.float64] = np.zeros(0)  # [3, operators, capacity]
        self._unknown_ns: NDArray[np.int64] = np.zeros(0, np.int64)  # [operators, capacity]

    def update(self, table: ItemTable, columns: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Take in each operator's numbers at this tick; `[operators, items]` values, and which are unknown."""
        newest = self._take_over(table) if self._newest is None else self._newest
        span, now_ns, operators = table.span, table.time_ns, self._operators
        if table.new_places:
            self._unknown_ns[:, table.new_places] = now_ns - 1
            for each in operators:
                each.wipe(table.new_places)
        for each in operators:
            each.begin(now_ns)
        values = np.concatenate([numbers for numbers, _ in columns]).reshape(len(columns), -1)
        known = self._known(columns, values.shape)
        self._unknown_ns[:, span] = np.where(known, self._unknown_ns[:, span], now_ns)
        found = newest[..., span]
        _add(found, values, known)
        if not isinstance(span, slice):
            newest[..., span] = found
        for each in operators:
            each.let_leave(now_ns)
        is_covered = self._unknown_ns[:, span] < now_ns - self._lengths_ns
        told = np.where(is_covered, self._told(newest[:, _ALL][..., span], self._heads[..., span]), np.nan)
        return told, ~np.isfinite(told)

    def _known(self, columns: Sequence[tuple[Any, Any]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
        known = np.ones(shape, np.bool_)
        for row, (_, unknown) in enumerate(columns):
            if unknown is not None:
                known[row] = ~unknown
        return known

    def _told(self, newest: Any, heads: Any) -> Any:
        """Mean or standard deviation (of the values themselves, not of a population behind them) of each window."""
        (counts, means, squares), (old_counts, old_means, old_squares) = newest, heads
        both = np.maximum(counts + old_counts, 1)
        has_leaving = np.array([[each.has_leaving] for each in self._operators])
        mean = np.where(has_leaving, (means * counts + old_means * old_counts) / both, means)
        gaps = old_means - means
        merged = squares + old_squares + gaps * gaps * (counts * old_counts / both)
        return np.where(self._is_mean, mean, np.sqrt(np.where(has_leaving, merged, squares) / both))

    def _take_over(self, table: ItemTable) -> NDArray[np.float64]:
        """The operators' memory as one array each; from now on every operator sees its part of them."""
        self._newest = np.stack([each.newest for each in self._operators], axis=2)
        self._heads = np.stack([each.head for each in self._operators], axis=1)
        self._unknown_ns = np.stack([each.unknown_ns for each in self._operators])
        for row, each in enumerate(self._operators):
            each.newest, each.head, each.unknown_ns = (
                self._newest[:, :, row],
                self._heads[:, row],
                self._unknown_ns[row],
            )
            if each.is_first:  # which may be in mid-drive: all items are new to it
                each.unknown_ns[table.places] = table.time_ns - 1
                each.is_first = False
        return self._newest


def _add(blocks: NDArray[np.float64], values: NDArray[np.float64], known: NDArray[np.bool_]) -> None:
    """Welford's update of `blocks[3, ..., operators, items]` by those `values[operators, items]` that are known."""
    counts, means, squares = blocks
    np.add(counts, 1, out=counts, where=known)
    gaps = values - means
    np.add(means, gaps / counts, out=means, where=known)
    np.add(squares, gaps * (values - means), out=squares, where=known)
