"""Rules as values, and the file format that they are written in (see `loading` for reading it)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runtime.messages import CaptureWindow, Priority
from triggers.language.expressions import QUANTIFIERS, Expression, Operation, SignalRead, TrackField, signals_read
from triggers.rules.applicability import missing_words


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a rule may send home; None: no limit."""

    firings_per_hour: int | None = None
    bytes_per_day: int | None = None
    by: str | None = None  # an operand: each of its values has `firings_per_hour` for itself


@dataclass(frozen=True, slots=True)
class CampaignTerms:
    """What a campaign's rules share: one budget, and the time in which they collect."""

    budget: Budget
    starts_wall_ns: int
    expires_wall_ns: int


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
    score: Expression | None = None  # under `bytes_per_day`, the best by this number are kept
    campaign: str = ""  # "name@version" of the campaign that brought it

    @property
    def signals(self) -> tuple[str, ...]:
        """Every signal that the condition reads."""
        return signals_read(self.when)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules that run together; names are unique."""

    rules: tuple[Rule, ...]
    terms: Mapping[str, CampaignTerms] = field(default_factory=dict)  # by `Rule.campaign`

    @property
    def fingerprint(self) -> str:
        """sha256 over all rules' versions."""
        text = "\n".join(f"{rule.name} {rule.version}" for rule in sorted(self.rules, key=lambda rule: rule.name))
        return hashlib.sha256(text.encode()).hexdigest()

    def not_applicable(
        self, heads: Iterable[str], has_cameras: bool, signals: Iterable[str] | None = None
    ) -> dict[str, str]:
        """Rules that can never fire here, with what each lacks.

        `heads` are the scalars that the model publishes (`heads.<name>`), and `predicted_speed_mps` if it predicts
        speeds of tracks. `signals` are the names that the sources can give, where that is known.
        """
        available = set(heads)
        sources = None if signals is None else set(signals)

        def is_missing(node: Expression) -> bool:
            if isinstance(node, SignalRead) and node.name.startswith("heads."):
                return node.name.partition(".")[2] not in available
            if isinstance(node, SignalRead):
                return sources is not None and node.name not in sources
            if isinstance(node, TrackField):
                return node.name == "predicted_speed_mps" and node.name not in available
            return isinstance(node, Operation) and node.name in QUANTIFIERS and not has_cameras

        lacking = {rule.name: missing_words(rule.when, is_missing) for rule in self.rules}
        return {name: _reason(words) for name, words in lacking.items() if words}


def _reason(words: Sequence[str]) -> str:
    reasons = []
    heads = [word for word in words if word.startswith("heads.")]
    signals = [word for word in words if "." in word and word not in heads]
    if heads:
        reasons.append(f"the model has no {', '.join(heads)}")
    if "predicted_speed_mps" in words:
        reasons.append("the model predicts no speeds of tracks")
    if signals:
        reasons.append(f"no source gives {', '.join(signals)}")
    if not QUANTIFIERS.isdisjoint(words):
        reasons.append("there are no cameras to track in")
    return "; ".join(reasons)
