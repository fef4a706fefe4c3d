"""Closures over all tracks of a tick at once (see `track_table` for how columns hold the unknown), and quantifiers.

They run only on ticks that have tracks (on others the quantifiers' values for no tracks stand), and with NumPy's
floating point warnings off: a result that is not finite is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.track_table import FALSE, TRUE, UNKNOWN, UNKNOWN_CODE, TrackTable
from triggers.language.types import Type

ColumnMaker: TypeAlias = Callable[[Slots, int, tuple[int, ...]], Step]


def column_step(slots: Slots, out: int, table: TrackTable, name: str) -> Step:
    """A track field."""

    def step() -> None:
        slots[out] = table.column(name)

    return step


def scalar_step(slots: Slots, out: int, scalar: int, table: TrackTable, kind: Type) -> Step:
    """One value for all tracks, in the columns' notation for the unknown."""

    def step() -> None:
        value = slots[scalar]
        if kind is Type.TEXT:
            slots[out] = np.int32(table.code(value))
        elif kind is Type.BOOLEAN:
            slots[out] = np.int8(UNKNOWN if value is None else TRUE if value else FALSE)
        else:
            slots[out] = np.float64("nan" if value is None else value)

    return step


def _arithmetic(apply: Callable[..., Any]) -> ColumnMaker:
    def make(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
        def step() -> None:
            values = apply(*[slots[operand] for operand in operands])
            slots[out] = np.where(np.isfinite(values), values, np.nan)

        return step

    return make


def _comparison(apply: Callable[..., Any]) -> ColumnMaker:
    def make(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
        left_slot, right_slot = operands

        def step() -> None:
            left, right = slots[left_slot], slots[right_slot]
            truth = np.asarray(apply(left, right)).astype(np.int8) * TRUE
            truth[_is_unknown(left) | _is_unknown(right)] = UNKNOWN
            slots[out] = truth

        return step

    return make


def _is_unknown(column: Any) -> Any:
    if column.dtype == np.float64:
        return column != column
    return column == (UNKNOWN if column.dtype == np.int8 else UNKNOWN_CODE)


def _reduce(apply: Callable[[Any, Any], Any]) -> ColumnMaker:
    """and, or (of truth), min, max (of numbers): NaN and `UNKNOWN` come through as they should."""

    def make(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
        first, *others = operands

        def step() -> None:
            values = slots[first]
            for other in others:
                values = apply(values, slots[other])
            slots[out] = values

        return step

    return make


def _not(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    def step() -> None:
        slots[out] = TRUE - slots[operands[0]]

    return step


def _if(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    def step() -> None:
        condition, then, otherwise = (slots[operand] for operand in operands)
        chosen = np.where(condition == TRUE, then, otherwise)
        slots[out] = np.where(condition == UNKNOWN, _unknown_like(chosen), chosen)

    return step


def _unknown_like(column: NDArray[Any]) -> Any:
    if column.dtype == np.float64:
        return np.float64("nan")
    return column.dtype.type(UNKNOWN if column.dtype == np.int8 else UNKNOWN_CODE)


def _known(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    def step() -> None:
        slots[out] = np.where(_is_unknown(slots[operands[0]]), np.int8(FALSE), np.int8(TRUE))

    return step


def _is_true(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    def step() -> None:
        slots[out] = np.where(slots[operands[0]] == TRUE, np.int8(TRUE), np.int8(FALSE))

    return step


def membership_column_step(slots: Slots, out: int, operand: int, choices: list[Any]) -> Step:
    """`operand in choices` (choices already in the columns' notation)."""

    def step() -> None:
        column = slots[operand]
        truth = np.zeros(column.shape, bool)
        for choice in choices:
            truth |= column == choice
        values = truth.astype(np.int8) * TRUE
        values[_is_unknown(column)] = UNKNOWN
        slots[out] = values

    return step


COLUMN_STEPS: Mapping[str, ColumnMaker] = {
    "+": _arithmetic(np.add),
    "-": _arithmetic(np.subtract),
    "*": _arithmetic(np.multiply),
    "/": _arithmetic(np.divide),
    "//": _arithmetic(np.floor_divide),
    "%": _arithmetic(np.mod),
    "**": _arithmetic(np.power),
    "<": _comparison(np.less),
    "<=": _comparison(np.less_equal),
    ">": _comparison(np.greater),
    ">=": _comparison(np.greater_equal),
    "==": _comparison(np.equal),
    "!=": _comparison(np.not_equal),
    "negate": _arithmetic(np.negative),
    "abs": _arithmetic(np.abs),
    "sign": _arithmetic(np.sign),
    "min": _reduce(np.minimum),
    "max": _reduce(np.maximum),
    "and": _reduce(np.minimum),
    "or": _reduce(np.maximum),
    "not": _not,
    "if": _if,
    "known": _known,
    "is_true": _is_true,
}


def _any(truth: NDArray[np.int8]) -> bool | None:
    most = int(truth.max())
    return None if most == UNKNOWN else most == TRUE


def _all(truth: NDArray[np.int8]) -> bool | None:
    least = int(truth.min())
    return None if least == UNKNOWN else least == TRUE


def _count(truth: NDArray[np.int8]) -> float | None:
    return None if (truth == UNKNOWN).any() else float(np.count_nonzero(truth == TRUE))


#: How a quantifier reads its condition's column, and its value when there are no tracks.
QUANTIFIER_STEPS: Mapping[str, tuple[Callable[[NDArray[np.int8]], bool | float | None], bool | float]] = {
    "any_track": (_any, False),
    "all_tracks": (_all, True),
    "count_tracks": (_count, 0.0),
}


def quantifier_step(slots: Slots, out: int, condition: int, name: str, table: TrackTable) -> Step:
    """any_track, all_tracks, count_tracks."""
    read, _ = QUANTIFIER_STEPS[name]

    def step() -> None:
        truth = slots[condition]
        slots[out] = read(truth if truth.ndim else np.full(len(table.tracks), truth, np.int8))

    return step
