"""Moves every rule through inactive -> pending -> firing -> cooling, and decides which firings are kept.

A rule becomes pending when its condition turns true and fires once that has lasted `hold_s`; then it rests for
`cooldown_s` and must turn false before it can fire again (a condition that stays true is one event, not many).
Unknown is not true: it ends pending, and it never fires. What would have fired and was not kept is counted by reason
(`cooldown`, `budget`, `sample`), so that rates can be estimated from what came home.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.messages import NANOSECONDS_PER_SECOND, Firing, SignalReader, SignalValue, Track
from triggers.evaluation.program import Program
from triggers.language.expressions import Expression, SignalRead, walk
from triggers.rules.rule import Rule, RuleSet

HOUR_NS = 3600 * NANOSECONDS_PER_SECOND


@dataclass(slots=True)
class RuleStatus:
    """Where one rule stands."""

    true_since_ns: int | None = None
    has_fired: bool = False  # during the present stretch of true
    cooling_until_ns: int | None = None
    firings_ns: deque[int] = field(default_factory=deque)  # of the last hour, for the budget
    fired: int = 0


class RuleEngine:
    """The rules of one runtime. Time is an argument; chance is seeded."""

    def __init__(self, rules: RuleSet, seed: int) -> None:
        self.rules = rules
        self._program = Program(_expressions(rules), seed, {})
        self._reads = {rule.name: _signals(rule) for rule in rules.rules}
        self._status = {rule.name: RuleStatus() for rule in rules.rules}
        self._suppressed: dict[str, Counter[str]] = {rule.name: Counter() for rule in rules.rules}
        self._random = random.Random(seed)
        self._sequence = 0

    @property
    def suppressed(self) -> Mapping[str, Mapping[str, int]]:
        """Firings that were not kept, by rule and reason."""
        return {rule: dict(reasons) for rule, reasons in self._suppressed.items() if reasons}

    def status(self) -> Mapping[str, RuleStatus]:
        """Every rule's state."""
        return self._status

    def evaluate(self, tracks: Sequence[Track], signals: SignalReader, time_ns: int, wall_ns: int) -> list[Firing]:
        """The rules that go off on this tick."""
        self._program.run(tracks, signals, time_ns)
        return [self._fire(rule, time_ns, wall_ns) for rule in self.rules.rules if self._goes_off(rule, time_ns)]

    def _goes_off(self, rule: Rule, time_ns: int) -> bool:
        status = self._status[rule.name]
        if self._program.value(self._program.slot(rule.when)) is not True:
            status.true_since_ns, status.has_fired = None, False
            return False
        if status.true_since_ns is None:
            status.true_since_ns = time_ns
        if status.has_fired or time_ns - status.true_since_ns < rule.hold_s * NANOSECONDS_PER_SECOND:
            return False
        status.has_fired = True
        reason = self._refusal(rule, status, time_ns)
        if reason:
            self._suppressed[rule.name][reason] += 1
        return not reason

    def _refusal(self, rule: Rule, status: RuleStatus, time_ns: int) -> str:
        if status.cooling_until_ns is not None and time_ns < status.cooling_until_ns:
            return "cooldown"
        while status.firings_ns and status.firings_ns[0] <= time_ns - HOUR_NS:
            status.firings_ns.popleft()
        limit = rule.budget.firings_per_hour
        if limit is not None and len(status.firings_ns) >= limit:
            return "budget"
        if rule.sample < 1.0 and self._random.random() >= rule.sample:
            return "sample"
        return ""

    def _fire(self, rule: Rule, time_ns: int, wall_ns: int) -> Firing:
        status = self._status[rule.name]
        status.fired += 1
        status.cooling_until_ns = time_ns + round(rule.cooldown_s * NANOSECONDS_PER_SECOND)
        if rule.budget.firings_per_hour is not None:
            status.firings_ns.append(time_ns)
        operands: dict[str, SignalValue | None] = {
            name: self._program.value(self._program.slot(read)) for name, read in self._reads[rule.name].items()
        }
        operands.update(
            (name, self._program.value(self._program.slot(operand))) for name, operand in rule.operands.items()
        )
        sequence, self._sequence = self._sequence, self._sequence + 1
        return Firing(
            rule.name, rule.version, sequence, time_ns, wall_ns, operands, rule.priority, rule.capture, rule.sample
        )


def _expressions(rules: RuleSet) -> list[Expression]:
    return [expression for rule in rules.rules for expression in (rule.when, *rule.operands.values())]


def _signals(rule: Rule) -> dict[str, Expression]:
    return {node.name: node for node in walk(rule.when) if isinstance(node, SignalRead)}
