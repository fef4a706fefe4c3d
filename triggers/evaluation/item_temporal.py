"""Temporal operators that follow every item: what `temporal_steps` does for one value, for a column of them.
`any_within` and `all_within`, `mean_within` and `std_within`, of which rules have most, are computed together: see
`item_decisive` and `item_moments`.

Each class keeps what it needs by place (see `item_table`), takes in one column a tick and yields one; a column is
truth (the bytes of `truths`), or a pair of values and the mask of unknown rows (see `item_steps`). An operator knows of
an item only what it saw itself: it is unknown until the item was followed for the whole window with known values. Ticks
on which nothing looked leave no trace. Every tick costs a few array operations, O(1) amortised whatever the window's
length; memory is fixed (see `sizes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.messages import NANOSECONDS_PER_SECOND
from triggers.evaluation.item_decisive import LONG_AGO_NS
from triggers.evaluation.item_steps import pair
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.item_windows import PlaceLags, PlaceMinima, PlaceTotals
from triggers.evaluation.text_codes import UNKNOWN_CODE
from triggers.evaluation.truths import FALSE, NEGATED, TRUE, UNKNOWN
from triggers.language.types import Type

#: Truth, or (values, unknown).
Column: TypeAlias = Any


class ItemOperator(Protocol):
    """One operator with one window length over one column."""

    def update(self, table: ItemTable, column: Column) -> Column:
        """Take in this tick and return the operator's value for every item."""


class Following:
    """Since when each item was followed here, and when its value was last unknown."""

    def __init__(self, capacity: int) -> None:
        self._since_ns = np.full(capacity, LONG_AGO_NS, np.int64)
        #: The newest time at which the value was not known: before the item came, or while it was unknown.
        self._unknown_ns = np.full(capacity, LONG_AGO_NS, np.int64)
        self._is_first = True

    def newcomers(self, table: ItemTable) -> Any:
        """Places that are new here: those of new items; at the first tick, which may be in mid-drive, all."""
        new = table.places if self._is_first else table.new_places
        self._is_first = False
        if len(new):
            self._since_ns[new] = table.time_ns
            self._unknown_ns[new] = table.time_ns - 1
        return new

    def was_here(self, table: ItemTable, time_ns: int) -> NDArray[np.bool_]:
        """Items that were followed at `time_ns` already."""
        return np.asarray(self._since_ns.take(table.places) <= time_ns)

    def covers(self, table: ItemTable, length_ns: int, unknown: Any) -> NDArray[np.bool_]:
        """Take in which rows are unknown now; True for items that were known at every tick of the window."""
        if unknown is not None:
            self._unknown_ns[table.places[unknown]] = table.time_ns
        return np.asarray(self._unknown_ns.take(table.places) < table.time_ns - length_ns)


class Lagged:
    """lag, delta and rate: the value at the newest tick that is at least the window's length old."""

    def __init__(self, length_ns: int, capacity: int, kind: Type, combine: Callable[..., Any] | None) -> None:
        unknown, dtype = _STORED[kind]
        self._is_truth = kind is Type.BOOLEAN
        self._combine = combine
        self._lags = PlaceLags(length_ns, capacity, unknown, dtype)
        self._unknown = unknown

    def update(self, table: ItemTable, column: Column) -> Column:
        """See ItemOperator."""
        if table.new_places:
            self._lags.wipe(table.new_places)
        values = column if self._is_truth else _stored(column, self._unknown)
        self._lags.push(table.time_ns, table.places, values)
        then_ns = self._lags.then_ns(table.time_ns)
        if then_ns is None:
            then = np.full(len(table.places), self._unknown, values.dtype)
        else:
            then = self._lags.then(table.places)
        if self._combine is not None:
            between_s = max(table.time_ns - (then_ns or 0), 1) / NANOSECONDS_PER_SECOND
            then = self._combine(values, then, between_s)
        return then if self._is_truth else pair(then)


class Extreme:
    """min_within (sign 1) and max_within (sign -1)."""

    def __init__(self, length_ns: int, capacity: int, sign: int) -> None:
        self._length_ns = length_ns
        self._sign = sign
        self._following = Following(capacity)
        self._minima = PlaceMinima(length_ns, 1, capacity, np.float64)

    def update(self, table: ItemTable, column: Column) -> Column:
        """See ItemOperator."""
        new = self._following.newcomers(table)
        if len(new):
            self._minima.wipe(new)
        values, unknown = column
        signed = self._sign * values
        self._minima.push(table.time_ns, table.places, signed if unknown is None else np.where(unknown, np.inf, signed))
        is_covered = self._following.covers(table, self._length_ns, unknown)
        return pair(np.where(is_covered, self._sign * self._minima.minima(table.places)[0], np.nan))


class Since:
    """since_s."""

    def __init__(self, length_ns: int, capacity: int) -> None:
        self._following = Following(capacity)
        self._true_ns = np.full(capacity, LONG_AGO_NS, np.int64)  # also after an unknown tick

    def update(self, table: ItemTable, column: Column) -> Column:
        """See ItemOperator."""
        self._true_ns[self._following.newcomers(table)] = LONG_AGO_NS
        self._true_ns[table.places[column == TRUE]] = table.time_ns
        self._true_ns[table.places[column == UNKNOWN]] = LONG_AGO_NS
        true_ns = self._true_ns[table.places]
        since_s = (table.time_ns - true_ns) / NANOSECONDS_PER_SECOND
        return pair(np.where(true_ns == LONG_AGO_NS, np.nan, since_s))


