"""Rules as values, and the file format that they are written in (see `loading` for reading it)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runtime.messages import CaptureWindow, Priority
from triggers.language.expressions import Expression, TrackField, signals_read, walk


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a rule may send home; None: no limit."""

    firings_per_hour: int | None = None
    bytes_per_day: int | None = None


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

    @property
    def signals(self) -> tuple[str, ...]:
        """Every signal that the condition reads."""
        return signals_read(self.when)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules that run together; names are unique."""

    rules: tuple[Rule, ...]

    @property
    def fingerprint(self) -> str:
        """sha256 over all rules' versions."""
        text = "\n".join(f"{rule.name} {rule.version}" for rule in sorted(self.rules, key=lambda rule: rule.name))
        return hashlib.sha256(text.encode()).hexdigest()

    def not_applicable(self, heads: Iterable[str], has_cameras: bool) -> dict[str, str]:
        """Rules that cannot fire with these heads (`heads.<name>`) and cameras, with the reason of each."""
        available = set(heads)
        reasons = {}
        for rule in self.rules:
            lacking = [name for name in rule.signals if name.startswith("heads.") and name[6:] not in available]
            fields = {node.name for node in walk(rule.when) if isinstance(node, TrackField)}
            reads_tracks = any(node.reads_tracks for node in walk(rule.when))
            if lacking:
                reasons[rule.name] = f"the model has no {', '.join(lacking)}"
            elif "predicted_speed_mps" in fields and "predicted_speed_mps" not in available:
                reasons[rule.name] = "the model predicts no speeds of tracks"
            elif reads_tracks and not has_cameras:
                reasons[rule.name] = "there are no cameras to track in"
        return reasons
