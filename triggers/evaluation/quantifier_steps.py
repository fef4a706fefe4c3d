"""Quantifiers and aggregates: from a column with one row per item to one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from triggers.evaluation.item_steps import Unknown, holds_anywhere
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.truths import TRUE, Truth, rows_of, true_of, unknown_of


def _any(truth: Truth, ones: Truth) -> bool | None:
    if not truth:
        return False
    return True if truth & ones << 1 else None


def _all(truth: Truth, ones: Truth) -> bool | None:
    if truth & ones != ones:
        return False
    return True if truth == ones * TRUE else None


def _count(truth: Truth, ones: Truth) -> float | None:
    return None if unknown_of(truth, ones) else float(true_of(truth, ones).bit_count())


_READERS: Mapping[str, Callable[[Truth, Truth], bool | float | None]] = {"any": _any, "all": _all, "count": _count}
_REDUCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "min": np.minimum.reduce,
    "max": np.maximum.reduce,
    "mean": lambda numbers: np.add.reduce(numbers) / len(numbers),
}

#: The value of each kind of quantifier when there are no items.
WITHOUT_ITEMS: Mapping[str, bool | float | None] = {
    "any": False,
    "all": True,
    "count": 0.0,
    "min": None,
    "max": None,
    "mean": None,
}


def quantifier_step(slots: Slots, out: int, condition: int, kind: str, table: ItemTable) -> Step:
    """any, all, count."""
    read = _READERS[kind]

    def step() -> None:
        slots[out] = read(slots[condition], table.ones)

    return step


def aggregate_step(slots: Slots, out: int, number: int, condition: int, kind: str, table: ItemTable) -> Step:
    """min, max, mean over the items for which the condition is true."""
    reduce = _REDUCTIONS[kind]

    def step() -> None:
        selected = selected_numbers(slots[number], slots[condition], table)
        value = float("nan") if selected is None else float(reduce(selected))
        slots[out] = value if math.isfinite(value) else None

    return step


def selected_numbers(column: tuple[Any, Unknown], truth: Truth, table: ItemTable) -> Any:
    """The numbers of the items for which `truth` is true; None when there are none, or one of them is unknown."""
    selected = true_of(truth, table.ones)
    if not selected or unknown_of(truth, table.ones):
        return None
    values, unknown = column
    is_selected = rows_of(selected, len(table.items)).view(np.bool_)
    if unknown is not None and holds_anywhere(unknown & is_selected):
        return None
    return values[is_selected] if values.ndim else np.full(selected.bit_count(), values)
