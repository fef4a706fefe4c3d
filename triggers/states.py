"""The life of one rule: inactive -> pending (`hold_s`) -> firing -> cooling (`cooldown_s`).

An *event* is a stretch in which the condition stays true; it is complete when it has lasted `hold_s`. Unknown is
not true: it ends a stretch. With `rearm: edge` one stretch is one event, however long it lasts; an event that is
complete while the rule cools is lost, and said to be. With `rearm: level` a stretch that still lasts when the rule has
cooled is an event again, so that only one that ends before is lost.
"""

from __future__ import annotations

from enum import Enum

from runtime.messages import NANOSECONDS_PER_SECOND
from triggers.language.types import Value
from triggers.rules.rule import Rule


class RuleState(str, Enum):
    """Where a rule stands after a tick."""

    INACTIVE = "inactive"
    PENDING = "pending"  # the condition is true, but not for long enough yet
    FIRING = "firing"  # an event is complete and its condition still holds
    COOLING = "cooling"


class Event(Enum):
    """What a tick brought."""

    NONE = 0
    COMPLETE = 1  # an event, to be kept or not
    LOST = 2  # an event while the rule was cooling


class RuleMachine:
    """One rule's state. Call `step` once a tick, with times that never go back."""

    __slots__ = ("_cooldown_ns", "_hold_ns", "_is_level", "_waits", "_was_told", "cools_until_ns", "true_since_ns")

    def __init__(self, rule: Rule) -> None:
        self._hold_ns = round(rule.hold_s * NANOSECONDS_PER_SECOND)
        self._cooldown_ns = round(rule.cooldown_s * NANOSECONDS_PER_SECOND)
        self._is_level = rule.rearm == "level"
        #: Since when the condition is true; None: the rule rests, and `step` may be left out while it is not true.
        self.true_since_ns: int | None = None
        self.cools_until_ns: int | None = None  # survives a restart
        self._was_told = False  # this stretch was an event already
        self._waits = False  # level: this stretch is complete and waits for the rule to have cooled

    def step(self, condition: Value, time_ns: int) -> Event:
        """Take in the condition's value at this tick."""
        if condition is not True:
            was_lost = self._waits
            self.true_since_ns, self._was_told, self._waits = None, False, False
            return Event.LOST if was_lost else Event.NONE
        if self.true_since_ns is None:
            self.true_since_ns = time_ns
        if self._was_told or time_ns - self.true_since_ns < self._hold_ns:
            return Event.NONE
        return self._complete(time_ns)

    def _complete(self, time_ns: int) -> Event:
        if self.is_cooling(time_ns):
            self._was_told = not self._is_level
            self._waits = self._is_level
            return Event.NONE if self._is_level else Event.LOST
        self.cools_until_ns = time_ns + self._cooldown_ns
        self._was_told = not self._is_level
        self._waits = False
        return Event.COMPLETE

    def is_cooling(self, time_ns: int) -> bool:
        """Whether the last event was too short a time ago."""
        return self.cools_until_ns is not None and time_ns < self.cools_until_ns

    def state(self, time_ns: int) -> RuleState:
        """The state after the tick at `time_ns`."""
        if self.true_since_ns is not None and time_ns - self.true_since_ns < self._hold_ns:
            return RuleState.PENDING
        if self._was_told:
            return RuleState.FIRING
        return RuleState.COOLING if self.is_cooling(time_ns) else RuleState.INACTIVE
