"""One rule at work: where its values stand in the program, its state, its selection, and what a firing says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.messages import SignalValue
from triggers.evaluation.program import Program
from triggers.language.expressions import QUANTIFIERS, Operation, SignalRead, walk
from triggers.language.types import Value
from triggers.rules.rule import Rule
from triggers.selection import CampaignSelection, RuleSelection
from triggers.states import RuleMachine, RuleState


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """Where one rule stands after the last tick."""

    state: RuleState
    is_unknown: bool  # the condition is neither true nor false
    fired: int
    last_fired_ns: int | None
    suppressed: Mapping[str, int]


class RunningRule:
    """Built beside a running program and never changed by that; machine and selection change from tick to tick."""

    __slots__ = (
        "_by_slot", "_demand", "_named", "_quantifiers", "_saved", "_score_slot", "campaign", "machine", "rule",
        "selection", "slot",
    )  # fmt: skip

    def __init__(
        self,
        rule: Rule,
        program: Program,
        machine: RuleMachine,
        selection: RuleSelection,
        campaign: CampaignSelection | None,
    ) -> None:
        self.rule, self.machine, self.selection, self.campaign = rule, machine, selection, campaign
        self.slot = program.slot(rule.when)
        nodes = list(walk(rule.when))
        reads = {node.name: node for node in nodes if isinstance(node, SignalRead)}
        named = {**reads, **rule.operands}
        self._named = {name: program.slot(node) for name, node in named.items()}
        self._quantifiers = [node for node in nodes if isinstance(node, Operation) and node.name in QUANTIFIERS]
        self._score_slot = None if rule.score is None else program.slot(rule.score)
        self._by_slot = None if rule.budget.by is None else self._named[rule.budget.by]
        self._demand = program.demand(rule.on_demand, rule.when)
        self._saved: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None

    def compute(self, program: Program) -> None:
        """Compute score, quota and operands of a tick at which the condition is true, to be read after this."""
        if self._demand:
            program.compute(self._demand)

    def score(self, program: Program) -> float | None:
        """The rule's score now; None when it has none, or when it is unknown or not finite."""
        value = None if self._score_slot is None else program.value(self._score_slot)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

    def quota_value(self, program: Program) -> Value:
        """The value of the operand that the hourly budget goes by; None without one, and when it is not finite."""
        value = None if self._by_slot is None else program.value(self._by_slot)
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def operands(self, program: Program) -> dict[str, SignalValue | None]:
        """The signals of the condition, the rule's own operands, and the items that the condition is true for."""
        values: dict[str, SignalValue | None] = {name: program.value(slot) for name, slot in self._named.items()}
        for quantifier in self._quantifiers:
            for name, value in program.witness_values(quantifier).items():
                values.setdefault(name, value)
        return values

    def saved(self) -> Mapping[str, Any]:
        """Its part of the saved state; the same object until an event or a clip changes it."""
        selection = self.selection.saved()
        if self._saved is None or self._saved[0] is not selection:
            own = {"version": self.rule.version, "cools_until_ns": self.machine.cools_until_ns}
            self._saved = (selection, {**own, **selection})
        return self._saved[1]


def load(machine: RuleMachine, selection: RuleSelection, rule: Rule, saved: Mapping[str, Any]) -> None:
    """Take over what `RunningRule.saved` gave.

    KeyError, TypeError, ValueError or AttributeError when it is something else.
    """
    is_same_rule = saved["version"] == rule.version
    cools_until_ns = None if saved["cools_until_ns"] is None else int(saved["cools_until_ns"])
    selection.load(saved, is_same_rule)
    if is_same_rule:
        machine.cools_until_ns = cools_until_ns
