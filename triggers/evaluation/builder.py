"""Builds the parts of a program from expressions, taking over those that an older program has already.

Building writes nothing that the older program reads: new parts get slots that it does not use, and what is taken over
is not touched. So it may happen on another thread, while the older program runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runtime.messages import NANOSECONDS_PER_SECOND
from triggers.evaluation.edges import EDGE_TESTS, LatchedSignal, Replay, added_step, edge_step, watch_step
from triggers.evaluation.item_decisive import DECISIVE, Decisive
from triggers.evaluation.item_history import ITEM_HISTORIES, Flips, ItemHistory
from triggers.evaluation.item_moments import MOMENTS, Moments
from triggers.evaluation.item_steps import (
    VALUE_STEPS,
    column_step,
    membership_column_step,
    membership_truth_step,
    pair,
    scalar_step,
)
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.item_temporal import ITEM_OPERATORS, ItemOperator
from triggers.evaluation.parts import Part, PartKey, Storage, Turn
from triggers.evaluation.quantifier_steps import aggregate_step, quantifier_step
from triggers.evaluation.scalar_steps import SCALAR_STEPS, Slots, Step, inside_step, membership_step
from triggers.evaluation.signal_values import CONVERTERS, Reading
from triggers.evaluation.temporal_steps import TEMPORAL_STEPS, Temporal, Tick
from triggers.evaluation.truth_steps import TRUTH_STEPS
from triggers.evaluation.truths import FALSE, TRUE, rows_of, truth_of
from triggers.language import populations
from triggers.language.expressions import (
    QUANTIFIERS,
    Constant,
    Expression,
    Inside,
    ItemField,
    Membership,
    Operation,
    SignalRead,
    walk,
)
from triggers.language.populations import Population
from triggers.language.types import Type

WATCHING = frozenset({*EDGE_TESTS, "added", "count_within", "flips"})
NODE, WATCH = "node", "watch"


class Builder:
    """The parts of one new program; `parts` are in the order in which they are computed."""

    def __init__(self, storage: Storage, old: Mapping[PartKey, Part], taken: set[int]) -> None:
        self.parts: dict[PartKey, Part] = {}
        self._storage = storage
        self._slots = storage.slots
        self._old = old
        used = taken | {part.out for part in old.values()}
        self._free = [slot for slot in range(len(storage.slots)) if slot not in used]

    def add(self, expressions: Iterable[Expression]) -> None:
        """Make every part that these expressions need."""
        for expression in expressions:
            for node in walk(expression):
                if (NODE, node.key) not in self.parts:
                    self._node(node)

    def slot(self, node: Expression) -> int:
        """Where the value of a node that was added stands."""
        return self.parts[NODE, node.key].out

    def column_slot(self, node: Expression, population: Population) -> int:
        """Where a node stands as a column over `population`."""
        return self.slot(node) if node.population is not None else self.parts[column_key(node, population)].out

    # -- parts and slots

    def _part(self, key: PartKey, turn: Turn | Population, make: Callable[[Part], Step | None]) -> Part:
        """The part of that key: the old program's, or a new one whose step `make` makes."""
        part = self._old.get(key)
        if part is None:
            part = Part(self._new_slot(), turn)
            part.step = make(part)
        self.parts[key] = part
        return part

    def _new_slot(self) -> int:
        if self._free:
            slot = self._free.pop()
            self._slots[slot] = None
            return slot
        self._slots.append(None)
        return len(self._slots) - 1

    def _turn(self, operands: Iterable[Expression]) -> Turn:
        turns = {self.parts[NODE, operand.key].turn for operand in operands}
        return Turn.FIRST if turns <= {Turn.FIRST} else Turn.LATER

    # -- one value

    def _node(self, node: Expression) -> None:
        key = (NODE, node.key)
        if isinstance(node, Constant):
            self._constant(key, node)
        elif isinstance(node, SignalRead):
            self._part(key, Turn.FIRST, lambda part: _read(part, node))
        elif isinstance(node, Operation) and node.name in QUANTIFIERS:
            self._quantifier(key, node)
        elif node.population is not None:
            self._item_node(key, node, node.population)
        else:
            if isinstance(node, Operation) and node.name in WATCHING:
                self._watch(node.operands[0])
            self._part(key, self._turn(node.operands), lambda part: self._scalar_step(node, part))

    def _constant(self, key: PartKey, node: Constant) -> None:
        def fill(part: Part) -> None:
            self._slots[part.out] = node.value

        self._part(key, Turn.FIRST, fill)

    def _scalar_step(self, node: Expression, part: Part) -> Step:
        operands = tuple(self.slot(operand) for operand in node.operands)
        step = _memoryless_step(node, self._slots, part.out, operands)
        if step is not None:
            return step
        assert isinstance(node, Operation)
        watch = self.parts[WATCH, node.operands[0].key].out if node.name in WATCHING else -1
        if node.name in EDGE_TESTS:
            return edge_step(self._slots, part.out, watch, EDGE_TESTS[node.name])
        if node.name == "added":
            return added_step(self._slots, part.out, watch)
        operand, tick = operands[0] if operands else -1, self._storage.tick
        made = Temporal(self._slots, part.out, operand, watch, node.parameter or 0.0, tick, part.windows)
        return TEMPORAL_STEPS[node.name](made)

    def _watch(self, operand: Expression) -> None:
        """The part that follows `operand`'s edges."""
        # Over a quantifier it runs after all items, also on ticks that have none.
        key, turn, slot = (WATCH, operand.key), self._turn([operand]), self.slot(operand)
        if key in self.parts:
            return
        tick: Tick = self._storage.tick
        self._part(key, turn, lambda part: watch_step(self._slots, part.out, slot, tick, self._replay(operand)))

    def _replay(self, expression: Expression) -> Replay | None:
        """A copy of an expression over signals alone; None when it remembers ticks or asks about items."""
        replay = Replay([])
        copies: dict[bytes, int] = {}
        for node in walk(expression):
            out = copies[node.key] = len(replay.slots)
            replay.slots.append(node.value if isinstance(node, Constant) else None)
            if isinstance(node, SignalRead):
                replay.signals.append(LatchedSignal(node.name, CONVERTERS[node.type], self.slot(node), out))
            elif not isinstance(node, Constant):
                operands = tuple(copies[operand.key] for operand in node.operands)
                step = _memoryless_step(node, replay.slots, out, operands)
                if step is None:
                    return None
                replay.steps.append(step)
        replay.out = copies[expression.key]
        return replay

    # -- one value per item

    def _quantifier(self, key: PartKey, node: Operation) -> None:
        quantifier = populations.QUANTIFIERS[node.name]
        table = self._storage.tables[quantifier.population]
        for operand, kind in zip(node.operands, quantifier.function.operands, strict=True):
            self._column(operand, kind, quantifier.population)
        *number, condition = [self.column_slot(operand, quantifier.population) for operand in node.operands]

        def make(part: Part) -> Step:
            if number:
                return aggregate_step(self._slots, part.out, number[0], condition, quantifier.kind, table)
            return quantifier_step(self._slots, part.out, condition, quantifier.kind, table)

        self._part(key, quantifier.population, make)

    def _item_node(self, key: PartKey, node: Expression, population: Population) -> None:
        table, kind = self._storage.tables[population], _kind(node)
        for operand in node.operands:
            self._column(operand, kind, population)
        operands = tuple(self.column_slot(operand, population) for operand in node.operands)

        def make(part: Part) -> Step | None:
            if isinstance(node, Operation) and node.name in DECISIVE:
                part.memory = Decisive(_length_ns(node), table.capacity, DECISIVE[node.name])
                return None
            if isinstance(node, Operation) and node.name in MOMENTS:
                part.memory = Moments(_length_ns(node), table.capacity, MOMENTS[node.name])
                return None
            return self._item_step(node, part.out, operands, table)

        self._part(key, population, make)

    def _item_step(self, node: Expression, out: int, operands: tuple[int, ...], table: ItemTable) -> Step:
        if isinstance(node, ItemField):
            return column_step(self._slots, out, table, node.name)
        if isinstance(node, Membership):
            choices = [_in_column(choice, table) for choice in node.choices]
            make = membership_truth_step if _kind(node) is Type.BOOLEAN else membership_column_step
            return make(self._slots, out, operands[0], choices, table)
        assert isinstance(node, Operation)
        length_ns = _length_ns(node)
        if node.name in ITEM_HISTORIES:
            return _history_step(self._slots, out, ITEM_HISTORIES[node.name](length_ns, table.capacity), table)
        kind = _kind(node)
        if node.name in ITEM_OPERATORS:
            operator = ITEM_OPERATORS[node.name](length_ns, table.capacity, kind)
            return _operator_step(self._slots, out, operands[0], operator, table)
        steps = TRUTH_STEPS if kind is Type.BOOLEAN else VALUE_STEPS
        return steps[node.name](self._slots, out, operands, table)

    def _column(self, operand: Expression, kind: Type, population: Population) -> None:
        """The part that has `operand` as a column, unless it is one."""
        key = column_key(operand, population)
        if operand.population is not None or key in self.parts:
            return
        slot, kind = self.slot(operand), operand.type if operand.type is not Type.ANY else kind
        table = self._storage.tables[population]

        def make(part: Part) -> Step | None:
            if isinstance(operand, Constant) and isinstance(operand.value, str):
                table.codes.literal(operand.value)
            step = scalar_step(self._slots, part.out, slot, table, kind)
            if not isinstance(operand, Constant) or kind is Type.BOOLEAN:
                return step  # truth for all items depends on how many there are
            step()  # once and for all
            return None

        self._part(key, population, make)


