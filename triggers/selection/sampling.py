"""Sampling with a known probability: whether an event is in follows from the seed, the rule's name and the time alone.

It depends neither on other rules nor on what was kept before, so that kept events / probability estimates all events.
"""

from __future__ import annotations

from triggers.evaluation.chance import uniform
from triggers.rules.rule import Rule
from triggers.selection.tally import SAMPLE


def is_sampled(rule: Rule, seed: int, time_ns: int) -> bool:
    """Whether the rule's sampling lets an event at `time_ns` in."""
    return rule.sample >= 1.0 or uniform(seed, SAMPLE, rule.name, time_ns) < rule.sample
