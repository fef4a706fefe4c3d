"""The tracks of a rig in columns of a fixed size: nothing is allocated per object, and a step is over all of them.

The first `count` columns are alive, oldest first. They move up when others die, so a number of a track in this table
(its *row*, as everywhere a table is spoken of) holds only within one update; `track_id` is what lasts.

Whole numbers, and motion, each stand in one block with a line per field, so that some tracks are taken out of all
fields in one call: calls cost more than the numbers that they move.
"""

from __future__ import annotations

from itertools import compress

import numpy as np
from numpy.typing import NDArray

from runtime.inference import motion

NO_ID = -1

#: Lines of `whole`, those that are told of every track first: times are nanoseconds.
TRACK_ID, CAMERA, CLASS_ID, FIRST_SEEN, LAST_SEEN, GROUP, HITS, UNSEEN, GROUND_SINCE, GROUND_SEEN = range(10)
TOLD, _LINES = 5, 10
#: Lines of a plane of `motion`: centre x, y, width and height in pixels; then x and y on the ground in metres, relative
#: to the vehicle.
COORDINATES = 6
BOX, PLACE = slice(0, 4), slice(4, 6)

IndexArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]


class TrackTable:
    """At most `capacity` tracks."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        #: `TRACK_ID` is NO_ID until a track is confirmed; `UNSEEN` is time without a detection while the camera
        #: delivered; `GROUND_SINCE` and `GROUND_SEEN` are of the first and the newest trusted place, 0 before.
        self.whole: NDArray[np.int64] = np.zeros((_LINES, capacity), np.int64)
        #: See `runtime.inference.motion`; of boxes and of places on the ground.
        self.motion: FloatArray = np.zeros((motion.PLANES, COORDINATES, capacity), np.float64)
        self.visible: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.score: FloatArray = np.zeros(capacity, np.float64)
        #: What the network said of each in its newest detection, metres and metres per second; NaN: nothing.
        self.told: FloatArray = np.full((2, capacity), np.nan)
        self.has_told = False
        #: Of the newest detection; as long as `count`.
        self.state: list[str | None] = []

    def line(self, field: int) -> NDArray[np.int64]:
        """A view of one whole number of every living track."""
        return self.whole[field, : self.count]

    def corners(self) -> FloatArray:
        """`[4, count]` x0, y0, x1, y1 of every living track."""
        position = self.motion[motion.POSITION, :, : self.count]
        half = np.maximum(position[2:4], 1.0)
        half /= 2.0
        corners = np.empty((4, self.count))
        np.subtract(position[:2], half, out=corners[:2])
        np.add(position[:2], half, out=corners[2:])
        return corners

    def keep(self, wanted: NDArray[np.bool_]) -> IndexArray:
        """Let every other track die; returns the rows of those that live on."""
        rows = wanted.nonzero()[0]
        self.whole[:, : rows.size] = self.whole.take(rows, axis=1)
        self.motion[:, :, : rows.size] = self.motion.take(rows, axis=2)
        if self.has_told:
            self.told[:, : rows.size] = self.told.take(rows, axis=1)
        for column in (self.visible, self.score):
            column[: rows.size] = column.take(rows)
        self.state = list(compress(self.state, wanted.tolist()))
        self.count = int(rows.size)
        return rows

    def grow(self, rows: int) -> IndexArray:
        """Add up to `rows` blank tracks without an id; returns their rows, fewer where the table is full."""
        first, self.count = self.count, min(self.count + rows, self.capacity)
        added = slice(first, self.count)
        self.whole[:, added] = 0
        self.whole[TRACK_ID, added] = NO_ID
        self.motion[:, :, added] = 0.0
        if self.has_told:
            self.told[:, added] = np.nan
        self.visible[added] = False
        self.score[added] = 0.0
        self.state += [None] * (self.count - first)
        return np.arange(first, self.count)
