"""Which parts of a program are computed on every tick, which only while a condition is open, and which on demand.

What remembers (windows, edges, histories), and all that it reads, must see every tick; signals are read on every tick
too, so that values that could not be understood are counted. All else depends on this tick alone:

- A condition `a and b and ...` with clauses over signals alone is *closed* on ticks at which one of these is false:
  then it is false, whatever the others are (Kleene's `and`), and nothing that it alone needs is computed. One that is
  unknown leaves it open, since false and unknown are told apart.
- What only operands and scores need is computed at the firing, from the same tick's values and tables.

Every expression gets a mask: a bit for each set of clauses ("gate") that its users stand behind; `EVERY_TICK` has all.
What an expression reads has all bits of the expression and perhaps more. So parts of one mask run together, those of
more bits before those of fewer, and operands always come first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from triggers.evaluation.builder import NODE, WATCHING, column_key
from triggers.evaluation.item_history import ITEM_HISTORIES
from triggers.evaluation.item_temporal import ITEM_OPERATORS
from triggers.evaluation.parts import Part, PartKey, Turn
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.temporal_steps import TEMPORAL_STEPS
from triggers.language.expressions import QUANTIFIERS, Expression, Operation, SignalRead
from triggers.language.populations import QUANTIFIERS as POPULATION_QUANTIFIERS
from triggers.language.populations import Population

EVERY_TICK, ON_DEMAND = -1, 0
_REMEMBERING = WATCHING | TEMPORAL_STEPS.keys() | ITEM_HISTORIES.keys() | ITEM_OPERATORS.keys()


@dataclass(slots=True)
class Gate:
    """Conditions with the same clauses over signals: false together as soon as one of the clauses is."""

    bit: int
    clauses: tuple[int, ...]  # slots
    conditions: list[int] = field(default_factory=list)  # slots


class Schedule:
    """The masks of all parts of a program. `nodes` are in an order in which operands come first."""

    def __init__(
        self, nodes: Mapping[bytes, Expression], conditions: Iterable[Expression], parts: Mapping[PartKey, Part]
    ) -> None:
        self._parts = parts
        self._gates: dict[tuple[int, ...], Gate] = {}
        self._bit_of: dict[bytes, int] = {}  # of conditions that have a gate
        masks: dict[PartKey, int] = defaultdict(int)
        for condition in {each.key: each for each in conditions}.values():
            masks[NODE, condition.key] = self._bit(condition)
        for node in reversed(list(nodes.values())):
            if remembers(node) or isinstance(node, SignalRead):
                masks[NODE, node.key] = EVERY_TICK
            mask, population = masks[NODE, node.key], population_of(node)
            for operand in node.operands:
                masks[NODE, operand.key] |= mask
                if population is not None and operand.population is None:
                    masks[column_key(operand, population)] |= mask
        self._masks: dict[PartKey, int] = masks

    @property
    def gates(self) -> list[Gate]:
        """What to look at on every tick."""
        return list(self._gates.values())

    def mask(self, key: PartKey) -> int:
        """When a part is computed; edges of an expression are only ever read by what remembers."""
        return self._masks.get(key, EVERY_TICK)

    def widen(self, nodes: Iterable[Expression]) -> None:
        """These are computed on every tick from now on: together with others that are."""
        for node in nodes:
            self._masks[NODE, node.key] = EVERY_TICK

    def is_computed(self, key: PartKey, condition: Expression) -> bool:
        """Whether a part was computed for certain on a tick at which `condition` is true."""
        mask = self.mask(key)
        is_first = self._parts[key].turn is Turn.FIRST and mask != ON_DEMAND
        return is_first or mask == EVERY_TICK or bool(mask & self._bit_of.get(condition.key, 0))

    def _bit(self, condition: Expression) -> int:
        clauses = sorted(
            {self._parts[NODE, clause.key].out for clause in _clauses(condition) if self._is_first(clause)}
        )
        if not clauses or self._is_first(condition):
            return EVERY_TICK
        gate = self._gates.setdefault(tuple(clauses), Gate(1 << len(self._gates) + 1, tuple(clauses)))
        gate.conditions.append(self._parts[NODE, condition.key].out)
        self._bit_of[condition.key] = gate.bit
        return gate.bit

    def _is_first(self, node: Expression) -> bool:
        return self._parts[NODE, node.key].turn is Turn.FIRST


class Bundles:
    """Steps by mask, run in the order that the module's text tells."""

    def __init__(self, steps: Iterable[tuple[int, Step]]) -> None:
        by_mask: dict[int, list[Step]] = {}
        for mask, step in steps:
            if mask != ON_DEMAND:
                by_mask.setdefault(mask, []).append(step)
        self._always = by_mask.pop(EVERY_TICK, [])
        self._others = sorted(by_mask.items(), key=lambda item: -item[0].bit_count())

    def run(self, open_gates: int) -> None:
        """Run what every tick needs, and what stands behind an open gate."""
        for step in self._always:
            step()
        for mask, steps in self._others:
            if mask & open_gates:
                for step in steps:
                    step()


def open_gates(gates: Sequence[Gate], slots: Slots) -> int:
    """The bits of the gates that are open now; the conditions of those that are closed become false."""
    bits = 0
    for gate in gates:
        for clause in gate.clauses:
            if slots[clause] is False:
                for condition in gate.conditions:
                    slots[condition] = False
                break
        else:
            bits |= gate.bit
    return bits


def remembers(node: Expression) -> bool:
    """Whether an expression depends on earlier ticks by itself, not only by what it reads."""
    return isinstance(node, Operation) and node.name in _REMEMBERING


def population_of(node: Expression) -> Population | None:
    """The population whose columns an expression reads."""
    if isinstance(node, Operation) and node.name in QUANTIFIERS:
        return POPULATION_QUANTIFIERS[node.name].population
    return node.population


def _clauses(condition: Expression) -> list[Expression]:
    """`a`, `b`, `c` of `a and b and c`; the condition itself when it is something else."""
    found, stack = [], [condition]
    while stack:
        node = stack.pop()
        if isinstance(node, Operation) and node.name == "and":
            stack.extend(node.operands)
        else:
            found.append(node)
    return found
