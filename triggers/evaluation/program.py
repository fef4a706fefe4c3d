"""All expressions of all rules as one program: a flat list of closures over one list of slots.

Every distinct expression has one slot and is computed at most once a tick, in an order in which operands come first;
deep conditions therefore cost no recursion. Steps run in groups: what depends on signals alone, what has one value per
item of each population (skipped on ticks without such items), and what depends on a quantifier's result. Which of them
a tick needs, and what waits until a rule goes off, is the `schedule`'s.

`evolve` makes the program of another set of expressions, in which every part that both have keeps its state. It is
built beside the running program and takes over at its first `run`; after that the older one cannot run any more, and
its slots are free for the next. So no number of changes makes memory grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np

from runtime.messages import CameraView, ControllerObject, SignalReader, SignalValue, Track
from triggers.evaluation.ahead import POPULATIONS_AHEAD, asks_network, known_ahead
from triggers.evaluation.builder import NODE, Builder, column_key
from triggers.evaluation.item_batches import ItemBatches
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.parts import Part, PartKey, Storage, Turn
from triggers.evaluation.quantifier_steps import WITHOUT_ITEMS
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.schedule import EVERY_TICK, ON_DEMAND, Bundles, Schedule, open_gates, population_of, remembers
from triggers.evaluation.signal_values import read_signals
from triggers.evaluation.witnesses import told_of, witness_of
from triggers.language import populations
from triggers.language.expressions import QUANTIFIERS, Expression, Operation, walk
from triggers.language.populations import Population
from triggers.language.types import Value

#: Steps to run for expressions that no tick computes, each with its turn.
Demand: TypeAlias = list[tuple[Turn | Population, Step]]


@dataclass(slots=True)
class _Group:
    """The steps over one population; `without` are quantifiers' slots and their values when there are no items."""

    table: ItemTable
    bundles: Bundles = field(default_factory=lambda: Bundles([]))
    ahead: list[Step] = field(default_factory=list)  # before the bundles, and perhaps before the network has spoken
    without: list[tuple[int, bool | float | None]] = field(default_factory=list)
    has_items: bool = False


