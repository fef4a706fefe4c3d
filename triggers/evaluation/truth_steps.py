"""Closures over the truth of all items at once (see `truths`): `and`, `or`, `not`, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.truths import TRUE, Truth, chosen, equal, negated, true_of, unknown_of

TruthMaker: TypeAlias = Callable[[Slots, int, tuple[int, ...], ItemTable], Step]


def _and(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
    left, right = operands

    def step() -> None:
        slots[out] = slots[left] & slots[right]

    return step


def _or(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
    left, right = operands

    def step() -> None:
        slots[out] = slots[left] | slots[right]

    return step


def _of(apply: Callable[..., Truth]) -> TruthMaker:
    """Of the operands and `ones`."""

    def make(slots: Slots, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
        def step() -> None:
            slots[out] = apply(*[slots[operand] for operand in operands], table.ones)

        return step

    return make


TRUTH_STEPS: Mapping[str, TruthMaker] = {
    "and": _and,
    "or": _or,
    "not": _of(negated),
    "==": _of(equal),
    "!=": _of(lambda left, right, ones: negated(equal(left, right, ones), ones)),
    "if": _of(chosen),
    "known": _of(lambda truth, ones: (unknown_of(truth, ones) ^ ones) * TRUE),
    "is_true": _of(lambda truth, ones: true_of(truth, ones) * TRUE),
}
