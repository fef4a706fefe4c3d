"""What programs compute of all items together: fields, comparisons, memberships and decisive windows by the dozen.

An array operation over a few dozen items costs what its call costs, and rule sets ask the same kind of question many
times: `distance_m < 30`, `lateral_m > 2`, `lane == "ego"`, `all_within(visible, 1)`. So those whose operands are there
at the same time are rows of one array. For that, what has one value per item is computed in an order of levels. A
level begins with the decisive windows over what the level before found (the first one with the fields as they are),
then comes what is made of fields alone, then all comparisons and memberships of these, and then the rest.

Only what is computed on every tick is computed together. A comparison of a column that is, is so too from then on:
one row more costs less than asking whether it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np

from triggers.evaluation.builder import NODE
from triggers.evaluation.item_decisive import DECISIVE, Decisive, DecisiveBank
from triggers.evaluation.item_moments import MOMENTS, MomentBank, Moments
from triggers.evaluation.item_steps import NUMBER_COMPARISONS, holds_anywhere, mask_of
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.parts import Part, PartKey, Storage
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.schedule import EVERY_TICK, ON_DEMAND, Schedule
from triggers.evaluation.text_codes import UNKNOWN_CODE
from triggers.evaluation.truths import TRUE, compared
from triggers.language.expressions import Constant, Expression, ItemField, Membership, Operation
from triggers.language.populations import Population
from triggers.language.types import Type

#: Membership of texts with larger codes is compared one by one: tables would become large.
MAX_TABLE_CODE = 4095
_FIRST, _MADE, _COMPARISONS, _REST = range(4)


class Rank(NamedTuple):
    """When in a tick something is computed."""

    level: int
    stage: int


#: What a batch is of: its kind, its level, its population, and whether it is known before the network has spoken.
_BatchKey: TypeAlias = tuple[object, ...]


class ItemBatches:
    """The batches of one program. `nodes` are in an order in which operands come first; widens the schedule."""

    def __init__(
        self,
        nodes: Iterable[Expression],
        parts: Mapping[PartKey, Part],
        schedule: Schedule,
        known: frozenset[bytes],
        storage: Storage,
    ) -> None:
        #: Of parts that are computed together: the step of all of them for the first, None for the others.
        self.steps: dict[PartKey, Step | None] = {}
        self._parts, self._schedule, self._storage = parts, schedule, storage
        self._ranks: dict[bytes, Rank] = {}
        batches: dict[_BatchKey, list[Expression]] = {}
        for node in nodes:
            self._ranks[node.key] = self._rank(node)
            batch_of = self._batch_of(node)
            if batch_of is not None and node.population is not None:
                key = (*batch_of, self._ranks[node.key], node.population, node.key in known)
                batches.setdefault(key, []).append(node)
        for (kind, *_), batch in batches.items():
            if len(batch) > 1 or kind in _EVEN_ALONE:
                schedule.widen(batch)
                self.steps |= dict.fromkeys((NODE, node.key) for node in batch)
                self.steps[NODE, batch[0].key] = self._step(kind, batch)

    def in_order(self) -> list[tuple[PartKey, Part]]:
        """All parts in the order in which they are to be computed; those with one value stay as they were."""
        return sorted(self._parts.items(), key=lambda item: self._rank_of(*item))

    def _rank_of(self, key: PartKey, part: Part) -> Rank:
        kind, node = key
        is_of_items = isinstance(part.turn, Population) and kind == NODE
        return self._ranks[node] if is_of_items else Rank(0, 0)

    # -- when

    def _rank(self, node: Expression) -> Rank:
        ranks = [self._ranks[operand.key] for operand in node.operands if operand.population is not None]
        level = max((rank.level for rank in ranks), default=0)
        if node.population is None:
            return Rank(level, _REST if ranks else 0)
        if _is_banked(node):
            return Rank(level + 1, _FIRST)
        if isinstance(node, ItemField):
            return Rank(0, _FIRST)
        if any(rank > (level, _MADE) for rank in ranks):
            return Rank(level, _REST)
        return Rank(level, _COMPARISONS if _is_number_test(node) or _is_text_test(node) else _MADE)

    def _batch_of(self, node: Expression) -> tuple[object, ...] | None:
        """The kind of batch that a node may be in, with what tells batches of a kind apart."""
        if self._schedule.mask((NODE, node.key)) == ON_DEMAND:
            return None
        if _is_banked(node):
            return (DecisiveBank if node.name in DECISIVE else MomentBank,)
        if isinstance(node, ItemField):
            kind = None if node.population is None else self._table(node).plain_kind(node.name)
            return None if kind is None else (_FIELD_STEPS[kind],)
        if self._ranks[node.key].stage != _COMPARISONS or not self._is_always(node.operands[0]):
            return None
        if _is_number_test(node):
            return (_comparisons_step,)
        codes = [self._table(node).codes.literal(text) for text in _texts(node)]
        return (_memberships_step, node.operands[0].key) if max(codes) <= MAX_TABLE_CODE else None

    def _is_always(self, column: Expression) -> bool:
        """Whether a column is computed on every tick, or can be for little."""
        if isinstance(column, ItemField) and self._batch_of(column) is not None:
            self._schedule.widen([column])
        return self._schedule.mask((NODE, column.key)) == EVERY_TICK

    # -- how

    def _step(self, kind: object, batch: Sequence[Any]) -> Step:
        table, slots = self._table(batch[0]), self._storage.slots
        if kind in _FIELD_STEPS.values():
            fields: Callable[..., Step] = kind  # type: ignore[assignment]
            return fields(slots, [self._out(node) for node in batch], [node.name for node in batch], table)
        if kind in (DecisiveBank, MomentBank):
            memories = [self._parts[NODE, node.key].memory for node in batch]
            operands, outs = [self._out(node.operands[0]) for node in batch], [self._out(node) for node in batch]
            if kind is MomentBank:
                moments = MomentBank([each for each in memories if isinstance(each, Moments)])
                return _moments_step(slots, operands, outs, moments, table)
            decisive = DecisiveBank([each for each in memories if isinstance(each, Decisive)])
            return _decisive_step(slots, operands, outs, decisive, table)
        make = _comparisons_step if kind is _comparisons_step else _memberships_step
        return make(slots, batch, self._out, table)

    def _out(self, node: Expression) -> int:
        return self._parts[NODE, node.key].out

    def _table(self, node: Expression) -> ItemTable:
        assert node.population is not None
        return self._storage.tables[Population(node.population)]


def _decisive_step(
    slots: Slots, operands: Sequence[int], outs: Sequence[int], bank: DecisiveBank, table: ItemTable
) -> Step:
    """any_within and all_within."""

    def step() -> None:
        values = bank.update(table, [slots[operand] for operand in operands])
        for out, value in zip(outs, values, strict=True):
            slots[out] = value

    return step


def _moments_step(
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


_FIELD_STEPS: Mapping[Type, Callable[[Slots, Sequence[int], Sequence[str], ItemTable], Step]] = {
    Type.NUMBER: _numbers_step,
    Type.TEXT: _texts_step,
}


def _comparisons_step(
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


def _memberships_step(
    slots: Slots, batch: Sequence[Expression], slot_of: Callable[[Expression], int], table: ItemTable
) -> Step:
    """Tests of one column of texts, by a table of all codes up to the largest; its ends stand for all others."""
    outs, column = [slot_of(node) for node in batch], slot_of(batch[0].operands[0])
    codes = [[table.codes.literal(text) for text in _texts(node)] for node in batch]
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


#: Batches that make sense of one.
_EVEN_ALONE: tuple[object, ...] = (DecisiveBank, MomentBank, _memberships_step)


def _is_banked(node: Expression) -> TypeGuard[Operation]:
    """Windows that are computed together."""
    is_window = isinstance(node, Operation) and (node.name in DECISIVE or node.name in MOMENTS)
    return is_window and node.population is not None


def _is_number_test(node: Expression) -> bool:
    """`column < 3` and the like."""
    return isinstance(node, Operation) and node.name in NUMBER_COMPARISONS and _is_constant(node, Type.NUMBER)


def _is_text_test(node: Expression) -> bool:
    """`column == "car"`, `column in ("car", "bus")`."""
    if isinstance(node, Membership):
        return all(isinstance(choice, str) for choice in node.choices)
    return isinstance(node, Operation) and node.name in ("==", "!=") and _is_constant(node, Type.TEXT)


def _is_constant(node: Operation, kind: Type) -> bool:
    column, constant = node.operands
    return column.population is not None and isinstance(constant, Constant) and constant.type is kind


def _texts(node: Expression) -> list[str]:
    given = node.choices if isinstance(node, Membership) else [getattr(node.operands[1], "value", "")]
    return [text for text in given if isinstance(text, str)]


def _threshold(node: Operation) -> float:
    constant = node.operands[1]
    assert isinstance(constant, Constant)
    return float(constant.value)