class Program:
    """Computes conditions tick by tick: `run` once a tick, then read `value(slot(condition))`.

    What is given as `on_demand` has a value only after `compute(demand(...))`, for the rest of the tick.
    """

    def __init__(
        self,
        conditions: Sequence[Expression],
        seed: int,
        image_sizes: Mapping[str, tuple[int, int]],
        on_demand: Sequence[Expression] = (),
    ) -> None:
        #: Values that could not be understood as what a rule expects, by signal.
        self.not_understood: Counter[str] = Counter()
        self._parent: Program | None = None  # which this one is to take over from
        self._build(conditions, on_demand, Storage(seed, image_sizes), {})

    def evolve(self, conditions: Sequence[Expression], on_demand: Sequence[Expression] = ()) -> Program:
        """The program of other expressions; parts that this one has too keep their state. See the module's text.

        It takes over from this one (or from what this one is to take over from), unless another was evolved later.
        """
        other = object.__new__(Program)
        other.not_understood = self.not_understood
        other._build(conditions, on_demand, self._storage, self._parts)
        other._parent = self
        self._storage.prepared = other
        return other

    def _build(
        self,
        conditions: Sequence[Expression],
        on_demand: Sequence[Expression],
        storage: Storage,
        old: Mapping[PartKey, Part],
    ) -> None:
        # What runs, and what may take over while this one is built, keep their slots.
        others = [other for other in (storage.running, storage.prepared) if other is not None]
        taken = {part.out for other in others for part in other._parts.values()}
        builder = Builder(storage, old, taken)
        nodes = {node.key: node for expression in (*conditions, *on_demand) for node in walk(expression)}
        builder.add(nodes.values())
        self._storage = storage
        self._slots = storage.slots
        self._parts: Mapping[PartKey, Part] = builder.parts
        self._slot_of = {key: builder.slot(node) for key, node in nodes.items()}
        self._groups: dict[Population, _Group] = {}
        self._columns_of: dict[bytes, tuple[int, ...]] = {}  # each quantifier's operands as columns
        for node in nodes.values():
            if isinstance(node, Operation) and node.name in QUANTIFIERS:
                quantifier = populations.QUANTIFIERS[node.name]
                population = quantifier.population
                columns = (builder.column_slot(operand, population) for operand in node.operands)
                self._columns_of[node.key] = tuple(columns)
                group = self._groups.setdefault(population, _Group(storage.tables[population]))
                group.without.append((builder.slot(node), WITHOUT_ITEMS[quantifier.kind]))
        self._remembers_items = {
            node.population for node in nodes.values() if node.population is not None and remembers(node)
        }
        self._has_looked_ahead = False
        self._arrange(nodes, Schedule(nodes, conditions, self._parts))

    def _arrange(self, nodes: Mapping[bytes, Expression], schedule: Schedule) -> None:
        """Sort the steps by when they run."""
        self._schedule = schedule
        self._gates = schedule.gates
        known = known_ahead(nodes.values())
        batches = ItemBatches(nodes.values(), self._parts, schedule, known, self._storage)
        readings = [part.read for part in self._parts.values() if part.read is not None]
        self._read_ahead = [each for each in readings if not asks_network(each.name)]
        self._read_later = [each for each in readings if asks_network(each.name)]
        by_turn: dict[Turn | Population, list[tuple[int, Step]]] = {}
        ahead: dict[Turn | Population, list[Step]] = {Turn.FIRST: [], **{each: [] for each in POPULATIONS_AHEAD}}
        for key, part in batches.in_order():
            step, mask = batches.steps.get(key, part.step), schedule.mask(key)
            if step is None or mask == ON_DEMAND:
                continue
            if key[1] in known and part.turn in ahead and (part.turn is Turn.FIRST or mask == EVERY_TICK):
                ahead[part.turn].append(step)
            else:
                by_turn.setdefault(part.turn, []).append((mask, step))
        self._ahead_steps = ahead[Turn.FIRST]
        self._first_steps = [step for _, step in by_turn.get(Turn.FIRST, ())]
        self._later = Bundles(by_turn.get(Turn.LATER, ()))
        for population, group in self._groups.items():
            group.bundles = Bundles(by_turn.get(population, ()))
            group.ahead = ahead.get(population, [])

    # -- on demand

    def demand(self, expressions: Iterable[Expression], condition: Expression) -> Demand:
        """What to compute for these expressions, at ticks at which `condition` is true, beyond what the tick did."""
        keys: dict[PartKey, None] = {}
        for node in (node for expression in expressions for node in walk(expression)):
            population = population_of(node)
            for operand in node.operands:
                if population is not None and operand.population is None:
                    keys[column_key(operand, population)] = None
            keys[NODE, node.key] = None
        missing = (self._parts[key] for key in keys if not self._schedule.is_computed(key, condition))
        return [(part.turn, part.step) for part in missing if part.step is not None]

    def compute(self, demand: Demand) -> None:
        """Compute what `demand` gave, from the values of the last tick."""
        with np.errstate(all="ignore"):
            for turn, step in demand:
                # On ticks without items the quantifiers have their values already.
                if not isinstance(turn, Population) or self._groups[turn].has_items:
                    step()

    # -- values

    def slot(self, expression: Expression) -> int:
        """Where the value of an expression that was given to the constructor stands."""
        return self._slot_of[expression.key]

    def value(self, slot: int) -> Value:
        """The value at the last tick."""
        return cast(Value, self._slots[slot])

    @property
    def slots(self) -> Slots:
        """All values at the last tick; the list stays the same object, also in programs that evolve from this one."""
        return self._slots

    @property
    def table(self) -> ItemTable:
        """The tracks of the last tick."""
        return self._storage.tables[Population.TRACKS]

    @property
    def refused(self) -> Mapping[Population, int]:
        """Items that were left out because there were too many at once."""
        return {population: table.refused for population, table in self._storage.tables.items()}

    @property
    def retained_entries(self) -> int:
        """Entries that all windows hold now: what memory beyond the fixed arrays is spent on."""
        return sum(len(window) for part in self._parts.values() for window in part.windows)

    def witness(self, quantifier: Operation) -> Any:
        """The item that a quantifier's condition is true for at the last tick; see `witnesses`."""
        group = self._groups[self._population(quantifier)]
        columns = [self._slots[column] for column in self._columns_of[quantifier.key]]
        return witness_of(quantifier, columns, group.table) if group.has_items else None

    def witness_values(self, quantifier: Operation) -> dict[str, SignalValue | None]:
        """What to tell of the witness, by `track.…`, `object.…` or `camera.…`; empty when there is none."""
        return told_of(self._population(quantifier), self.witness(quantifier))

    def _population(self, quantifier: Operation) -> Population:
        return populations.QUANTIFIERS[quantifier.name].population

    # -- the tick

    def run(
        self,
        tracks: Sequence[Track] | None,
        signals: SignalReader,
        time_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> None:
        """Compute all that this tick needs. Items are None when nothing looked for them this tick."""
        if not self._has_looked_ahead:
            self.look_ahead(signals, time_ns, objects, cameras)
        self._has_looked_ahead = False
        tick = self._storage.tick
        tick.signals = signals
        read_signals(self._slots, self._read_later, signals, self.not_understood)
        for step in self._first_steps:
            step()
        opened = open_gates(self._gates, self._slots)
        if self._groups:
            items = {Population.TRACKS: tracks, Population.OBJECTS: objects, Population.CAMERAS: cameras}
            with np.errstate(all="ignore"):
                for population, group in self._groups.items():
                    if population not in POPULATIONS_AHEAD:
                        self._update_group(group, items[population], time_ns)
                    elif items[population] is not None:
                        group.table.complete(items[population] or ())
                    if group.has_items:
                        group.bundles.run(opened)
        self._later.run(opened)
        tick.previous_ns = time_ns

    def look_ahead(
        self,
        signals: SignalReader,
        time_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> None:
        """The part of `run` that needs no word of the network (see `ahead`); the `run` of this tick does the rest.

        Of the network nothing need be known yet: neither in `signals` nor in what cameras have of it.
        """
        if self._storage.running is not self:
            self._take_over()
        tick = self._storage.tick
        tick.time_ns, tick.signals = time_ns, signals
        read_signals(self._slots, self._read_ahead, signals, self.not_understood)
        for step in self._ahead_steps:
            step()
        items: Mapping[Population, Sequence[Any] | None] = {Population.OBJECTS: objects, Population.CAMERAS: cameras}
        with np.errstate(all="ignore"):
            for population in POPULATIONS_AHEAD:
                if (group := self._groups.get(population)) is not None:
                    self._update_group(group, items[population], time_ns)
                    for step in group.ahead if group.has_items else ():
                        step()
        self._has_looked_ahead = True

    def _update_group(self, group: _Group, items: Sequence[Any] | None, time_ns: int) -> None:
        if items is not None:
            group.table.update(items, time_ns)
        group.has_items = bool(items)
        if not items:
            for slot, value in group.without:
                self._slots[slot] = None if items is None else value

    def _take_over(self) -> None:
        """Become the program that runs; see `evolve`."""
        storage = self._storage
        before, newest = storage.running, storage.prepared
        is_newest = newest is self or (newest is not None and newest._parent is self)
        if before is not None and not (self._descends_from(before) and is_newest):
            raise RuntimeError("another program took over already, or was built to: this one cannot run any more")
        storage.running, self._parent = self, None
        storage.prepared = None if newest is self else newest
        followed = before._groups if before is not None else {}
        for population, group in self._groups.items():
            if population not in followed:
                group.table.forget()  # what was not looked at is not the same any more
            group.table.forget_lasting()
            group.table.keeps_places = group.table.keeps_places or population in self._remembers_items

    def _descends_from(self, other: Program) -> bool:
        """Whether this program evolved from `other`, perhaps by way of some that never ran."""
        ancestor = self._parent
        while ancestor is not None and ancestor is not other:
            ancestor = ancestor._parent
        return ancestor is not None
