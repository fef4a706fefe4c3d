"""Evaluates every rule once a tick and says which went off, and why.

The conditions of all rules are one `Program`; each rule then moves through its states (`states`), and of the events
that come out some are kept (`selection`). Time is an argument and chance a seeded hash: the same rules, seed, signals
and tracks give the same firings, live and replayed. Events that are not kept are counted by rule and reason
(`cooldown`, `sample`, `budget`), so that the fleet's statistics can be corrected for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.messages import CameraView, ControllerObject, Firing, SignalReader, SignalValue, Track
from triggers.evaluation.program import Program
from triggers.language.expressions import QUANTIFIERS, Expression, Operation, SignalRead, walk
from triggers.rules.rule import Rule, RuleSet
from triggers.selection import COOLDOWN, RuleSelection
from triggers.states import Event, RuleMachine, RuleState


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """Where one rule stands after the last tick."""

    state: RuleState
    is_unknown: bool  # the condition is neither true nor false
    fired: int
    last_fired_ns: int | None
    suppressed: Mapping[str, int]


class RuleEngine:
    """The rules of one runtime. `image_sizes` (width, height by camera) makes the track field `border_px` known."""

    def __init__(self, rules: RuleSet, seed: int, image_sizes: Mapping[str, tuple[int, int]] | None = None) -> None:
        self.rules = rules
        self._program = Program(_expressions(rules), seed, {} if image_sizes is None else image_sizes)
        self._running = [_RunningRule(rule, self._program, seed) for rule in rules.rules]
        self._by_name = {running.rule.name: running for running in self._running}
        self._sequence = 0
        self._time_ns = 0

    @property
    def suppressed(self) -> Mapping[str, Mapping[str, int]]:
        """Events that were not kept, by rule and reason."""
        counts = {running.rule.name: running.selection.suppressed for running in self._running}
        return {rule: dict(reasons) for rule, reasons in counts.items() if reasons}

    @property
    def not_understood(self) -> Mapping[str, int]:
        """Values that were not what a rule expects of a signal (text for a number, NaN, ...), by signal."""
        return dict(self._program.not_understood)

    @property
    def tracks_refused(self) -> int:
        """Tracks that were left out because there were too many at once."""
        return self._program.table.refused

    @property
    def retained_entries(self) -> int:
        """Entries that all windows hold now; bounded by their number, however long they are."""
        return self._program.retained_entries

    def status(self) -> Mapping[str, RuleStatus]:
        """Every rule's state after the last tick."""
        return {name: running.status(self._program, self._time_ns) for name, running in self._by_name.items()}

    def account(self, rule: str, time_ns: int, size_bytes: int) -> None:
        """A clip of `rule` was sealed with that size: it counts against the rule's `bytes_per_day`."""
        self._by_name[rule].selection.account(time_ns, size_bytes)

    def evaluate(
        self,
        tracks: Sequence[Track] | None,
        signals: SignalReader,
        time_ns: int,
        wall_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> list[Firing]:
        """The rules that go off on this tick. Items are None when nothing looked for them on it."""
        self._program.run(tracks, signals, time_ns, objects, cameras)
        self._time_ns = time_ns
        slots = self._program.slots
        firings = []
        for running in self._running:
            condition = slots[running.slot]
            if condition is not True and running.machine.is_resting:
                continue
            if running.goes_off(condition, time_ns):
                firings.append(self._fire(running, time_ns, wall_ns))
        return firings

    def _fire(self, running: _RunningRule, time_ns: int, wall_ns: int) -> Firing:
        rule, sequence = running.rule, self._sequence
        self._sequence += 1
        operands = running.operands(self._program)
        return Firing(
            rule.name, rule.version, sequence, time_ns, wall_ns, operands, rule.priority, rule.capture, rule.sample
        )


class _RunningRule:
    """One rule with everything that it keeps between ticks."""

    __slots__ = ("_named", "_quantifiers", "machine", "rule", "selection", "slot")

    def __init__(self, rule: Rule, program: Program, seed: int) -> None:
        self.rule = rule
        self.slot = program.slot(rule.when)
        self.machine = RuleMachine(rule)
        self.selection = RuleSelection(rule, seed)
        nodes = list(walk(rule.when))
        reads = {node.name: node for node in nodes if isinstance(node, SignalRead)}
        self._named = {name: program.slot(node) for name, node in {**reads, **rule.operands}.items()}
        self._quantifiers = [node for node in nodes if isinstance(node, Operation) and node.name in QUANTIFIERS]

    def goes_off(self, condition: bool | float | str | None, time_ns: int) -> bool:
        """True when this tick completes an event that is kept."""
        event = self.machine.step(condition, time_ns)
        if event is Event.LOST:
            self.selection.suppressed[COOLDOWN] += 1
        return event is Event.COMPLETE and self.selection.keep(time_ns)

    def operands(self, program: Program) -> dict[str, SignalValue | None]:
        """The signals of the condition, the rule's own operands, and the items that the condition is true for."""
        values: dict[str, SignalValue | None] = {name: program.value(slot) for name, slot in self._named.items()}
        for quantifier in self._quantifiers:
            for name, value in program.witness_values(quantifier).items():
                values.setdefault(name, value)
        return values

    def status(self, program: Program, time_ns: int) -> RuleStatus:
        """See `RuleEngine.status`."""
        selection = self.selection
        is_unknown = program.value(self.slot) is None
        state = self.machine.state(time_ns)
        return RuleStatus(state, is_unknown, selection.kept, selection.last_kept_ns, dict(selection.suppressed))


def _expressions(rules: RuleSet) -> list[Expression]:
    return [expression for rule in rules.rules for expression in (rule.when, *rule.operands.values())]
