"""One step for many expressions over items: rows of one array, told to each expression's slot. See `item_batches`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from triggers.evaluation.item_decisive import DecisiveBank
from triggers.evaluation.item_moments import MomentBank
from triggers.evaluation.item_steps import NUMBER_COMPARISONS, holds_anywhere, mask_of
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.text_codes import UNKNOWN_CODE
from triggers.evaluation.truths import TRUE, compared
from triggers.language.expressions import Constant, Expression, Membership, Operation
from triggers.language.types import Type


def decisive_step(
    slots: Slots, operands: Sequence[int], outs: Sequence[int], bank: DecisiveBank, table: ItemTable
) -> Step:
    """any_within and all_within."""

    def step() -> None:
        values = bank.update(table, [slots[operand] for operand in operands])
        for out, value in zip(outs, values, strict=True):
            slots[out] = value

    return step


def moments_step(
    slots: Slots, operands: Sequence[int], outs: Sequence[int], bank: MomentBank, table: ItemTable
) -> Step:
    """mean_within and std_within."""

    def step() -> None:
        _tell_numbers(slots, outs, *bank.update(table, [slots[operand] for operand in operands]))

    return step


def _numbers_step(slots: Slots, outs: Sequence[int], names: Sequence[str], table: ItemTable) -> Step:
    """Fields that are numbers."""

    def step() -> None:
        columns = table.read(names, np.float64)
        _tell_numbers(slots, outs, columns, ~np.isfinite(columns))

    return step


def _texts_step(slots: Slots, outs: Sequence[int], names: Sequence[str], table: ItemTable) -> Step:
    """Fields that are texts."""

    def step() -> None:
        columns = table.read(names, np.int32)
        _tell_numbers(slots, outs, columns, columns == UNKNOWN_CODE)

    return step


FIELD_STEPS: Mapping[Type, Callable[[Slots, Sequence[int], Sequence[str], ItemTable], Step]] = {
    Type.NUMBER: _numbers_step,
    Type.TEXT: _texts_step,
}


def comparisons_step(
    slots: Slots, batch: Sequence[Operation], slot_of: Callable[[Expression], int], table: ItemTable
) -> Step:
    """Comparisons of columns with numbers: rows of one array, those of one operator beside each other."""
    batch = sorted(batch, key=lambda node: node.name)
    outs = [slot_of(node) for node in batch]
    columns = [slot_of(node.operands[0]) for node in batch]
    distinct = list(dict.fromkeys(columns))
    picked = np.array([distinct.index(column) for column in columns])
    thresholds = np.array([_threshold(node) for node in batch], np.float64)[:, None]
    names = [node.name for node in batch]
    starts = [row for row in range(len(names)) if row == 0 or names[row] != names[row - 1]]
    runs = [(NUMBER_COMPARISONS[names[start]], slice(start, end)) for start, end in pairwise([*starts, len(names)])]

    def step() -> None:
        pairs = [slots[column] for column in distinct]
        values = np.concatenate([column for column, _ in pairs]).reshape(len(pairs), -1).take(picked, axis=0)
        holds = np.empty(values.shape, np.bool_)
        for apply, rows in runs:
            apply(values[rows], thresholds[rows], out=holds[rows])
        unknown = {slot: mask_of(mask, table) for slot, (_, mask) in zip(distinct, pairs, strict=True)}
        _tell(slots, outs, holds, [unknown[column] for column in columns], len(table.items))

    return step


def memberships_step(
    slots: Slots, batch: Sequence[Expression], slot_of: Callable[[Expression], int], table: ItemTable
) -> Step:
    """Tests of one column of texts, by a table of all codes up to the largest; its ends stand for all others."""
    outs, column = [slot_of(node) for node in batch], slot_of(batch[0].operands[0])
    codes = [[table.codes.literal(text) for text in texts_of(node)] for node in batch]
    holds_for = np.zeros((len(batch), max(map(max, codes)) + 2), np.bool_)
    for row, (node, listed) in enumerate(zip(batch, codes, strict=True)):
        is_listed = not (isinstance(node, Operation) and node.name == "!=")
        holds_for[row] = not is_listed
        holds_for[row, listed] = is_listed

    def step() -> None:
        values, mask = slots[column]
        holds = holds_for.take(values, axis=1, mode="clip")
        _tell(slots, outs, holds, [mask_of(mask, table)] * len(outs), len(values))

    return step


def _tell_numbers(slots: Slots, outs: Sequence[int], columns: Any, is_unknown: Any) -> None:
    """Each row of `columns` with its mask, if it needs one, as the column of its slot."""
    if not holds_anywhere(is_unknown):
        for out, column in zip(outs, columns, strict=True):
            slots[out] = column, None
        return
    has_unknown = is_unknown.any(axis=1).tolist()
    for out, column, unknown, has in zip(outs, columns, is_unknown, has_unknown, strict=True):
        slots[out] = column, unknown if has else None


def _tell(slots: Slots, outs: Sequence[int], holds: Any, unknown: Sequence[int], items: int) -> None:
    """Each row of `holds` as the truth of its slot."""
    told, end = holds.tobytes(), 0
    for out, is_unknown in zip(outs, unknown, strict=True):
        start, end = end, end + items
        truth = int.from_bytes(told[start:end], "little")
        slots[out] = compared(truth, is_unknown) if is_unknown else truth * TRUE


def texts_of(node: Expression) -> list[str]:
    """The texts that a test of a column names."""
    given = node.choices if isinstance(node, Membership) else [getattr(node.operands[1], "value", "")]
    return [text for text in given if isinstance(text, str)]


def _threshold(node: Operation) -> float:
    constant = node.operands[1]
    assert isinstance(constant, Constant)
    return float(constant.value)
