"""All expressions of all rules as one program: a flat list of closures over one list of slots.

Every distinct expression has one slot and is computed once a tick, in an order in which operands come first; deep
conditions therefore cost no recursion. Steps run in three groups: what does not depend on tracks, what has one
value per track (skipped on ticks without tracks), and what depends on a quantifier's result.

Values are computed whether or not a rule needs them this tick: temporal operators must see every tick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import cast

import numpy as np

from runtime.messages import NANOSECONDS_PER_SECOND, SignalReader, Track
from triggers.evaluation.edges import EDGE_TESTS, LatchedSignal, Replay, added_step, edge_step, watch_step
from triggers.evaluation.scalar_steps import SCALAR_STEPS, Slots, Step, membership_step
from triggers.evaluation.signal_values import CONVERTERS, Converter
from triggers.evaluation.temporal_steps import TEMPORAL_STEPS, Temporal, Tick
from triggers.evaluation.track_history import TRACK_HISTORIES, TrackHistory
from triggers.evaluation.track_steps import (
    QUANTIFIER_STEPS,
    TRUTH_STEPS,
    VALUE_STEPS,
    column_step,
    membership_column_step,
    pair,
    quantifier_step,
    scalar_step,
)
from triggers.evaluation.track_table import FALSE, TRUE, TrackTable
from triggers.language.expressions import (
    QUANTIFIERS,
    Constant,
    Expression,
    ItemField,
    Membership,
    Operation,
    SignalRead,
    walk,
)
from triggers.language.types import Type, Value

_WATCHING = frozenset({*EDGE_TESTS, "added", "count_within", "flips"})


class Program:
    """Computes expressions tick by tick: `run` once a tick, then read `value(slot(expression))`."""

    def __init__(
        self, expressions: Sequence[Expression], seed: int, image_sizes: Mapping[str, tuple[int, int]]
    ) -> None:
        nodes = {node.key: node for expression in expressions for node in walk(expression)}
        keeps_history = any(isinstance(node, Operation) and node.name in TRACK_HISTORIES for node in nodes.values())
        self.table = TrackTable(image_sizes, keeps_history)
        #: Values that could not be understood as what a rule expects, by signal.
        self.not_understood: Counter[str] = Counter()
        self._tick = Tick(seed)
        self._slots: Slots = []
        self._slot_of: dict[bytes, int] = {}
        self._column_of: dict[bytes, int] = {}  # a scalar expression's slot as a column
        self._watch_of: dict[bytes, int] = {}
        self._scalar_steps: list[Step] = []
        self._track_steps: list[Step] = []
        self._later_steps: list[Step] = []
        self._later: set[int] = set()  # slots that depend on a quantifier
        self._without_tracks: list[tuple[int, bool | float]] = []  # quantifiers and their values without tracks
        self._condition_of: dict[bytes, int] = {}  # the column of each quantifier's condition
        self._has_tracks = False
        for expression in expressions:
            for node in walk(expression):
                if node.key not in self._slot_of:
                    self._slot_of[node.key] = self._build(node)

    def slot(self, expression: Expression) -> int:
        """Where the value of an expression that was given to the constructor stands."""
        return self._slot_of[expression.key]

    def value(self, slot: int) -> Value:
        """The value at the last tick."""
        return cast(Value, self._slots[slot])

    @property
    def slots(self) -> Slots:
        """All values at the last tick; the list stays the same object."""
        return self._slots

    def witness(self, quantifier: Operation) -> Track | None:
        """The surest of the tracks for which a quantifier's condition is true at the last tick."""
        if not self._has_tracks:
            return None
        truth = np.broadcast_to(self._slots[self._condition_of[quantifier.key]], len(self.table.tracks))
        matching = [self.table.tracks[row] for row in np.flatnonzero(truth == TRUE).tolist()]
        return max(matching, key=attrgetter("score"), default=None)

    @property
    def retained_entries(self) -> int:
        """Entries that all windows hold now: what memory beyond the fixed arrays is spent on."""
        return sum(len(window) for window in self._tick.windows)

    def run(self, tracks: Sequence[Track] | None, signals: SignalReader, time_ns: int) -> None:
        """Compute everything for one tick. `tracks` is None when nothing looked for objects this tick."""
        tick = self._tick
        tick.time_ns, tick.signals = time_ns, signals
        for step in self._scalar_steps:
            step()
        self._run_tracks(tracks, time_ns)
        for step in self._later_steps:
            step()
        tick.previous_ns = time_ns

    def _run_tracks(self, tracks: Sequence[Track] | None, time_ns: int) -> None:
        if not self._without_tracks:
            return
        if tracks is not None:
            self.table.update(tracks, time_ns)
        self._has_tracks = bool(tracks)
        if tracks:
            with np.errstate(all="ignore"):
                for step in self._track_steps:
                    step()
        else:
            for slot, value in self._without_tracks:
                self._slots[slot] = None if tracks is None else value

    # -- building

    def _new_slot(self, value: object = None) -> int:
        self._slots.append(value)
        return len(self._slots) - 1

    def _build(self, node: Expression) -> int:
        if isinstance(node, Constant):
            return self._new_slot(node.value)
        if isinstance(node, SignalRead):
            out = self._new_slot()
            self._scalar_steps.append(self._read_step(out, node))
            return out
        if isinstance(node, Operation) and node.name in QUANTIFIERS:
            return self._build_quantifier(node)
        if node.population is not None:
            return self._build_column(node)
        return self._build_scalar(node)

    def _read_step(self, out: int, node: SignalRead) -> Step:
        slots, tick, name, convert = self._slots, self._tick, node.name, CONVERTERS[node.type]
        not_understood = self.not_understood

        def step() -> None:
            assert tick.signals is not None
            raw = tick.signals.value(name)
            value = None if raw is None else convert(raw)
            if value is None and raw is not None:
                not_understood[name] += 1
            slots[out] = value

        return step

    def _build_scalar(self, node: Expression) -> int:
        operands = tuple(self._slot_of[operand.key] for operand in node.operands)
        if isinstance(node, Operation) and node.name in _WATCHING:
            self._watch(node.operands[0])
        out = self._new_slot()
        self._schedule(out, operands, self._scalar_step(node, out, operands))
        return out

    def _scalar_step(self, node: Expression, out: int, operands: tuple[int, ...]) -> Step:
        if isinstance(node, Membership):
            return membership_step(self._slots, out, operands[0], frozenset(node.choices))
        assert isinstance(node, Operation)
        if node.name in SCALAR_STEPS:
            return SCALAR_STEPS[node.name](self._slots, out, operands)
        watch = self._watch_of[node.operands[0].key] if node.name in _WATCHING else -1
        if node.name in EDGE_TESTS:
            return edge_step(self._slots, out, watch, EDGE_TESTS[node.name])
        if node.name == "added":
            return added_step(self._slots, out, watch)
        operand = operands[0] if operands else -1
        made = Temporal(self._slots, out, operand, watch, node.parameter or 0.0, self._tick)
        return TEMPORAL_STEPS[node.name](made)

    def _schedule(self, out: int, operands: tuple[int, ...], step: Step) -> None:
        if self._later.isdisjoint(operands):
            self._scalar_steps.append(step)
        else:
            self._later.add(out)
            self._later_steps.append(step)

    def _watch(self, operand: Expression) -> None:
        """Make the slot that follows `operand`'s edges, unless there is one."""
        if operand.key in self._watch_of:
            return
        operand_slot, out = self._slot_of[operand.key], self._new_slot()
        step = watch_step(self._slots, out, operand_slot, self._tick, self._replay(operand))
        self._schedule(out, (operand_slot,), step)
        self._watch_of[operand.key] = out

    def _replay(self, expression: Expression) -> Replay | None:
        """A copy of an expression over signals alone; None when it remembers ticks or asks about tracks."""
        replay = Replay([])
        copies: dict[bytes, int] = {}
        for node in walk(expression):
            out = len(replay.slots)
            replay.slots.append(node.value if isinstance(node, Constant) else None)
            operands = tuple(copies[operand.key] for operand in node.operands)
            copies[node.key] = out
            if isinstance(node, SignalRead):
                signal = LatchedSignal(node.name, CONVERTERS[node.type], self._slot_of[node.key], out)
                replay.signals.append(signal)
            elif isinstance(node, Membership):
                replay.steps.append(membership_step(replay.slots, out, operands[0], frozenset(node.choices)))
            elif isinstance(node, Operation):
                if node.name not in SCALAR_STEPS:
                    return None
                replay.steps.append(SCALAR_STEPS[node.name](replay.slots, out, operands))
        replay.out = copies[expression.key]
        return replay

    # -- one value per track

    def _build_quantifier(self, node: Operation) -> int:
        condition, out = self._column(node.operands[0], Type.BOOLEAN), self._new_slot()
        self._condition_of[node.key] = condition
        self._track_steps.append(quantifier_step(self._slots, out, condition, node.name, self.table))
        self._without_tracks.append((out, QUANTIFIER_STEPS[node.name][1]))
        self._later.add(out)
        return out

    def _build_column(self, node: Expression) -> int:
        out = self._new_slot()
        if isinstance(node, ItemField):
            self._track_steps.append(column_step(self._slots, out, self.table, node.name))
        elif isinstance(node, Membership):
            choices = [self._in_column(choice) for choice in node.choices]
            operand = self._slot_of[node.operands[0].key]
            self._track_steps.append(membership_column_step(self._slots, out, operand, choices))
        elif isinstance(node, Operation) and node.name in TRACK_HISTORIES:
            length_ns = round((node.parameter or 0.0) * NANOSECONDS_PER_SECOND)
            self._track_steps.append(self._history_step(out, TRACK_HISTORIES[node.name](length_ns)))
        elif isinstance(node, Operation):
            types = [operand.type for operand in reversed(node.operands)]  # of an `if`, the condition stands first
            kind = next((each for each in types if each is not Type.ANY), Type.NUMBER)
            operands = tuple(self._column(operand, kind) for operand in node.operands)
            steps = TRUTH_STEPS if kind is Type.BOOLEAN else VALUE_STEPS
            self._track_steps.append(steps[node.name](self._slots, out, operands))
        return out

    def _history_step(self, out: int, history: TrackHistory) -> Step:
        slots, table = self._slots, self.table

        def step() -> None:
            slots[out] = pair(history.update(table))

        return step

    def _column(self, operand: Expression, kind: Type) -> int:
        """The slot of `operand` as a column; what has one value for all tracks is converted first."""
        slot = self._slot_of[operand.key]
        if operand.population is not None:
            return slot
        if operand.key not in self._column_of:
            out = self._column_of[operand.key] = self._new_slot()
            kind = operand.type if operand.type is not Type.ANY else kind
            step = scalar_step(self._slots, out, slot, self.table, kind)
            if isinstance(operand, Constant):
                step()  # once and for all
            else:
                self._track_steps.append(step)
        return self._column_of[operand.key]

    def _in_column(self, value: bool | float | str) -> float | int:
        if isinstance(value, bool):
            return TRUE if value else FALSE
        return self.table.code(value) if isinstance(value, str) else value


__all__ = ["Converter", "Program"]
