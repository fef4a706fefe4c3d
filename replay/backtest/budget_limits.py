"""What budgets leave of an extrapolated cost.

Drives are mostly too short for a budget to bite (twenty firings an hour, 500 MB a day), so a rate measured on them is
held to what the rule, and the campaign it belongs to, may send.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from replay.backtest.clip_costs import BYTES_PER_MB
from replay.backtest.evaluation import DriveOutcome
from runtime.messages import Firing
from triggers import Rule, RuleSet


def hourly_limit(rule: Rule, kept: Sequence[tuple[DriveOutcome, Sequence[Firing]]]) -> float:
    """Firings an hour that the rule's budget allows; a quota allows them to each value that was seen."""
    budget = rule.budget
    if budget.firings_per_hour is None:
        return math.inf
    if budget.by is None:
        return float(budget.firings_per_hour)
    values = {firing.operands.get(budget.by) for _, own in kept for firing in own}
    return float(budget.firings_per_hour * max(len(values), 1))


def held_to_budget(
    rule: Rule, mb_per_hour: float, firings_per_hour: float, limit_per_hour: float, hours_per_day: float
) -> float:
    """What is left of an extrapolated rate when the rule's budgets are taken for what they say."""
    if firings_per_hour > limit_per_hour:
        mb_per_hour *= limit_per_hour / firings_per_hour
    if rule.budget.bytes_per_day is not None:
        mb_per_hour = min(mb_per_hour, rule.budget.bytes_per_day / BYTES_PER_MB / hours_per_day)
    return mb_per_hour


def held_to_campaigns(rules: RuleSet, mb_per_day: float) -> float:
    """All that is sent in a day, where every rule belongs to a campaign with a limit of bytes."""
    limits = [rules.terms[rule.campaign].budget.bytes_per_day if rule.campaign else None for rule in rules.rules]
    if None in limits:
        return mb_per_day
    campaigns = {rule.campaign: limit for rule, limit in zip(rules.rules, limits, strict=True)}
    return min(mb_per_day, sum(limit or 0 for limit in campaigns.values()) / BYTES_PER_MB)
