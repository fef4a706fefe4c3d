"""All drives together: what each rule found, and what it and the whole set would cost.

Rates are over the hours that the drives hold together. A cost is given for an hour of driving and for a day of
`hours_per_day` of it. "Before" is without sampling and budgets. "After" is what the engine kept; where drives are too
short for a budget to bite (twenty firings an hour, 500 MB a day), the extrapolated figure is held to the budget, too.
Precision and recall judge the rule's events before selection: a rule that is sampled on purpose misses nothing.

`to_json` is the shape of `--json`:

    hours, hours_per_day, speed_x, rules_evaluated, drives_failed
    total       firings, firings_per_hour, clips, mb_per_hour, mb_per_day, mb_per_day_before
    rules[]     (per hour and MB held to the rule's budgets; the interval is of what was counted)
                name, category, priority, firings, firings_per_hour, firings_per_hour_95 [low, high or null], events,
                events_per_hour, clips, mb_per_hour, mb_per_day, mb_per_day_before, is_held_to_budget,
                suppressed {reason: count}, truth {hit, missed, false, precision, recall} or null,
                drives_applicable, not_applicable (a reason, where no drive could serve the rule) or null
    overlap     {rule: {other: share of its firings whose clip window touches one of the other's}}, no zeros
    drives[]    path, name, duration_s, ticks, cameras {name: bytes_per_s}, model, was_cached, evaluation_s, speed_x,
                firings[] {rule, elapsed_s, mono_ns, operands}, suppressed, not_applicable, truth, notes
    failures[]  path, error
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replay.backtest.budget_limits import held_to_budget, held_to_campaigns, hourly_limit
from replay.backtest.clip_costs import BYTES_PER_MB, clips_of, total_bytes
from replay.backtest.evaluation import DriveOutcome
from replay.backtest.overlaps import overlap_shares
from replay.backtest.statistics import grade_facts, poisson_95
from replay.truth import RuleGrade
from runtime.messages import Firing
from triggers import Rule, RuleSet

#: What a private car is driven a day; a delivery van or a robotaxi drives 8 to 20 hours.
DEFAULT_HOURS_PER_DAY = 1.5
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class DriveFailure:
    """A drive that could not be played."""

    path: Path
    error: str


@dataclass(slots=True)
class RuleSummary:
    """One rule over all drives."""

    rule: Rule
    firings: int
    events: int
    clips: int
    firings_per_hour: float
    events_per_hour: float
    firings_per_hour_95: tuple[float, float]
    mb_per_hour: float
    mb_per_day: float
    mb_per_day_before: float
    free_mb_per_hour: float  # of the kept firings, not held to budgets
    is_held_to_budget: bool  # extrapolated, it fires or weighs more than the rule's budget allows
    suppressed: Mapping[str, int]
    grade: RuleGrade | None
    drives_applicable: int
    not_applicable: str | None

    def to_json(self) -> dict[str, Any]:
        """See the module's text."""
        return {
            "name": self.rule.name,
            "category": self.rule.category,
            "priority": self.rule.priority.value,
            "firings": self.firings,
            "firings_per_hour": round(self.firings_per_hour, 3),
            "firings_per_hour_95": list(map(_bound, self.firings_per_hour_95)),
            "events": self.events,
            "events_per_hour": round(self.events_per_hour, 3),
            "clips": self.clips,
            "mb_per_hour": round(self.mb_per_hour, 3),
            "mb_per_day": round(self.mb_per_day, 3),
            "mb_per_day_before": round(self.mb_per_day_before, 3),
            "is_held_to_budget": self.is_held_to_budget,
            "suppressed": dict(self.suppressed),
            "truth": None if self.grade is None else grade_facts(self.grade),
            "drives_applicable": self.drives_applicable,
            "not_applicable": self.not_applicable,
        }


