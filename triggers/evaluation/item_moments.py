"""Mean and standard deviation of every item over a sliding window, without drift.

A queue made of two stacks of blocks (count, mean, sum of squared deviations). Blocks are merged by the formula of
Chan, Golub and LeVeque (1983), which only ever adds squares: nothing is subtracted when a value leaves, so that a huge
value leaves no rounding error behind, and numbers far from zero lose no digits. Turning over is one cumulative pass
over the arrived rows, once in a window's length: O(1) array operations a tick, amortised.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triggers.evaluation.item_windows import TwoStacks
from triggers.evaluation.sizes import MAX_ROWS

_COUNT, _MEAN, _SQUARES = 0, 1, 2


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

    def push(self, time_ns: int, places: NDArray[np.intp], values: NDArray[np.float64]) -> None:
        """Add a value to each of `places` at this tick, and let old ones leave."""
        is_new = self._begins_row(time_ns)
        row = self._arrived[:, len(self._arrived_times_ns) - 1]
        if is_new:
            row[:] = 0
            row[_COUNT, places], row[_MEAN, places] = 1, values  # what `_add` would make of a block of none
        elif places.size:
            _add(row, places, values)
        if places.size:
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

    def moments(self, places: NDArray[np.intp]) -> tuple[Any, Any]:
        """Mean and standard deviation (of the values themselves, not of a population behind them) for each place."""
        counts, means, squares = self._arrived_all.take(places, axis=1)
        if self._leaving_times_ns:
            old_counts, old_means, old_squares = self._leaving[:, len(self._leaving_times_ns) - 1].take(places, axis=1)
            both = np.maximum(counts + old_counts, 1)
            gaps = old_means - means
            squares = squares + old_squares + gaps * gaps * (counts * old_counts / both)
            means = (means * counts + old_means * old_counts) / both
            counts = both
        return means, np.sqrt(squares / np.maximum(counts, 1))


def _add(blocks: NDArray[np.float64], places: NDArray[np.intp], values: NDArray[np.float64]) -> None:
    """Welford's update of `blocks[3, capacity]` by one value for each place."""
    counts, means, squares = found = blocks.take(places, axis=1)
    counts += 1
    gaps = values - means
    means += gaps / counts
    squares += gaps * (values - means)
    blocks[:, places] = found
