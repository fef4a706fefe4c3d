"""The vehicle's own rules and those of its campaigns as one set, one campaign after another.

A campaign that does not fit what is there already is refused by name and the others go on: a rule name, query or
classifier may exist once, unless it is the very same one. Own rules come first and are never touched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.campaigns.reasons import CampaignRefusedError
from triggers.rules.rule import RuleSet

MAX_RULES = 10_000
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
    shared = {key: _joined(getattr(base, key), getattr(addition, key), key, label) for key in _shared_of(base)}
    terms = {**base.terms, **addition.terms}
    return dataclasses.replace(base, rules=(*base.rules, *addition.rules), terms=terms, **shared)


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
