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
from typing import Any, NamedTuple, TypeAlias, TypeGuard

from triggers.evaluation.builder import NODE
from triggers.evaluation.item_batch_steps import (
    FIELD_STEPS,
    comparisons_step,
    decisive_step,
    memberships_step,
    moments_step,
    texts_of,
)
from triggers.evaluation.item_decisive import DECISIVE, Decisive, DecisiveBank
from triggers.evaluation.item_moments import MOMENTS, MomentBank, Moments
from triggers.evaluation.item_steps import NUMBER_COMPARISONS
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.parts import Part, PartKey, Storage
from triggers.evaluation.scalar_steps import Step
from triggers.evaluation.schedule import EVERY_TICK, ON_DEMAND, Schedule
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
            return None if kind is None else (FIELD_STEPS[kind],)
        if self._ranks[node.key].stage != _COMPARISONS or not self._is_always(node.operands[0]):
            return None
        if _is_number_test(node):
            return (comparisons_step,)
        codes = [self._table(node).codes.literal(text) for text in texts_of(node)]
        return (memberships_step, node.operands[0].key) if max(codes) <= MAX_TABLE_CODE else None

    def _is_always(self, column: Expression) -> bool:
        """Whether a column is computed on every tick, or can be for little."""
        if isinstance(column, ItemField) and self._batch_of(column) is not None:
            self._schedule.widen([column])
        return self._schedule.mask((NODE, column.key)) == EVERY_TICK

    # -- how

    def _step(self, kind: object, batch: Sequence[Any]) -> Step:
        table, slots = self._table(batch[0]), self._storage.slots
        if kind in FIELD_STEPS.values():
            fields: Callable[..., Step] = kind  # type: ignore[assignment]
            return fields(slots, [self._out(node) for node in batch], [node.name for node in batch], table)
        if kind in (DecisiveBank, MomentBank):
            memories = [self._parts[NODE, node.key].memory for node in batch]
            operands, outs = [self._out(node.operands[0]) for node in batch], [self._out(node) for node in batch]
            if kind is MomentBank:
                moments = MomentBank([each for each in memories if isinstance(each, Moments)])
                return moments_step(slots, operands, outs, moments, table)
            decisive = DecisiveBank([each for each in memories if isinstance(each, Decisive)])
            return decisive_step(slots, operands, outs, decisive, table)
        make = comparisons_step if kind is comparisons_step else memberships_step
        return make(slots, batch, self._out, table)

    def _out(self, node: Expression) -> int:
        return self._parts[NODE, node.key].out

    def _table(self, node: Expression) -> ItemTable:
        assert node.population is not None
        return self._storage.tables[Population(node.population)]


#: Batches that make sense of one.
_EVEN_ALONE: tuple[object, ...] = (DecisiveBank, MomentBank, memberships_step)


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
