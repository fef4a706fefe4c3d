"""What became of a rule's events: every one is counted once, under one outcome.

    kept       its clip is sealed, or on its way
    cooldown   complete while the rule was cooling
    sample     left out by the rule's sampling
    budget     a budget of the rule or of its campaign had no room for it
    score      the ranking expects better ones for the room that is left
    campaign   before its campaign's start or after its expiry
    disk       it fired, but the disk or the spool had no room for the clip
    history    it fired, but history no longer held its seconds
    privacy    it fired, but no clip may be made of it: in an excluded place, or what protects it is missing

The sum over all outcomes is the number of events, so that rates are unbiased whatever was kept. `disk`, `history` and
`privacy` move an event away from `kept` when the recorder says so; nothing is ever counted twice. A sealed clip that
the spool gives up before it is delivered stays `kept` here: the spool's own ledger has it as a tombstone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

KEPT, COOLDOWN, SAMPLE, BUDGET, SCORE, CAMPAIGN = "kept", "cooldown", "sample", "budget", "score", "campaign"
DISK, HISTORY, PRIVACY = "disk", "history", "privacy"
#: Why a firing can be without a clip.
LOSSES = frozenset({DISK, HISTORY, PRIVACY})
OUTCOMES = (KEPT, COOLDOWN, SAMPLE, BUDGET, SCORE, CAMPAIGN, DISK, HISTORY, PRIVACY)


class Tally:
    """The counts of one rule."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self._counts: Counter[str] = Counter(counts or {})

    def count(self, outcome: str) -> None:
        """One more event."""
        self._counts[outcome] += 1

    def lose(self, reason: str) -> None:
        """A firing that was counted as kept has no clip, for `reason`."""
        if reason not in LOSSES:
            raise ValueError(f"{reason!r} is no reason to lose a clip (fix: one of {', '.join(sorted(LOSSES))})")
        if self._counts[KEPT] > 0:  # else it is not in these counts: they began anew meanwhile
            self._counts[KEPT] -= 1
            self._counts[reason] += 1

    @property
    def fired(self) -> int:
        """Events that became firings, whatever happened to their clips."""
        return sum(self._counts[outcome] for outcome in (KEPT, *LOSSES))

    def to_dict(self) -> dict[str, int]:
        """Counts by outcome; those that never happened are left out."""
        return {outcome: count for outcome in OUTCOMES if (count := self._counts[outcome]) > 0}

    def suppressed(self) -> dict[str, int]:
        """Counts of events without a clip, by reason."""
        return {outcome: count for outcome, count in self.to_dict().items() if outcome != KEPT}
