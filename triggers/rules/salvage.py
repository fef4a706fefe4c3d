"""What of a wrong rule file can still be checked, so that one look shows all of its mistakes and not the first kind.

The file's shape was refused already, with a problem for everything that is wrong in it. What comes out here stands in
for the file: the same rules at the same places, with every expression that is text, and harmless values for the rest.
It is read for its problems only and never runs.
"""

from __future__ import annotations

import re
from typing import Any

from runtime.formats.documents import Document, DocumentError, validate
from triggers.rules.format import MAX_NAMES, MAX_RULES, NAME_PATTERN, BudgetSection, RuleFile, RuleSection, ZoneSection

_HARMLESS = "True"  # as a condition
_MOST_OPERANDS = 32


def salvage(document: Document) -> RuleFile | None:
    """The file as far as its expressions go; None where it has no list of rules."""
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("rules"), list):
        return None
    return RuleFile.model_construct(
        let=_texts(data.get("let"), MAX_NAMES),
        zones=_zones(document, data.get("zones")),
        queries=dict.fromkeys(_names(data.get("queries")), None),
        classifiers=dict.fromkeys(_names(data.get("classifiers")), None),
        rules=tuple(_rule(index, raw) for index, raw in enumerate(data["rules"][:MAX_RULES])),
    )


def _rule(index: int, raw: object) -> RuleSection:
    written: dict[str, Any] = raw if isinstance(raw, dict) else {}
    name, when, score = written.get("name"), written.get("when"), written.get("score")
    return RuleSection.model_construct(
        name=name if isinstance(name, str) else f"rule number {index + 1}",
        description="",
        when=when if isinstance(when, str) else _HARMLESS,
        operands=_texts(written.get("operands"), _MOST_OPERANDS),
        score=score if isinstance(score, str) else None,
        budget=BudgetSection(),
    )


def _zones(document: Document, raw: object) -> dict[str, ZoneSection]:
    zones = {}
    for name in _names(raw):
        try:
            zones[name] = validate(document, ZoneSection, at=("zones", name))
        except DocumentError:  # told already
            continue
    return zones


def _names(raw: object) -> list[str]:
    names = [name for name in raw if isinstance(name, str)] if isinstance(raw, dict) else []
    return [name for name in names if re.match(NAME_PATTERN, name)][:MAX_NAMES]


def _texts(raw: object, most: int) -> dict[str, str]:
    texts = {name: raw[name] for name in _names(raw)} if isinstance(raw, dict) else {}
    return dict([(name, text) for name, text in texts.items() if isinstance(text, str)][:most])
