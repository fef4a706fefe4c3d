"""Rules and events for tests of selection, made without files."""

from __future__ import annotations

from dataclasses import replace

from runtime.messages import CaptureWindow, Priority
from triggers.language.checking import check
from triggers.language.scope import Scope
from triggers.language.types import Type
from triggers.rules.rule import Budget, Rule

SECOND = 1_000_000_000
FAST = "vehicle.speed_mps > 30"


def make_rule(name: str = "probe", score: str | None = None, when: str = FAST, **fields: object) -> Rule:
    """A rule that fires while the car is fast, without hold and cooldown."""
    rule = Rule(
        name=name,
        description="A probe.",
        why="",
        category="",
        when=check(when, Scope(), Type.BOOLEAN),
        operands={"gear": check("vehicle.gear", Scope(), Type.ANY)},
        hold_s=0.0,
        cooldown_s=0.0,
        capture=CaptureWindow(pre_s=10.0, post_s=5.0),
        priority=Priority.NORMAL,
        budget=Budget(),
        sample=1.0,
        rearm="level",
        version="1",
        score=None if score is None else check(score, Scope(), Type.NUMBER),
    )
    return replace(rule, **fields)  # type: ignore[arg-type]
