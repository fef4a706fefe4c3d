"""Mean and standard deviation of every item over a sliding window, without drift.

A queue made of two stacks of blocks (count, mean, sum of squared deviations). Blocks are merged by the formula of
Chan, Golub and LeVeque (1983), which only ever adds squares: nothing is subtracted when a value leaves, so that a huge
value leaves no rounding error behind, and numbers far from zero lose no digits. Turning over is one cumulative pass
over the arrived rows, once in a window's length: O(1) array operations a tick, amortised.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from triggers.evaluation.item_windows import TwoStacks
from triggers.evaluation.sizes import MAX_ROWS

_COUNT, _MEAN, _SQUARES = 0, 1, 2
#: Places of items: in any order, or side by side.
Places: TypeAlias = "NDArray[np.intp] | slice"


class PlaceMoments(TwoStacks):
    """For each place, count, mean and squared deviations of the window's values."""

    def __init__(self, length_ns: int, capacity: int) -> None:
        super().__init__(length_ns)
        self._arrived = np.zeros((3, MAX_ROWS, capacity))  # blocks of one row each
        self._arrived_all = np.zeros((3, capacity))  # all arrived blocks merged
        self._leaving = np.zeros((3, MAX_ROWS, capacity))  # each row merged with all newer ones

    def wipe(self, places: Any) -> None:
        """Forget everything about these places."""
        self._arrived[:, : len(self._arrived_times_ns), places] = 0
        self._arrived_all[:, places] = 0
        self._leaving[:, : len(self._leaving_times_ns), places] = 0

    def push(self, time_ns: int, places: Places, values: NDArray[np.float64]) -> None:
        """Add a value to each of `places` at this tick, and let old ones leave."""
        is_new = self._begins_row(time_ns)
        row = self._arrived[:, len(self._arrived_times_ns) - 1]
        if is_new:
            row[:] = 0
            row[_COUNT, places], row[_MEAN, places] = 1, values  # what `_add` would make of a block of none
        elif values.size:
            _add(row, places, values)
        if values.size:
            _add(self._arrived_all, places, values)
        self._leave(time_ns)

    def _turn_over(self, rows: int) -> None:
        counts, means, squares = self._arrived[:, rows - 1 :: -1]
        all_counts = np.cumsum(counts, axis=0)
        all_means = np.cumsum(counts * means, axis=0) / np.maximum(all_counts, 1)
        gaps = means[1:] - all_means[:-1]
        between = gaps * gaps * (all_counts[:-1] * counts[1:] / np.maximum(all_counts[1:], 1))
        squares = squares.copy()
        squares[1:] += between
        leaving = self._leaving[:, :rows]
        leaving[_COUNT], leaving[_MEAN], leaving[_SQUARES] = all_counts, all_means, np.cumsum(squares, axis=0)
        self._arrived_all.fill(0)

    def means(self, places: Places) -> Any:
        """The mean for each place."""
        (counts, means, _), leaving = _at(self._arrived_all, places), self._leaving_at(places)
        if leaving is None:
            return means
        old_counts, old_means, _ = leaving
        return (means * counts + old_means * old_counts) / np.maximum(counts + old_counts, 1)

    def deviations(self, places: Places) -> Any:
        """The standard deviation (of the values themselves, not of a population behind them) for each place."""
        (counts, means, squares), leaving = _at(self._arrived_all, places), self._leaving_at(places)
        if leaving is None:
            return np.sqrt(squares / np.maximum(counts, 1))
        old_counts, old_means, old_squares = leaving
        both = np.maximum(counts + old_counts, 1)
        gaps = old_means - means
        return np.sqrt((squares + old_squares + gaps * gaps * (counts * old_counts / both)) / both)

    def _leaving_at(self, places: Places) -> Any:
        """What leaves next, merged with all newer ones; None while nothing does."""
        rows = len(self._leaving_times_ns)
        return _at(self._leaving[:, rows - 1], places) if rows else None


def _at(blocks: NDArray[np.float64], places: Places) -> NDArray[np.float64]:
    """Of `blocks[3, capacity]` those of some places: a view where they lie side by side, else a copy."""
    return blocks[:, places] if isinstance(places, slice) else blocks.take(places, axis=1)


def _add(blocks: NDArray[np.float64], places: Places, values: NDArray[np.float64]) -> None:
    """Welford's update of `blocks[3, capacity]` by one value for each place."""
    counts, means, squares = found = _at(blocks, places)
    counts += 1
    gaps = values - means
    means += gaps / counts
    squares += gaps * (values - means)
    if not isinstance(places, slice):
        blocks[:, places] = found
