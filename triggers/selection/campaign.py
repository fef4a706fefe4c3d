"""What the rules of one campaign share: the time in which they collect, and one budget over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triggers.rules.rule import CampaignTerms
from triggers.selection.budgets import DailyBytes, HourlyCount, fits


class CampaignSelection:
    """One campaign. `heir` gives the same spending to a newer version of it."""

    __slots__ = ("_terms", "daily", "hourly")

    def __init__(self, terms: CampaignTerms, hourly: HourlyCount | None = None, daily: DailyBytes | None = None):
        self._terms = terms
        self.hourly = hourly or HourlyCount()
        self.daily = daily or DailyBytes()

    def heir(self, terms: CampaignTerms) -> CampaignSelection:
        """Other terms, the same spending: a campaign that is pushed again does not get its budget twice."""
        return CampaignSelection(terms, self.hourly, self.daily)

    def collects(self, wall_ns: int) -> bool:
        """Whether the campaign has begun and has not expired."""
        return self._terms.starts_wall_ns <= wall_ns < self._terms.expires_wall_ns

    def has_room(self, time_ns: int, size_bytes: int) -> bool:
        """Whether one more firing of that size fits."""
        budget = self._terms.budget
        if budget.firings_per_hour is not None and self.hourly.total(time_ns) >= budget.firings_per_hour:
            return False
        limit_bytes = budget.bytes_per_day
        return limit_bytes is None or fits(self.daily.total(time_ns), size_bytes, limit_bytes)

    def spend(self, time_ns: int, size_bytes: int) -> None:
        """Charge a firing."""
        self.hourly.add(time_ns)
        self.daily.add(time_ns, size_bytes)

    def to_dict(self) -> dict[str, Any]:
        """What was spent, JSON-ready."""
        return {"hourly": self.hourly.to_list(), "daily": self.daily.to_list()}


def campaign_from_dict(terms: CampaignTerms, saved: Mapping[str, Any]) -> CampaignSelection:
    """The inverse of `to_dict`. KeyError, TypeError or ValueError when it is something else."""
    return CampaignSelection(terms, HourlyCount(saved["hourly"]), DailyBytes(saved["daily"]))


def lineage(campaign: str) -> str:
    """What all versions of a campaign share: its name, without `@version`."""
    return campaign.rpartition("@")[0] or campaign
