"""The tracks of a rig as one table of fixed size: one record per track, nothing allocated per object.

The first `count` records are alive, oldest first. Records move up when others die, so a row number holds only within
one update; `track_id` is what lasts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.inference.motion import MotionState

NO_ID = -1

_MOTION_FIELDS = ("position", "rate", "p00", "p01", "p11")
_RECORD = np.dtype(
    [
        ("track_id", np.int64),  # NO_ID until the track is confirmed
        ("camera", np.int32),
        ("class_id", np.int32),
        ("group", np.int32),
        ("state", object),  # str | None, of the newest detection
        ("score", np.float64),
        ("hits", np.int64),
        ("first_seen_ns", np.int64),
        ("last_seen_ns", np.int64),
        ("unseen_ns", np.int64),  # time without a detection while the camera delivered
        ("visible", np.bool_),
        ("predicted_distance_m", np.float64),  # what the network said of it in the newest detection; NaN: nothing
        ("predicted_speed_mps", np.float64),
        *((f"box_{name}", np.float64, 4) for name in _MOTION_FIELDS),  # centre x, y, width, height in pixels
        *((f"ground_{name}", np.float64, 2) for name in _MOTION_FIELDS),  # x, y in metres
        ("ground_since_ns", np.int64),  # of the first trusted place; 0 before
        ("ground_seen_ns", np.int64),  # of the newest
    ]
)


class TrackTable:
    """Records of tracks, at most `capacity`."""

    def __init__(self, capacity: int) -> None:
        self._records: NDArray[Any] = np.zeros(capacity, _RECORD)
        self._fields: dict[str, NDArray[Any]] = {name: self._records[name] for name in _RECORD.names or ()}
        self.capacity = capacity
        self.count = 0

    def field(self, name: str) -> NDArray[Any]:
        """A view of one field of the living records."""
        return self._fields[name][: self.count]

    def boxes(self) -> MotionState:
        """Motion of the boxes: centre x, y, width, height, in pixels and pixels per second."""
        return MotionState(*(self.field(f"box_{name}") for name in _MOTION_FIELDS))

    def places(self) -> MotionState:
        """Motion on the ground relative to the vehicle, in metres and metres per second."""
        return MotionState(*(self.field(f"ground_{name}") for name in _MOTION_FIELDS))

    def corners(self) -> NDArray[np.float64]:
        """`[count, 4]` x0, y0, x1, y1 of the living records."""
        position = self.field("box_position")
        half = np.maximum(position[:, 2:], 1.0) / 2.0
        return np.concatenate((position[:, :2] - half, position[:, :2] + half), axis=1)

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        """Let every other record die."""
        kept = int(np.count_nonzero(wanted))
        if kept < self.count:
            self._records[:kept] = self._records[: self.count][wanted]
            self._fields["state"][kept : self.count] = None
            self.count = kept

    def grow(self, rows: int) -> NDArray[np.intp]:
        """Add up to `rows` blank records; returns their row numbers, fewer where the table is full."""
        added = min(rows, self.capacity - self.count)
        first = self.count
        self.count += added
        self._records[first : self.count] = np.zeros(added, _RECORD)
        self._fields["state"][first : self.count] = None
        return np.arange(first, self.count)