@dataclass(slots=True)
class BacktestResult:
    """The whole answer."""

    rules: list[RuleSummary]
    outcomes: list[DriveOutcome]
    failures: list[DriveFailure]
    hours: float
    hours_per_day: float
    firings: int
    clips: int
    mb_per_hour: float
    mb_per_day: float
    mb_per_day_before: float
    overlap: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def firings_per_hour(self) -> float:
        """Firings of all rules for each hour of driving."""
        return _per_hour(self.firings, self.hours)

    @property
    def speed_x(self) -> float:
        """Seconds of driving for each second that rules were evaluated."""
        spent_s = sum(outcome.evaluation_s for outcome in self.outcomes)
        return self.hours * SECONDS_PER_HOUR / spent_s if spent_s > 0 else 0.0

    @property
    def fired(self) -> list[RuleSummary]:
        """Rules that fired at all."""
        return [rule for rule in self.rules if rule.firings]

    def to_json(self) -> dict[str, Any]:
        """See the module's text."""
        return {
            "hours": round(self.hours, 6),
            "hours_per_day": self.hours_per_day,
            "speed_x": round(self.speed_x, 1),
            "rules_evaluated": len(self.rules),
            "drives_failed": len(self.failures),
            "total": {
                "firings": self.firings,
                "firings_per_hour": round(self.firings_per_hour, 3),
                "clips": self.clips,
                "mb_per_hour": round(self.mb_per_hour, 3),
                "mb_per_day": round(self.mb_per_day, 3),
                "mb_per_day_before": round(self.mb_per_day_before, 3),
            },
            "rules": [rule.to_json() for rule in self.rules],
            "overlap": {rule: dict(others) for rule, others in self.overlap.items()},
            "drives": [_drive_facts(outcome) for outcome in self.outcomes],
            "failures": [{"path": str(failure.path), "error": failure.error} for failure in self.failures],
        }


def summarise(
    rules: RuleSet, outcomes: Sequence[DriveOutcome], failures: Sequence[DriveFailure], hours_per_day: float
) -> BacktestResult:
    """Everything over all drives that could be played."""
    hours = sum(outcome.facts.duration_s for outcome in outcomes) / SECONDS_PER_HOUR
    summaries = [_summary(rule, outcomes, hours_per_day) for rule in rules.rules]
    kept_mb = _merged_mb([(outcome, outcome.kept) for outcome in outcomes])
    before_mb = _merged_mb([(outcome, outcome.events) for outcome in outcomes])
    held = _held_share(summaries)
    mb_per_day = held_to_campaigns(rules, _per_hour(kept_mb, hours) * held * hours_per_day)
    return BacktestResult(
        rules=summaries,
        outcomes=list(outcomes),
        failures=list(failures),
        hours=hours,
        hours_per_day=hours_per_day,
        firings=sum(len(outcome.kept) for outcome in outcomes),
        clips=sum(len(clips_of(outcome.kept)) for outcome in outcomes),
        mb_per_hour=mb_per_day / hours_per_day,
        mb_per_day=mb_per_day,
        mb_per_day_before=_per_hour(before_mb, hours) * hours_per_day,
        overlap=overlap_shares([outcome.kept for outcome in outcomes]),
    )


