"""What a rule does, as facts for people: its condition, what it reads, what it remembers, whether it can fire here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from triggers.evaluation.sizes import window_bytes
from triggers.language.expressions import Expression, ItemField, Operation, SignalRead, walk
from triggers.language.populations import ITEM_FUNCTIONS
from triggers.language.rendering import clauses, render
from triggers.language.vocabulary import FUNCTIONS
from triggers.rules.applicability import Capabilities
from triggers.rules.rule import Rule, RuleSet


@dataclass(frozen=True, slots=True)
class Window:
    """Something that a rule remembers."""

    text: str
    length_s: float | None  # None: what stands since an edge, however long ago
    memory_bytes: int  # at most; 0 where a few numbers are enough
    shared_with: tuple[str, ...]  # other rules of the set for which the same memory serves


@dataclass(frozen=True, slots=True)
class Explanation:
    """One rule of a set."""

    rule: Rule
    clauses: tuple[str, ...]  # all of these must be true
    operands: Mapping[str, str]
    score: str | None
    signals: Mapping[str, str]  # what it reads, with the type
    fields: tuple[str, ...]  # of tracks, objects and cameras
    windows: tuple[Window, ...]
    lacking: str | None  # why it can never fire here; None: it can

    @property
    def memory_bytes(self) -> int:
        """What its windows take at most, those that it shares included."""
        return sum(window.memory_bytes for window in self.windows)

    @property
    def reach_s(self) -> float:
        """How far back the condition looks at most: windows inside windows add up; the hold comes on top."""
        parts = self.rule.expressions
        return max(_reach_s(part) for part in parts) + self.rule.hold_s


def explain(rules: RuleSet, name: str, capabilities: Capabilities) -> Explanation:
    """Explain the rule of that name. Raises KeyError when the set has none."""
    rule = {rule.name: rule for rule in rules.rules}[name]
    parts = {node.key: node for part in rule.expressions for node in walk(part)}
    nodes = list(parts.values())
    users = _users(rules, rule)
    lacking = replace(rules, rules=(rule,)).not_applicable(capabilities)
    return Explanation(
        rule=rule,
        clauses=tuple(clauses(rule.when)),
        operands={operand: render(text) for operand, text in rule.operands.items()},
        score=None if rule.score is None else render(rule.score),
        signals={node.name: node.type.value for node in nodes if isinstance(node, SignalRead)},
        fields=tuple(sorted({_field(node) for node in nodes if isinstance(node, ItemField)})),
        windows=tuple(_window(node, users) for node in nodes if remembers(node)),
        lacking=lacking.get(name),
    )


def remembers(node: Expression) -> bool:
    """Whether the value of a node depends on earlier ticks, beyond those of its operands."""
    if not isinstance(node, Operation):
        return False
    of_items = any(node.name in functions for functions in ITEM_FUNCTIONS.values())
    return of_items or (node.name in FUNCTIONS and FUNCTIONS[node.name].is_temporal)


def _window(node: Expression, users: Mapping[bytes, tuple[str, ...]]) -> Window:
    assert isinstance(node, Operation)
    return Window(render(node), node.parameter, window_bytes(node), users.get(node.key, ()))


def _users(rules: RuleSet, rule: Rule) -> dict[bytes, tuple[str, ...]]:
    """The other rules in which each remembering part occurs as well."""
    users: dict[bytes, tuple[str, ...]] = {}
    for other in rules.rules:
        keys = {node.key for part in other.expressions for node in walk(part) if remembers(node)}
        for key in keys if other.name != rule.name else ():
            users[key] = (*users.get(key, ()), other.name)
    return users


def _field(node: ItemField) -> str:
    assert node.population is not None
    return f"{node.population.value}.{node.name}"


def _reach_s(expression: Expression) -> float:
    reach: dict[bytes, float] = {}
    for node in walk(expression):
        own_s = node.parameter or 0.0 if remembers(node) and isinstance(node, Operation) else 0.0
        own_s = 0.0 if isinstance(node, Operation) and node.name == "at_random" else own_s
        reach[node.key] = own_s + max((reach[operand.key] for operand in node.operands), default=0.0)
    return reach[expression.key]
