"""Closures over the numbers and texts of all items of a population at once; `truth_steps` are those over conditions.

Columns of numbers and text are pairs `(values, unknown)`: a mask of the unknown rows, or None where all are known (the
usual case: nothing to mask). A condition's column is one whole number (see `truths`). What has one value for all items
is broadcast.

They run only on ticks that have items (on others the quantifiers' values for no items stand), and with NumPy's
floating point warnings off: a result that is not finite is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.text_codes import UNKNOWN_CODE
from triggers.evaluation.truths import FALSE, TRUE, UNKNOWN, Truth, compared, rows_of, truth_of, unknown_of
from triggers.language.types import Type

ColumnMaker: TypeAlias = Callable[[Slots, int, tuple[int, ...], ItemTable], Step]
#: Mask of the unknown rows (one flag where it holds for all rows); None: all are known.
Unknown: TypeAlias = Any
#: Membership of texts with larger codes is compared one by one: tables would become large.
MAX_TABLE_CODE = 4095
_CLEAR, _SET = b"\0", b"\1"


def pair(values: Any) -> tuple[Any, Unknown]:
    """A column of numbers (not finite: unknown) or text codes with its mask."""
    if values.dtype == np.float64:
        return values, _not_finite(values)
    unknown = values == UNKNOWN_CODE
    return values, unknown if holds_anywhere(unknown) else None


def holds_anywhere(mask: Any) -> bool:
    """`mask.any()`; searched as bytes, which is several times as fast for the few hundred rows of a tick."""
    return _SET in mask.tobytes()


def mask_of(unknown: Unknown, table: ItemTable) -> Truth:
    """The same mask as a whole number with 1 in the byte of every unknown item."""
    if unknown is None:
        return 0
    return truth_of(unknown) if unknown.ndim else table.ones * bool(unknown)


def _not_finite(values: Any) -> Unknown:
    is_finite = np.isfinite(values)
    return ~is_finite if _CLEAR in is_finite.tobytes() else None


def _either(left: Unknown, right: Unknown) -> Unknown:
    if left is None or right is None:
        return right if left is None else left
    return left | right


def column_step(slots: Slots, out: int, table: ItemTable, name: str) -> Step:
    """A field of the items."""

    def step() -> None:
        column = table.column(name)
        slots[out] = truth_of(column) if column.dtype == np.int8 else pair(column)

    return step


def scalar_step(slots: Slots, out: int, scalar: int, table: ItemTable, kind: Type) -> Step:
    """One value for all items, as a column."""

    def step() -> None:
        value = slots[scalar]
        if kind is Type.BOOLEAN:
            slots[out] = table.ones * (UNKNOWN if value is None else TRUE if value else FALSE)
        elif kind is Type.TEXT:
            slots[out] = pair(np.int32(table.code(value)))
        else:
            number = math.nan if value is None else value
            slots[out] = np.float64(number), None if math.isfinite(number) else np.True_

    return step


# -- numbers and text


def _arithmetic(apply: Callable[..., Any]) -> ColumnMaker:
    def make(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
        left_slot, right_slot = operands

        def step() -> None:
            left, left_unknown = slots[left_slot]
            right, right_unknown = slots[right_slot]
            values = apply(left, right)
            # NumPy knows nan ** 0 and 1 ** nan; here they stay unknown.
            slots[out] = values, _either(_not_finite(values), _either(left_unknown, right_unknown))

        return step

    return make


def _unary(apply: Callable[[Any], Any]) -> ColumnMaker:
    """Of a finite number they are finite: what is unknown stays so, and nothing else."""

    def make(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
        (operand_slot,) = operands

        def step() -> None:
            values, unknown = slots[operand_slot]
            slots[out] = apply(values), unknown

        return step

    return make


def _fold(apply: Callable[[Any, Any], Any]) -> ColumnMaker:
    """min and max of numbers."""

    def make(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
        first, *others = operands

        def step() -> None:
            values, unknown = slots[first]
            for other in others:
                other_values, other_unknown = slots[other]
                values, unknown = apply(values, other_values), _either(unknown, other_unknown)
            slots[out] = values, unknown

        return step

    return make


def _comparison(apply: Callable[..., Any]) -> ColumnMaker:
    def make(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
        left_slot, right_slot = operands

        def step() -> None:
            left, left_unknown = slots[left_slot]
            right, right_unknown = slots[right_slot]
            slots[out] = compared(
                truth_of(apply(left, right)), mask_of(left_unknown, table) | mask_of(right_unknown, table)
            )

        return step

    return make


def membership_column_step(slots: Slots, out: int, operand: int, choices: list[Any], table: ItemTable) -> Step:
    """`operand in choices` (choices already as codes or numbers)."""

    def step() -> None:
        values, unknown = slots[operand]
        found = values == choices[0]
        for choice in choices[1:]:
            found = found | (values == choice)
        slots[out] = compared(truth_of(found), mask_of(unknown, table))

    return step


def membership_truth_step(slots: Slots, out: int, operand: int, choices: list[int], table: ItemTable) -> Step:
    """`operand in choices`, where both are truth."""

    def step() -> None:
        truth, ones = slots[operand], table.ones
        unknown = unknown_of(truth, ones)
        holds = 0
        for choice in choices:
            holds |= truth & ones if choice == TRUE else (truth & ones) ^ ones
        slots[out] = compared(holds, unknown)

    return step


def _if_value(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
    """A conditional expression of numbers or text."""
    condition_slot, then_slot, otherwise_slot = operands

    def step() -> None:
        condition = rows_of(slots[condition_slot], len(table.items))
        (then, then_unknown), (otherwise, otherwise_unknown) = slots[then_slot], slots[otherwise_slot]
        is_then = condition == TRUE
        no = np.False_
        chosen_unknown = np.where(
            is_then,
            no if then_unknown is None else then_unknown,
            no if otherwise_unknown is None else otherwise_unknown,
        )
        unknown = chosen_unknown | (condition == UNKNOWN)
        slots[out] = np.where(is_then, then, otherwise), unknown if holds_anywhere(unknown) else None

    return step


def _known_value(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
    def step() -> None:
        _, unknown = slots[operands[0]]
        slots[out] = (table.ones ^ mask_of(unknown, table)) * TRUE

    return step


NUMBER_COMPARISONS: Mapping[str, Callable[..., Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}

VALUE_STEPS: Mapping[str, ColumnMaker] = {
    "+": _arithmetic(np.add),
    "-": _arithmetic(np.subtract),
    "*": _arithmetic(np.multiply),
    "/": _arithmetic(np.divide),
    "//": _arithmetic(np.floor_divide),
    "%": _arithmetic(np.mod),
    "**": _arithmetic(np.power),
    "negate": _unary(np.negative),
    "abs": _unary(np.abs),
    "sign": _unary(np.sign),
    "min": _fold(np.minimum),
    "max": _fold(np.maximum),
    **{name: _comparison(apply) for name, apply in NUMBER_COMPARISONS.items()},
    "==": _comparison(np.equal),
    "!=": _comparison(np.not_equal),
    "if": _if_value,
    "known": _known_value,
}
