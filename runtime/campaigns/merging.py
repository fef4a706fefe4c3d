"""The vehicle's own rules and those of its campaigns as one set, one campaign after another.

A campaign that does not fit what is there already is refused by name and the others go on: a rule name, query or
classifier may exist once, unless it is the very same one. Own rules come first and are never touched.

Files are held against limits one set at a time when they are loaded; here the same limits count for everything that
runs together, so that many campaigns, each within bounds, cannot take the vehicle's memory or its ticks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.campaigns.reasons import CampaignRefusedError
from triggers.evaluation.sizes import window_bytes
from triggers.language.expressions import Expression, walk
from triggers.rules.memory import MAX_WINDOW_BYTES
from triggers.rules.rule import RuleSet

MAX_RULES = 10_000
#: The estimate of a tick: so much for every different node, items with 100 tracks; the dearest of what was measured on
#: one slow core. The library comes to 3 ms by it and takes a third of that.
NODE_US, ITEM_NODE_US = 0.2, 5.0
#: What all rules together may come to by that estimate, a third of which must leave room in a period at 20 Hz.
MAX_TICK_US = 50_000.0
#: Named things of a rule set that are shared by all its rules.
_SHARED = ("queries", "classifiers")


def merged(base: RuleSet, addition: RuleSet, label: str) -> RuleSet:
    """Both together. Raises CampaignRefusedError `name_collision` or `too_large`; `base` is not changed."""
    owners = {rule.name: rule.campaign or "the vehicle's own rules" for rule in base.rules}
    taken = [f"{rule.name} (of {owners[rule.name]})" for rule in addition.rules if rule.name in owners]
    if taken:
        raise CampaignRefusedError("name_collision", f"{label}: rule names are taken: {', '.join(taken[:8])}")
    if len(base.rules) + len(addition.rules) > MAX_RULES:
        raise CampaignRefusedError("too_large", f"{label}: more than {MAX_RULES} rules together")
    _check_costs(base, addition, label)
    shared = {key: _joined(getattr(base, key), getattr(addition, key), key, label) for key in _shared_of(base)}
    terms = {**base.terms, **addition.terms}
    return dataclasses.replace(base, rules=(*base.rules, *addition.rules), terms=terms, **shared)


def _check_costs(base: RuleSet, addition: RuleSet, label: str) -> None:
    """Equal nodes are computed, and their windows kept, once for all rules: so they count once."""
    nodes = _nodes(base) | _nodes(addition)
    spent_bytes = sum(map(window_bytes, nodes))
    if spent_bytes > MAX_WINDOW_BYTES:
        spent_mb, most_mb = spent_bytes // 1024**2, MAX_WINDOW_BYTES // 1024**2
        raise CampaignRefusedError(
            "too_large", f"{label}: the windows of all rules together need {spent_mb} MiB, at most {most_mb} MiB"
        )
    tick_us = sum(NODE_US if node.population is None else ITEM_NODE_US for node in nodes)
    if tick_us > MAX_TICK_US:
        raise CampaignRefusedError(
            "too_large",
            f"{label}: all rules together would take about {tick_us / 1000:.0f} ms of a tick, at most"
            f" {MAX_TICK_US / 1000:.0f} ms (fix: fewer questions about tracks, objects and cameras)",
        )


def _nodes(rules: RuleSet) -> set[Expression]:
    return {node for rule in rules.rules for expression in rule.expressions for node in walk(expression)}


def _shared_of(rules: RuleSet) -> Iterable[str]:
    names = {field.name for field in dataclasses.fields(rules)}
    return [key for key in _SHARED if key in names]


def _joined(base: Mapping[str, Any], addition: Mapping[str, Any], kind: str, label: str) -> dict[str, Any]:
    differing = [name for name in addition if name in base and not _same(base[name], addition[name])]
    if differing:
        text = f"{label}: {kind} of these names exist with other content: {', '.join(differing[:8])}"
        raise CampaignRefusedError("name_collision", text)
    return {**addition, **base}


def _same(one: Any, other: Any) -> bool:
    """A classifier is its content, wherever its file lies."""
    digests = getattr(one, "sha256", None), getattr(other, "sha256", None)
    return digests[0] == digests[1] if None not in digests else bool(one == other)
