"""The items (tracks, controller objects, cameras) of one tick as columns, and a numbered place for each of them.

Columns have one row per item: numbers as float64 with NaN for unknown, text as codes with `UNKNOWN_CODE`, truth as
the bytes of `truths`. The history of an item is kept by its place: it keeps its place for as long as it is listed, and
a place that is given to a new item is wiped first by every window. At most `CAPACITY` items are followed; those beyond
are left out of the tick and counted.

A column is read once a tick however many rules use it, O(items). What follows from which items are listed alone
(`lasting`) is kept for as long as these are the same, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triggers.evaluation.sizes import CAPACITY
from triggers.evaluation.text_codes import UNKNOWN_CODE, TextCodes
from triggers.evaluation.truths import FALSE, TRUE, UNKNOWN, Truth, ones_of
from triggers.language.populations import FIELDS, Population
from triggers.language.types import Type, Value

_TRUTH: Mapping[bool | None, int] = {False: FALSE, None: UNKNOWN, True: TRUE}
#: What makes an item the same as at the tick before.
_IDENTITIES: Mapping[Population, Callable[[Any], object]] = {
    Population.TRACKS: attrgetter("camera", "track_id"),
    Population.OBJECTS: attrgetter("object_id"),
    Population.CAMERAS: attrgetter("camera"),
}
_LASTING_FIELDS = frozenset({"camera", "track_id", "object_id"})
#: By truth; `UNKNOWN_CODE` for unknown.
_TRUTH_CODES = np.array([0, UNKNOWN_CODE, 2, 3], np.int32)
_NO_PLACES: NDArray[np.intp] = np.zeros(0, np.intp)
FloatColumn = NDArray[np.float64]


class ItemTable:
    """One tick's items of one population; `places[i]` is the place of row i."""

    def __init__(
        self,
        population: Population,
        codes: TextCodes,
        derived: Mapping[str, Callable[[ItemTable], NDArray[Any]]],
    ) -> None:
        self.population = population
        self.codes = codes
        self._derived = derived  # columns that are more than an attribute of the item
        self.capacity = CAPACITY[population]
        self.keeps_places = False
        self.refused = 0
        self.items: Sequence[Any] = ()
        self.ones: Truth = 0  # see `truths`
        self.time_ns = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew: every item that comes is new."""
        self.places: NDArray[np.intp] = np.zeros(0, np.intp)
        self.span: NDArray[np.intp] | slice = slice(0, 0)  # the same places, as a slice where they lie side by side
        self.new_places: list[int] = []
        self._columns: dict[str, NDArray[Any]] = {}  # of this tick
        self._changed_places: dict[str, NDArray[np.intp]] = {}  # of this tick
        self._last_codes: dict[str, tuple[int, NDArray[np.int32]]] = {}  # by field: when followed last, codes by place
        self._updates = 0
        self._keys: list[object] = []  # of the items listed last
        self._lasting: dict[str, Any] = {}  # for as long as these are listed
        self._place_of: dict[object, int] = {}
        self._free = list(range(self.capacity - 1, -1, -1))

    def update(self, items: Sequence[Any], time_ns: int) -> None:
        """Take in the items of this tick."""
        self.refused += max(len(items) - self.capacity, 0)
        self.items = items if len(items) <= self.capacity else items[: self.capacity]
        self.ones = ones_of(len(self.items))
        self.time_ns = time_ns
        self._updates += 1
        self._columns.clear()
        self._changed_places.clear()
        if self.keeps_places:
            self._place()
        else:
            self._lasting.clear()

    def complete(self, items: Sequence[Any]) -> None:
        """The items of this tick again, with fields that no column was read of yet."""
        self.items = items if len(items) <= self.capacity else items[: self.capacity]

    def _place(self) -> None:
        known, free = self._place_of, self._free
        keys = list(map(_IDENTITIES[self.population], self.items))
        if keys == self._keys:
            self.new_places = []
            return
        self._keys = keys
        self._lasting.clear()
        listed = {key: known.pop(key) for key in keys if key in known}
        free.extend(known.values())
        self.new_places = []
        for key in keys:
            if key not in listed:
                listed[key] = free.pop()
                self.new_places.append(listed[key])
        self._place_of = listed
        places = [listed[key] for key in keys]
        self.places = np.array(places, np.intp)
        self.span = slice(0, len(places)) if places == list(range(len(places))) else self.places

    def code(self, value: Value) -> int:
        """The code of a scalar text."""
        return self.codes[value] if isinstance(value, str) else UNKNOWN_CODE

    # -- columns

    def lasting(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, which depends on nothing but the cameras and numbers of the items."""
        if name not in self._lasting:
            self._lasting[name] = make()
        return self._lasting[name]

    def forget_lasting(self) -> None:
        """Other rules run now: texts may have other codes."""
        self._lasting.clear()

    def column(self, name: str) -> NDArray[Any]:
        """The column of a field, by its name in the language, or one of `boxes` (`[items, 4]`)."""
        if name not in self._columns:
            is_lasting = name in _LASTING_FIELDS
            self._columns[name] = (
                self.lasting(name, lambda: self._read_column(name)) if is_lasting else (self._read_column(name))
            )
        return self._columns[name]

    def plain_kind(self, name: str) -> Type | None:
        """Number or text: the type of a field that is read as it is on every tick; None of any other field."""
        kind = FIELDS[self.population][name]
        is_plain = name not in self._derived and name not in _LASTING_FIELDS and kind is not Type.BOOLEAN
        return kind if is_plain else None

    def read(self, names: Sequence[str], dtype: type[np.float64 | np.int32]) -> NDArray[Any]:
        """`[names, items]` of plain fields of one kind, two or more; they are columns of this tick from now on."""
        values = chain.from_iterable(map(attrgetter(*names), self.items))
        told = values if dtype is np.float64 else map(self.codes.__getitem__, values)  # None becomes NaN
        flat = np.fromiter(told, dtype, len(names) * len(self.items))
        columns = np.ascontiguousarray(flat.reshape(-1, len(names)).T)
        self._columns.update(zip(names, columns, strict=True))
        return columns

    def _read_column(self, name: str) -> NDArray[Any]:
        derived = self._derived.get(name)
        if derived is not None:
            return derived(self)
        values, count = map(attrgetter(name), self.items), len(self.items)
        kind = FIELDS[self.population][name]
        if kind is Type.TEXT:
            return np.fromiter(map(self.codes.__getitem__, values), np.int32, count)
        if kind is Type.BOOLEAN:
            return np.fromiter(map(_TRUTH.__getitem__, values), np.int8, count)
        return np.array(list(values), np.float64)  # None becomes NaN

    def changed_places(self, name: str) -> NDArray[np.intp]:
        """Places whose item has another value of a text or truth field than when it was last known."""
        if name not in self._changed_places:
            self._changed_places[name] = self._changes(name)
        return self._changed_places[name]

    def _codes(self, name: str) -> NDArray[np.int32]:
        """A text or truth field as codes."""
        column = self.column(name)
        return _TRUTH_CODES.take(column) if column.dtype == np.int8 else column

    def _changes(self, name: str) -> NDArray[np.intp]:
        followed, last = self._last_codes.get(name) or (0, np.full(self.capacity, UNKNOWN_CODE, np.int32))
        self._last_codes[name] = (self._updates, last)
        if followed != self._updates - 1:
            last[:] = UNKNOWN_CODE
        elif self.new_places:
            last[self.new_places] = UNKNOWN_CODE
        now, before = self._codes(name), last.take(self.places)
        if now.tobytes() == before.tobytes():
            return _NO_PLACES  # on most ticks
        differs = np.flatnonzero((now != before) & (now != UNKNOWN_CODE))
        if not differs.size:
            return _NO_PLACES
        places = self.places[differs]
        last[places] = now[differs]
        known: NDArray[np.intp] = places[before[differs] != UNKNOWN_CODE]
        return known
