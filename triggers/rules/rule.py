"""Rules as values, and the file format that they are written in (see `loading` for reading it)."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from runtime.messages import CaptureWindow, Priority
from triggers.language.expressions import Expression, signals_read
from triggers.rules.applicability import Capabilities, missing_words
from triggers.rules.learned import ClassifierFile, EmbeddingQuery


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a rule may send home; None: no limit."""

    firings_per_hour: int | None = None
    bytes_per_day: int | None = None
    by: str | None = None  # a quota: each value of this operand has the firings an hour for itself


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, checked."""

    name: str
    description: str
    why: str
    category: str
    when: Expression
    operands: Mapping[str, Expression]
    hold_s: float
    cooldown_s: float
    capture: CaptureWindow
    priority: Priority
    budget: Budget
    sample: float
    rearm: str  # "edge": one firing while the condition stays true; "level": again whenever it has cooled
    version: str  # hash of the definition
    score: Expression | None = None  # what a byte budget chooses by
    campaign: str = ""  # "name@version" of the campaign that brought it; empty: the vehicle's own

    @property
    def expressions(self) -> list[Expression]:
        """Everything that is evaluated for it, its condition first."""
        return [self.when, *self.on_demand]

    @property
    def on_demand(self) -> list[Expression]:
        """What is wanted only when it goes off."""
        score = [] if self.score is None else [self.score]
        return [*self.operands.values(), *score]

    @property
    def signals(self) -> tuple[str, ...]:
        """Every signal that the condition reads."""
        return signals_read(self.when)


@dataclass(frozen=True, slots=True)
class CampaignTerms:
    """What a campaign may send home in all, and when it runs."""

    budget: Budget
    starts_wall_ns: int
    expires_wall_ns: int


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules that run together; names are unique. What they call by name is here once for all of them."""

    rules: tuple[Rule, ...]
    queries: Mapping[str, EmbeddingQuery] = field(default_factory=dict)
    classifiers: Mapping[str, ClassifierFile] = field(default_factory=dict)
    terms: Mapping[str, CampaignTerms] = field(default_factory=dict)  # by Rule.campaign

    @property
    def fingerprint(self) -> str:
        """sha256 over all rules' versions."""
        text = "\n".join(f"{rule.name} {rule.version}" for rule in sorted(self.rules, key=lambda rule: rule.name))
        return hashlib.sha256(text.encode()).hexdigest()

    def not_applicable(self, capabilities: Capabilities) -> dict[str, str]:
        """Rules that can never fire here, with what each lacks."""
        models = {f"embedding.{name}": query.model for name, query in self.queries.items()}
        lacking = {rule.name: missing_words(rule.when, capabilities, models) for rule in self.rules}
        return {name: "; ".join(words) for name, words in lacking.items() if words}

    def without(self, names: Container[str]) -> RuleSet:
        """The rules that are not named; what they call by name, and campaigns' terms, stay."""
        return replace(self, rules=tuple(rule for rule in self.rules if rule.name not in names))
