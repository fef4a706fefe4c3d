"""The histories of items that have a name of their own: displacement_px, class_flips, presence_flips, state_flips,
box_jitter.

Each class keeps what it needs by place (see `item_table`) and yields one column per tick. A count of flips is
known from the item's first tick on: an item that did not exist did not flip. Displacement and jitter are unknown
until the track was followed for the whole window: what a box did before it was seen is not known. As the steps
that call them, they run with NumPy's floating point warnings off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from triggers.evaluation.item_table import FloatColumn, ItemTable
from triggers.evaluation.item_temporal import Following
from triggers.evaluation.item_windows import PlaceMinima, PlaceTotals


class ItemHistory(Protocol):
    """One function of the language with one window length."""

    def update(self, table: ItemTable) -> FloatColumn:
        """Take in this tick and return the function's value for every track."""


class Displacement:
    """Diagonal of the smallest upright rectangle that held the box's centre over the window, pixels."""

    def __init__(self, length_ns: int, capacity: int) -> None:
        self._length_ns = length_ns
        self._following = Following(capacity)
        self._minima = PlaceMinima(length_ns, 4, capacity)

    def update(self, table: ItemTable) -> FloatColumn:
        """See ItemHistory."""
        new = self._following.newcomers(table)
        if len(new):
            self._minima.wipe(new)
        x, y = table.column("centres")
        self._minima.push(table.time_ns, table.places, np.stack((x, -x, y, -y)))
        lowest = self._minima.minima(table.places).astype(np.float64)
        extent = np.hypot(lowest[0] + lowest[1], lowest[2] + lowest[3])
        return np.where(self._following.was_here(table, table.time_ns - self._length_ns), extent, np.nan)


class Flips:
    """How often a column changed for the same track; unknown values are passed over."""

    def __init__(self, length_ns: int, capacity: int, field: str) -> None:
        self._field = field
        self._totals = PlaceTotals(length_ns, capacity)

    def update(self, table: ItemTable) -> FloatColumn:
        """See ItemHistory."""
        if table.new_places:
            self._totals.wipe(table.new_places)
        self._totals.add(table.time_ns, table.changed_places(self._field), 1.0)
        return self._totals.totals.take(table.places)


class Jitter:
    """Mean length of the centre's second difference between ticks, in box heights.

    A box that moves smoothly has almost none, whatever its speed; a detector's noise does not depend on the tick
    rate in it. Ticks in which the object was not visible (the tracker guesses smoothly) are passed over.
    """

    def __init__(self, length_ns: int, capacity: int) -> None:
        self._length_ns = length_ns
        self._following = Following(capacity)
        self._sums = PlaceTotals(length_ns, capacity, width=2)  # of jumps, and how many there were
        self._centres = np.full((2, 2, capacity), np.nan)  # last and last but one; x and y

    def update(self, table: ItemTable) -> FloatColumn:
        """See ItemHistory."""
        places = table.places
        new = self._following.newcomers(table)
        if len(new):
            self._sums.wipe(new)
            self._centres[:, :, new] = np.nan
        jumps = self._jumps(table)
        is_known = ~np.isnan(jumps)
        self._sums.add(table.time_ns, places, np.stack((np.where(is_known, jumps, 0.0), is_known)))
        sums, counts = self._sums.totals.take(places, axis=1)
        mean = sums / counts
        is_followed = self._following.was_here(table, table.time_ns - self._length_ns)
        return np.where(is_followed & (counts > 0), np.maximum(mean, 0.0), np.nan)

    def _jumps(self, table: ItemTable) -> FloatColumn:
        now = np.where(table.column("visible") > 0, table.column("centres"), np.nan)
        last, last_but_one = self._centres.take(table.places, axis=2)
        jumps = np.hypot(*(now - 2 * last + last_but_one)) / table.column("height_px")
        self._centres[:, :, table.places] = now, last
        return np.where(np.isfinite(jumps), jumps, np.nan)


#: Makers by name; given the window's length and the table's capacity.
ITEM_HISTORIES: Mapping[str, Callable[[int, int], ItemHistory]] = {
    "displacement_px": Displacement,
    "class_flips": lambda length_ns, capacity: Flips(length_ns, capacity, "class_name"),
    "presence_flips": lambda length_ns, capacity: Flips(length_ns, capacity, "visible"),
    "state_flips": lambda length_ns, capacity: Flips(length_ns, capacity, "state"),
    "box_jitter": Jitter,
}
