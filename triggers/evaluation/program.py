"""All rules' expressions as one program: every distinct node is evaluated once a tick, operands first.

Equal expressions are one node, whichever rules they stand in, so their state is shared too. What is inside a
quantifier is compiled to a function of one track and runs, with short circuits, for each track.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from runtime.messages import SignalReader, Track
from triggers.evaluation.memory import Memory, make_memory
from triggers.evaluation.operators import OPERATORS
from triggers.evaluation.track_past import HISTORY_FUNCTIONS, TrackHistory, covers, field_value
from triggers.language.expressions import (
    QUANTIFIERS,
    Constant,
    Expression,
    Membership,
    Operation,
    SignalRead,
    TrackField,
    walk,
)
from triggers.language.types import Value

TrackFunction = Callable[[Track], Value]
Step = Callable[[], Value]


class Program:
    """The compiled expressions and their memory."""

    def __init__(self, expressions: Iterable[Expression], seed: int) -> None:
        self._seed = seed
        self._values: list[Value] = []
        self._index: dict[bytes, int] = {}
        self._steps: list[Step] = []
        self._tracks: Sequence[Track] = ()
        self._signals: SignalReader | None = None
        self._time_ns = 0
        self._history = TrackHistory(0.0)
        roots = list(expressions)
        nodes = {node.key: node for root in roots for node in walk(root)}
        self._history = TrackHistory(max((_track_window_s(node) for node in nodes.values()), default=0.0))
        for root in roots:
            for node in walk(root):
                self._add(node)

    def run(self, tracks: Sequence[Track], signals: SignalReader, time_ns: int) -> None:
        """Evaluate everything for one tick."""
        self._tracks, self._signals, self._time_ns = tracks, signals, time_ns
        self._history.see(tracks, time_ns)
        values = self._values
        for index, step in enumerate(self._steps):
            values[index] = step()

    def value(self, expression: Expression) -> Value:
        """What an expression was worth on the last tick."""
        return self._values[self._index[expression.key]]

    def _add(self, node: Expression) -> None:
        if node.key in self._index or node.reads_tracks:
            return
        self._index[node.key] = len(self._steps)
        self._steps.append(self._step(node))
        self._values.append(None)

    def _step(self, node: Expression) -> Step:
        if isinstance(node, Constant):
            constant = node.value
            return lambda: constant
        if isinstance(node, SignalRead):
            return self._signal_step(node.name)
        if isinstance(node, Membership):
            index, choices = self._index[node.operands[0].key], node.choices
            return lambda: None if self._values[index] is None else self._values[index] in choices
        if isinstance(node, Operation):
            return self._operation_step(node)
        raise TypeError(f"{type(node).__name__} has no value outside a quantifier")

    def _signal_step(self, name: str) -> Step:
        def read() -> Value:
            assert self._signals is not None
            value = self._signals.value(name)
            return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

        return read

    def _operation_step(self, node: Operation) -> Step:
        if node.name in QUANTIFIERS:
            return self._quantifier_step(node)
        memory = make_memory(node.name, node.parameter, f"{self._seed}/{node.key.hex()}")
        if memory is not None:
            return self._memory_step(node, memory)
        function = OPERATORS[node.name]
        indices = [self._index[operand.key] for operand in node.operands]
        if len(indices) == 2:
            first, second = indices
            return lambda: function(self._values[first], self._values[second])
        return lambda: function(*(self._values[index] for index in indices))

    def _memory_step(self, node: Operation, memory: Memory) -> Step:
        if not node.operands:
            return lambda: memory.see(self._time_ns, (True,))
        operand = node.operands[0]
        index = self._index[operand.key]
        if isinstance(operand, SignalRead):
            return lambda: memory.see(self._time_ns, self._latched(operand.name, index))
        return lambda: memory.see(self._time_ns, (self._values[index],))

    def _latched(self, name: str, index: int) -> Sequence[Value]:
        """Every value of a signal since the last tick, so that a pulse between two ticks is not lost."""
        assert self._signals is not None
        samples = self._signals.samples(name)
        now = self._values[index]
        if not samples:
            return (now,)
        values: list[Value] = [sample.value for sample in samples]
        return values if values[-1] == now else [*values, now]

    def _quantifier_step(self, node: Operation) -> Step:
        condition = self._for_track(node.operands[0])
        if node.name == "count_tracks":
            return lambda: _count([condition(track) for track in self._tracks])
        wanted = node.name == "any_track"

        def quantify() -> Value:
            is_open = False
            for track in self._tracks:
                value = condition(track)
                if value is wanted:
                    return wanted
                is_open |= value is None
            return None if is_open else not wanted

        return quantify

    def _for_track(self, node: Expression) -> TrackFunction:
        if not node.reads_tracks:
            for inner in walk(node):
                self._add(inner)
            index = self._index[node.key]
            return lambda track: self._values[index]
        if isinstance(node, TrackField):
            name = node.name
            return lambda track: field_value(track, name, self._time_ns)
        operands = [self._for_track(operand) for operand in node.operands]
        if isinstance(node, Membership):
            choices, inner_value = node.choices, operands[0]
            return lambda track: None if (found := inner_value(track)) is None else found in choices
        assert isinstance(node, Operation)
        return self._track_operation(node, operands)

    def _track_operation(self, node: Operation, operands: Sequence[TrackFunction]) -> TrackFunction:
        if node.name in HISTORY_FUNCTIONS:
            return self._history_function(node)
        if node.name in ("and", "or"):
            return _short_circuit(node.name == "or", operands[0], operands[1])
        function = OPERATORS[node.name]
        return lambda track: function(*(operand(track) for operand in operands))

    def _history_function(self, node: Operation) -> TrackFunction:
        function, seconds = HISTORY_FUNCTIONS[node.name], node.parameter or 0.0

        def answer(track: Track) -> Value:
            moments = self._history.within(track, seconds, self._time_ns)
            return function(moments, covers(track, seconds, self._time_ns))

        return answer


def _track_window_s(node: Expression) -> float:
    is_history = isinstance(node, Operation) and node.name in HISTORY_FUNCTIONS
    return (node.parameter or 0.0) if is_history and isinstance(node, Operation) else 0.0


def _count(values: Sequence[Value]) -> Value:
    return None if None in values else float(sum(value is True for value in values))


def _short_circuit(deciding: bool, left: TrackFunction, right: TrackFunction) -> TrackFunction:
    def decide(track: Track) -> Value:
        first = left(track)
        if first is deciding:
            return deciding
        second = right(track)
        if second is deciding:
            return deciding
        return None if first is None or second is None else not deciding

    return decide
