"""Chooses among one rule's events, and remembers what became of them.

The order in which an event must pass: its campaign collects (`campaign`); sampling (`sample`); firings an hour of the
rule, or of the operand value that `by` names, and firings and bytes of the campaign (`budget`); bytes of the rule
(`budget`), and where the rule has a score, the ranking (`score`). The first refusal is the reason that is counted.
The ranking sees every event that was sampled, so that it learns from those, too, that another budget refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.messages import ClipVariant
from triggers.evaluation.chance import uniform
from triggers.language.types import Value
from triggers.rules.rule import Rule
from triggers.selection.budgets import ClipSizes, DailyBytes, HourlyQuota, fits
from triggers.selection.campaign import CampaignSelection
from triggers.selection.ranking import DaySpending, ScoreRanking
from triggers.selection.sampling import is_sampled
from triggers.selection.tally import BUDGET, CAMPAIGN, COOLDOWN, KEPT, SAMPLE, SCORE, Tally

#: Of what recording takes, what a clip of thumbnails is taken to weigh until the first one is sealed: generous, so that
#: a budget is not overrun. A second of a camera is one JPEG of some 15 kB in place of video of 1 Mbit (125 kB) or more.
THUMBNAILS_SHARE = 0.1


class RuleSelection:
    """One rule. Times never go back; `saved` is a snapshot that is made anew only after something has changed."""

    __slots__ = (
        "_daily", "_quota", "_ranking", "_rule", "_saved", "_seed", "_sizes", "has_history", "last_fired_ns", "tally",
    )  # fmt: skip

    def __init__(self, rule: Rule, seed: int, predecessor: RuleSelection | None = None) -> None:
        """`predecessor` is the same rule as it was defined before: what it spent is spent."""
        self._rule = rule
        self._seed = seed
        self._quota: HourlyQuota = predecessor._quota if predecessor is not None else HourlyQuota()
        self._daily: DailyBytes = predecessor._daily if predecessor is not None else DailyBytes()
        self._sizes: ClipSizes = predecessor._sizes if predecessor is not None else ClipSizes()
        self._ranking = _ranking(rule, predecessor)
        self._saved: dict[str, Any] | None = None
        #: Whether there is anything to remember.
        self.has_history: bool = predecessor is not None and predecessor.has_history
        self.tally = Tally()
        self.last_fired_ns: int | None = None

    # Events

    def miss(self) -> None:
        """An event came while the rule was cooling."""
        self._count(COOLDOWN)

    def estimate(self, bytes_per_s: float) -> int:
        """What the next clip will weigh; 0 while nothing is known."""
        window = self._rule.capture
        share = THUMBNAILS_SHARE if window.variant is ClipVariant.THUMBNAILS else 1.0
        return self._sizes.estimate(window.pre_s + window.post_s, share * bytes_per_s)

    def keep(
        self,
        time_ns: int,
        size_bytes: int,
        score: float | None,
        quota_value: Value,
        campaign: CampaignSelection | None,
        wall_ns: int,
    ) -> bool:
        """Decide about an event, count it, and reserve `size_bytes` for its clip if it is kept."""
        if campaign is not None and not campaign.collects(wall_ns):
            reason: str | None = CAMPAIGN
        elif not is_sampled(self._rule, self._seed, time_ns):
            reason = SAMPLE
        else:
            reason = self._refusal(time_ns, size_bytes, score, quota_value, campaign)
        self._count(reason or KEPT)
        if reason is not None:
            return False
        self._spend(time_ns, size_bytes, quota_value)
        if campaign is not None:
            campaign.spend(time_ns, size_bytes)
        self.last_fired_ns = time_ns
        return True

    def _refusal(
        self,
        time_ns: int,
        size_bytes: int,
        score: float | None,
        quota_value: Value,
        campaign: CampaignSelection | None,
    ) -> str | None:
        is_worth_it = self._ranking is None or self._ranking.accepts(time_ns, score, size_bytes, self._lot(time_ns))
        budget = self._rule.budget
        hourly = budget.firings_per_hour
        if hourly is not None and not self._quota.has_room(quota_value, hourly, time_ns):
            return BUDGET
        if campaign is not None and not campaign.has_room(time_ns, size_bytes):
            return BUDGET
        if not self._has_bytes(time_ns, size_bytes):
            return BUDGET
        return None if is_worth_it else SCORE

    def _lot(self, time_ns: int) -> float:
        return uniform(self._seed, SCORE, self._rule.name, time_ns)

    def _has_bytes(self, time_ns: int, size_bytes: int) -> bool:
        limit_bytes = self._rule.budget.bytes_per_day
        if limit_bytes is None:
            return True
        if self._ranking is not None:
            return self._ranking.has_room(time_ns, size_bytes)
        return fits(self._daily.total(time_ns), size_bytes, limit_bytes)

    def _spend(self, time_ns: int, size_bytes: int, quota_value: Value) -> None:
        if self._rule.budget.firings_per_hour is not None:
            self._quota.add(quota_value, time_ns)
        self._daily.add(time_ns, size_bytes)
        if self._ranking is not None:
            self._ranking.spending.spent_bytes += size_bytes

    # What became of the clip

    def settle(self, time_ns: int, reserved_bytes: int, size_bytes: int) -> None:
        """The clip of the firing at `time_ns` is sealed, and weighs `size_bytes`."""
        self.correct(time_ns, size_bytes - reserved_bytes)
        self._sizes.add(size_bytes)

    def lose(self, time_ns: int, reserved_bytes: int, reason: str) -> None:
        """There will be no clip of the firing at `time_ns`. It stays counted in the firings of its hour."""
        self.correct(time_ns, -reserved_bytes)
        self.tally.lose(reason)

    def correct(self, time_ns: int, change_bytes: int) -> None:
        """What was charged at `time_ns` weighs that much more."""
        self._saved = None
        self._daily.correct(time_ns, change_bytes)
        if self._ranking is not None:
            self._ranking.spending.correct(time_ns, change_bytes)

    def _count(self, outcome: str) -> None:
        self._saved, self.has_history = None, True
        self.tally.count(outcome)

    # Across restarts

    def saved(self) -> Mapping[str, Any]:
        """Everything, JSON-ready. The same object until something changes; never changed afterwards."""
        if self._saved is None:
            self._saved = {
                "tally": self.tally.to_dict(),
                "last_fired_ns": self.last_fired_ns,
                "quota": self._quota.to_list(),
                "daily": self._daily.to_list(),
                "sizes": self._sizes.to_list(),
                "ranking": None if self._ranking is None else self._ranking.to_dict(),
            }
        return self._saved

    def load(self, saved: Mapping[str, Any], is_same_rule: bool) -> None:
        """Take over what `saved` gave; of another definition of the rule, only what was spent.

        KeyError, TypeError or ValueError when it is something else.
        """
        quota, daily, sizes = HourlyQuota(saved["quota"]), DailyBytes(saved["daily"]), ClipSizes(saved["sizes"])
        if self._ranking is not None and saved["ranking"] is not None:
            self._ranking.load(saved["ranking"], is_same_rule)
        elif self._ranking is not None:
            self._ranking.spending = DaySpending.after(daily)
        if is_same_rule:
            tally = Tally({str(outcome): int(count) for outcome, count in saved["tally"].items()})
            last_fired_ns = saved["last_fired_ns"]
            self.tally, self.last_fired_ns = tally, None if last_fired_ns is None else int(last_fired_ns)
        self._quota, self._daily, self._sizes = quota, daily, sizes
        self._saved, self.has_history = None, True


def _ranking(rule: Rule, predecessor: RuleSelection | None) -> ScoreRanking | None:
    limit_bytes = rule.budget.bytes_per_day
    if rule.score is None or limit_bytes is None:
        return None
    if predecessor is None:
        return ScoreRanking(limit_bytes)
    former = predecessor._ranking
    return ScoreRanking(limit_bytes, DaySpending.after(predecessor._daily) if former is None else former.spending)