class Edge:
    """rising, falling, changed: against the item's value at the tick before."""

    def __init__(self, capacity: int, kind: Type, test: Callable[[Any, Any], Any]) -> None:
        self._unknown, dtype = _STORED[kind]
        self._is_truth = kind is Type.BOOLEAN
        self._test = test
        self._following = Following(capacity)
        self._before = np.full(capacity, self._unknown, dtype)

    def update(self, table: ItemTable, column: Column) -> Column:
        """See ItemOperator."""
        self._before[self._following.newcomers(table)] = self._unknown
        now = column if self._is_truth else _stored(column, self._unknown)
        before = self._before[table.places]
        self._before[table.places] = now
        return self._test(before, now)


class Events:
    """count_within (rises of truth) and flips (changes of anything known)."""

    def __init__(self, length_ns: int, capacity: int, edge: Edge) -> None:
        self._length_ns = length_ns
        self._edge = edge
        self._following = Following(capacity)
        self._totals = PlaceTotals(length_ns, capacity)

    def update(self, table: ItemTable, column: Column) -> Column:
        """See ItemOperator."""
        new = self._following.newcomers(table)
        if len(new):
            self._totals.wipe(new)
        edges = self._edge.update(table, column)
        self._totals.add(table.time_ns, table.places[edges == TRUE], 1.0)
        is_covered = self._following.covers(table, self._length_ns, unknown_rows(column))
        return pair(np.where(is_covered, self._totals.totals[table.places], np.nan))


def unknown_rows(column: Column) -> Any:
    """The mask of unknown rows, or None where all are known."""
    return column[1] if isinstance(column, tuple) else column == UNKNOWN


def _stored(column: Column, unknown_value: Any) -> NDArray[Any]:
    values, unknown = column
    return np.asarray(values) if unknown is None else np.where(unknown, unknown_value, values)


#: How a column of each type is kept: its unknown value, and its type in an array.
_STORED: Mapping[Type, tuple[Any, Any]] = {
    Type.NUMBER: (np.nan, np.float64),
    Type.ANY: (np.nan, np.float64),
    Type.TEXT: (UNKNOWN_CODE, np.int32),
    Type.BOOLEAN: (UNKNOWN, np.int8),
}


def _step_to(target: int) -> Callable[[Any, Any], Any]:
    """`before is not target and after is target`, in three values: the least of both."""

    def test(before: Any, after: Any) -> Any:
        was_not, is_now = (NEGATED[before], after) if target == TRUE else (before, NEGATED[after])
        return np.minimum(was_not, is_now)

    return test


def _changed_truth(before: Any, after: Any) -> Any:
    differs = np.where(before != after, np.int8(TRUE), np.int8(FALSE))
    return np.where((before == UNKNOWN) | (after == UNKNOWN), np.int8(UNKNOWN), differs)


def _changed_value(before: Any, after: Any) -> Any:
    differs = np.where(before != after, np.int8(TRUE), np.int8(FALSE))
    return np.where(_is_unknown(before) | _is_unknown(after), np.int8(UNKNOWN), differs)


def _is_unknown(values: Any) -> Any:
    return np.isnan(values) if values.dtype == np.float64 else values == UNKNOWN_CODE


def _changed(capacity: int, kind: Type) -> Edge:
    return Edge(capacity, kind, _changed_truth if kind is Type.BOOLEAN else _changed_value)


#: Makers by name; given the window's length, the table's capacity and the operand's type.
ITEM_OPERATORS: Mapping[str, Callable[[int, int, Type], ItemOperator]] = {
    "lag": lambda length_ns, capacity, kind: Lagged(length_ns, capacity, kind, None),
    "delta": lambda length_ns, capacity, kind: Lagged(length_ns, capacity, kind, lambda now, then, s: now - then),
    "rate": lambda length_ns, capacity, kind: Lagged(length_ns, capacity, kind, lambda now, then, s: (now - then) / s),
    "min_within": lambda length_ns, capacity, kind: Extreme(length_ns, capacity, 1),
    "max_within": lambda length_ns, capacity, kind: Extreme(length_ns, capacity, -1),
    "since_s": lambda length_ns, capacity, kind: Since(length_ns, capacity),
    "rising": lambda length_ns, capacity, kind: Edge(capacity, kind, _step_to(TRUE)),
    "falling": lambda length_ns, capacity, kind: Edge(capacity, kind, _step_to(FALSE)),
    "changed": lambda length_ns, capacity, kind: _changed(capacity, kind),
    "count_within": lambda length_ns, capacity, kind: Events(length_ns, capacity, Edge(capacity, kind, _step_to(TRUE))),
    "flips": lambda length_ns, capacity, kind: Events(length_ns, capacity, _changed(capacity, kind)),
}