def _summary(rule: Rule, outcomes: Sequence[DriveOutcome], hours_per_day: float) -> RuleSummary:
    """Rates are those of the drives on which the rule can fire: the others say nothing of it."""
    able = [outcome for outcome in outcomes if rule.name not in outcome.not_applicable]
    hours = sum(outcome.facts.duration_s for outcome in able) / SECONDS_PER_HOUR
    kept = [(outcome, _of(rule, outcome.kept)) for outcome in outcomes]
    events = [(outcome, _of(rule, outcome.events)) for outcome in outcomes]
    firings, event_count = (sum(len(own) for _, own in pairs) for pairs in (kept, events))
    suppressed: Counter[str] = Counter()
    for outcome in outcomes:
        suppressed.update(outcome.suppressed.get(rule.name, {}))
    lacking = [outcome.not_applicable[rule.name] for outcome in outcomes if rule.name in outcome.not_applicable]
    free = _per_hour(_merged_mb(kept), hours)
    rate = _per_hour(firings, hours)
    limit = hourly_limit(rule, kept)
    mb_per_hour = held_to_budget(rule, free, rate, limit, hours_per_day)
    return RuleSummary(
        rule=rule,
        firings=firings,
        events=event_count,
        clips=sum(len(clips_of(own)) for _, own in kept),
        firings_per_hour=min(rate, limit),
        events_per_hour=_per_hour(event_count, hours),
        firings_per_hour_95=poisson_95(firings, hours),
        mb_per_hour=mb_per_hour,
        mb_per_day=mb_per_hour * hours_per_day,
        mb_per_day_before=_per_hour(_merged_mb(events), hours) * hours_per_day,
        free_mb_per_hour=free,
        is_held_to_budget=rate > limit or mb_per_hour < free,
        suppressed=dict(sorted(suppressed.items())),
        grade=_total_grade(rule, outcomes),
        drives_applicable=len(outcomes) - len(lacking),
        not_applicable=lacking[0] if lacking and len(lacking) == len(outcomes) else None,
    )


def _of(rule: Rule, firings: Sequence[Firing]) -> list[Firing]:
    return [firing for firing in firings if firing.rule == rule.name]


def _merged_mb(firings: Sequence[tuple[DriveOutcome, Sequence[Firing]]]) -> float:
    return sum(total_bytes(clips_of(own), outcome.bytes_per_s) for outcome, own in firings) / BYTES_PER_MB


def _bound(rate: float) -> float | None:
    return round(rate, 3) if math.isfinite(rate) else None  # over no time at all there is no upper bound


def _per_hour(amount: float, hours: float) -> float:
    return amount / hours if hours > 0 else 0.0


def _held_share(summaries: Sequence[RuleSummary]) -> float:
    """By how much budgets shrink the rules' own costs together: the merged cost is taken to shrink alike."""
    free = sum(summary.free_mb_per_hour for summary in summaries)
    return sum(summary.mb_per_hour for summary in summaries) / free if free > 0 else 1.0


def _total_grade(rule: Rule, outcomes: Sequence[DriveOutcome]) -> RuleGrade | None:
    grades = [
        outcome.grades.by_rule[rule.name]
        for outcome in outcomes
        if outcome.grades is not None and rule.name in outcome.grades.by_rule
    ]
    if not grades:
        return None
    return RuleGrade(
        hit=sum(grade.hit for grade in grades),
        missed=sum(grade.missed for grade in grades),
        false=sum(grade.false for grade in grades),
    )


def _drive_facts(outcome: DriveOutcome) -> dict[str, Any]:
    facts = outcome.facts
    grades = outcome.grades
    return {
        "path": str(outcome.path),
        "name": facts.name,
        "duration_s": round(facts.duration_s, 3),
        "ticks": facts.ticks,
        "cameras": {camera: round(rate) for camera, rate in outcome.bytes_per_s.items()},
        "model": None if facts.model is None else dict(facts.model),
        "was_cached": outcome.was_cached,
        "evaluation_s": round(outcome.evaluation_s, 4),
        "speed_x": round(facts.duration_s / outcome.evaluation_s, 1) if outcome.evaluation_s > 0 else None,
        "firings": [
            {
                "rule": firing.rule,
                "elapsed_s": round(outcome.elapsed_s(firing.time_ns), 3),
                "mono_ns": firing.time_ns,
                "operands": dict(firing.operands),
            }
            for firing in outcome.kept
        ],
        "suppressed": {rule: dict(reasons) for rule, reasons in outcome.suppressed.items()},
        "not_applicable": dict(outcome.not_applicable),
        "truth": None if grades is None else {name: grade_facts(found) for name, found in grades.by_rule.items()},
        "notes": list(outcome.notes),
    }
