"""The tracks of one tick as columns, and a numbered place for each track that its history is kept in.

Columns have one row per track: numbers as float64 with NaN for unknown, text as codes with `UNKNOWN_CODE`, truth
as int8 with 0 false, 1 unknown, 2 true (so that Kleene's and, or, not are minimum, maximum and 2 - x).
A track keeps its place for as long as it is listed; a place that is given to a new track is wiped first.
At most `CAPACITY` tracks are followed; those beyond are left out of the tick and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.messages import NANOSECONDS_PER_SECOND, Track
from triggers.language.types import Value

CAPACITY = 512
MAX_CODES = 65_536
FALSE, UNKNOWN, TRUE = 0, 1, 2
UNKNOWN_CODE = -1
_UNLISTED_CODE = -2  # texts beyond MAX_CODES: equal to nothing that a rule names

FloatColumn = NDArray[np.float64]


class TextCodes(dict[str | None, int]):
    """A number for every text that was met, in the order of meeting."""

    def __init__(self) -> None:
        super().__init__({None: UNKNOWN_CODE})

    def __missing__(self, text: str) -> int:
        if len(self) > MAX_CODES:
            return _UNLISTED_CODE
        self[text] = len(self)
        return self[text]


class TrackTable:
    """One tick's tracks; `places[i]` is the place of row i."""

    def __init__(self, image_sizes: Mapping[str, tuple[int, int]], keeps_history: bool) -> None:
        self.image_sizes = image_sizes
        self.codes = TextCodes()
        self.refused = 0
        self.tracks: Sequence[Track] = ()
        self.time_ns = 0
        self.boxes: FloatColumn = np.zeros((0, 4))
        self.places: NDArray[np.intp] = np.zeros(0, np.intp)
        self.new_places: list[int] = []
        self.since_ns: NDArray[np.int64] = np.zeros(CAPACITY, np.int64)  # by place: the tick that first listed it
        self._columns: dict[str, NDArray[Any]] = {}  # of this tick
        self._flipped_places: dict[str, NDArray[np.intp]] = {}  # of this tick
        self._last_codes: dict[str, NDArray[np.int32]] = {}  # by field and place, where it was last known
        self._keeps_history = keeps_history
        self._place_of: dict[tuple[str, int], int] = {}
        self._free = list(range(CAPACITY - 1, -1, -1))

    def update(self, tracks: Sequence[Track], time_ns: int) -> None:
        """Take in the tracks of this tick."""
        self.refused += max(len(tracks) - CAPACITY, 0)
        self.tracks = tracks if len(tracks) <= CAPACITY else tracks[:CAPACITY]
        self.time_ns = time_ns
        self._columns.clear()
        self._flipped_places.clear()
        if self.tracks:
            self.boxes = np.array([track.box_px for track in self.tracks], np.float64)
        if self._keeps_history:
            self._place(time_ns)

    def _place(self, time_ns: int) -> None:
        known = self._place_of
        keys = [(track.camera, track.track_id) for track in self.tracks]
        listed = {key: known.pop(key) for key in keys if key in known}
        self._free.extend(known.values())
        self.new_places = []
        for key in keys:
            if key not in listed:
                listed[key] = self._free.pop()
                self.new_places.append(listed[key])
        self._place_of = listed
        self.since_ns[self.new_places] = time_ns
        self.places = np.array([listed[key] for key in keys], np.intp)

    @property
    def followed_s(self) -> FloatColumn:
        """For how long each track has been listed here."""
        return np.asarray((self.time_ns - self.since_ns[self.places]) / NANOSECONDS_PER_SECOND)

    def code(self, value: Value) -> int:
        """The code of a scalar text."""
        return self.codes[value] if isinstance(value, str) else UNKNOWN_CODE

    # -- columns

    def column(self, name: str) -> NDArray[Any]:
        """The column of a track field, by its name in the language."""
        if name not in self._columns:
            self._columns[name] = self._read_column(name)
        return self._columns[name]

    def flipped_places(self, name: str) -> NDArray[np.intp]:
        """Places whose track has another value of a text or truth field than when it was last known."""
        if name not in self._flipped_places:
            last = self._last_codes.setdefault(name, np.full(CAPACITY, UNKNOWN_CODE, np.int32))
            last[self.new_places] = UNKNOWN_CODE
            now, before = self.column(name).astype(np.int32), last[self.places]
            is_known = now != UNKNOWN_CODE
            self._flipped_places[name] = self.places[is_known & (now != before) & (before != UNKNOWN_CODE)]
            last[self.places[is_known]] = now[is_known]
        return self._flipped_places[name]

    def _read_column(self, name: str) -> NDArray[Any]:
        derived = _DERIVED.get(name)
        if derived is not None:
            return derived(self)
        if name in ("camera", "class_name", "state", "lane"):
            return np.array([self.codes[text] for text in map(attrgetter(name), self.tracks)], np.int32)
        return np.array(list(map(attrgetter(name), self.tracks)), np.float64)  # None becomes NaN

    def _visible(self) -> NDArray[np.int8]:
        return np.array([TRUE if track.visible else FALSE for track in self.tracks], np.int8)

    def _age_s(self) -> FloatColumn:
        first_seen_ns = np.array([track.first_seen_ns for track in self.tracks], np.int64)
        return np.asarray((self.time_ns - first_seen_ns) / NANOSECONDS_PER_SECOND)

    def _width_px(self) -> FloatColumn:
        return np.asarray(self.boxes[:, 2] - self.boxes[:, 0])

    def _height_px(self) -> FloatColumn:
        return np.asarray(self.boxes[:, 3] - self.boxes[:, 1])

    def _border_px(self) -> FloatColumn:
        unknown = (float("nan"), float("nan"))
        sizes = np.array([self.image_sizes.get(track.camera, unknown) for track in self.tracks], np.float64)
        return np.asarray(np.minimum(self.boxes[:, :2], sizes - self.boxes[:, 2:]).min(axis=1))


_DERIVED: Mapping[str, Callable[[TrackTable], NDArray[Any]]] = {
    "visible": TrackTable._visible,
    "age_s": TrackTable._age_s,
    "width_px": TrackTable._width_px,
    "height_px": TrackTable._height_px,
    "border_px": TrackTable._border_px,
}
