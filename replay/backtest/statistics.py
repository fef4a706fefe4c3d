"""Counts as rates and shares, with what is not known said as such."""

from __future__ import annotations

import math
from typing import Any

from replay.truth import RuleGrade


def grade_facts(grade: RuleGrade) -> dict[str, Any]:
    """Counts with precision and recall; None where nothing was there to be divided by."""
    fired, true = grade.hit + grade.false, grade.hit + grade.missed
    return {
        "hit": grade.hit,
        "missed": grade.missed,
        "false": grade.false,
        "precision": grade.hit / fired if fired else None,
        "recall": grade.hit / true if true else None,
    }


def poisson_95(count: int, hours: float) -> tuple[float, float]:
    """95 % of the rates that explain this count in these hours (Wilson and Hilferty's approximation of chi-square)."""
    if hours <= 0:
        return (0.0, math.inf)
    z = 1.959964
    low = count * (1 - 1 / (9 * count) - z / (3 * math.sqrt(count))) ** 3 if count else 0.0
    more = count + 1
    high = more * (1 - 1 / (9 * more) + z / (3 * math.sqrt(more))) ** 3
    return (max(low, 0.0) / hours, high / hours)
