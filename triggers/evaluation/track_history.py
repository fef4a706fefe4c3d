"""Per-track history: displacement_px, class_flips, presence_flips, state_flips, box_jitter.

Each class keeps what it needs by place (see `track_table`) and yields one column per tick. A count of flips is
known from the track's first tick on: a track that did not exist did not flip. Displacement and jitter are unknown
until the track was followed for the whole window: what a box did before it was seen is not known. As the steps
that call them, they run with NumPy's floating point warnings off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from triggers.evaluation.track_table import CAPACITY, FloatColumn, TrackTable
from triggers.evaluation.track_windows import PlaceMinima, PlaceTotals


class TrackHistory(Protocol):
    """One function of the language with one window length."""

    def update(self, table: TrackTable) -> FloatColumn:
        """Take in this tick and return the function's value for every track."""


class Displacement:
    """Diagonal of the smallest upright rectangle that held the box's centre over the window, pixels."""

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._minima = PlaceMinima(length_ns, width=4)

    def update(self, table: TrackTable) -> FloatColumn:
        """See TrackHistory."""
        if table.new_places:
            self._minima.wipe(table.new_places)
        x, y = _centres(table)
        self._minima.push(table.time_ns, table.places, np.stack((x, -x, y, -y)))
        lowest = self._minima.minima(table.places).astype(np.float64)
        extent = np.hypot(lowest[0] + lowest[1], lowest[2] + lowest[3])
        return np.where(_is_followed(table, self._length_ns), extent, np.nan)


class Flips:
    """How often a column changed for the same track; unknown values are passed over."""

    def __init__(self, length_ns: int, field: str) -> None:
        self._field = field
        self._totals = PlaceTotals(length_ns)

    def update(self, table: TrackTable) -> FloatColumn:
        """See TrackHistory."""
        if table.new_places:
            self._totals.wipe(table.new_places)
        self._totals.add(table.time_ns, table.flipped_places(self._field), 1.0)
        return self._totals.totals[table.places]


class Jitter:
    """Mean length of the centre's second difference between ticks, in box heights.

    A box that moves smoothly has almost none, whatever its speed; a detector's noise does not depend on the tick
    rate in it. Ticks in which the object was not visible (the tracker guesses smoothly) are passed over.
    """

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._sums = PlaceTotals(length_ns)
        self._counts = PlaceTotals(length_ns)
        self._centres = np.full((2, 2, CAPACITY), np.nan)  # last and last but one; x and y

    def update(self, table: TrackTable) -> FloatColumn:
        """See TrackHistory."""
        places = table.places
        if table.new_places:
            self._sums.wipe(table.new_places)
            self._counts.wipe(table.new_places)
            self._centres[:, :, table.new_places] = np.nan
        jumps = self._jumps(table)
        is_known = ~np.isnan(jumps)
        self._sums.add(table.time_ns, places, np.where(is_known, jumps, 0.0))
        self._counts.add(table.time_ns, places, is_known)
        counts = self._counts.totals[places]
        mean = self._sums.totals[places] / counts
        return np.where(_is_followed(table, self._length_ns) & (counts > 0), np.maximum(mean, 0.0), np.nan)

    def _jumps(self, table: TrackTable) -> FloatColumn:
        now = np.where(table.column("visible") > 0, np.stack(_centres(table)), np.nan)
        last, last_but_one = self._centres[:, :, table.places]
        jumps = np.hypot(*(now - 2 * last + last_but_one)) / table.column("height_px")
        self._centres[1][:, table.places] = last
        self._centres[0][:, table.places] = now
        return np.where(np.isfinite(jumps), jumps, np.nan)


def _centres(table: TrackTable) -> tuple[FloatColumn, FloatColumn]:
    boxes = table.boxes
    return (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2


def _is_followed(table: TrackTable, length_ns: int) -> NDArray[np.bool_]:
    return np.asarray(table.time_ns - table.since_ns[table.places] >= length_ns)


TRACK_HISTORIES: Mapping[str, Callable[[int], TrackHistory]] = {
    "displacement_px": Displacement,
    "class_flips": lambda length_ns: Flips(length_ns, "class_name"),
    "presence_flips": lambda length_ns: Flips(length_ns, "visible"),
    "state_flips": lambda length_ns: Flips(length_ns, "state"),
    "box_jitter": Jitter,
}