def _memoryless_step(node: Expression, slots: Slots, out: int, operands: tuple[int, ...]) -> Step | None:
    """The step of a node that depends on this tick's operands alone; None when it is none of these."""
    if isinstance(node, Membership):
        return membership_step(slots, out, operands[0], frozenset(node.choices))
    if isinstance(node, Inside):
        assert node.zone is not None
        return inside_step(slots, out, operands, node.zone)
    if isinstance(node, Operation) and node.name in SCALAR_STEPS:
        return SCALAR_STEPS[node.name](slots, out, operands)
    return None


def column_key(node: Expression, population: Population) -> PartKey:
    """The key of the part that has a node of one value as a column."""
    return f"column over {population.value}", node.key


def _kind(node: Expression) -> Type:
    """The type of a node's operands; of an `if`, the condition stands first and is not meant."""
    types = [operand.type for operand in reversed(node.operands)]
    return next((each for each in types if each is not Type.ANY), Type.NUMBER)


def _read(part: Part, node: SignalRead) -> None:
    part.read = Reading(part.out, node.name, CONVERTERS[node.type])


def _length_ns(node: Operation) -> int:
    return round((node.parameter or 0.0) * NANOSECONDS_PER_SECOND)


def _in_column(value: bool | float | str, table: ItemTable) -> Any:
    if isinstance(value, bool):
        return TRUE if value else FALSE
    return table.codes.literal(value) if isinstance(value, str) else value


def _history_step(slots: Slots, out: int, history: ItemHistory, table: ItemTable) -> Step:
    if isinstance(history, Flips):  # always known

        def count() -> None:
            slots[out] = history.update(table), None

        return count

    def step() -> None:
        slots[out] = pair(history.update(table))

    return step


def _operator_step(slots: Slots, out: int, operand: int, operator: ItemOperator, table: ItemTable) -> Step:
    def step() -> None:
        column = slots[operand]
        found = operator.update(table, rows_of(column, len(table.items)) if isinstance(column, int) else column)
        slots[out] = found if isinstance(found, tuple) else truth_of(found)

    return step
