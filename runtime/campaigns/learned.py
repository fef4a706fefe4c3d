"""Learned triggers of a campaign: opened once to see that they can be, with the code that runs them."""

from __future__ import annotations

from triggers.rules.rule import RuleSet


def check_learned(rules: RuleSet) -> None:
    """Placeholder until merged."""
