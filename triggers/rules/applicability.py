"""Whether a rule can fire at all on this vehicle, found before it runs: one that never can is named, not left silent.

Every part of a condition has a set of outcomes that it can still have when certain signals, heads and track fields
are missing and therefore always unknown: `true`, `false` and, for numbers and text, `value`. An empty set is always
unknown. Kleene's logic carries the sets upwards: `a or b` can be true when either can, `a and b` only when both can,
and `is_true(a)` is false at least. A rule is not applicable when its condition cannot be true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from triggers.language.expressions import QUANTIFIERS, Constant, Expression, Operation, SignalRead, TrackField, walk
from triggers.language.types import Type

Outcomes: TypeAlias = frozenset[str]

NEVER: Outcomes = frozenset()
TRUE: Outcomes = frozenset({"true"})
FALSE: Outcomes = frozenset({"false"})
EITHER: Outcomes = TRUE | FALSE
VALUE: Outcomes = frozenset({"value"})


def missing_words(condition: Expression, is_missing: Callable[[Expression], bool]) -> tuple[str, ...]:
    """The missing signals, fields and quantifiers for want of which `condition` can never be true; empty if it can."""
    outcomes: dict[bytes, Outcomes] = {}
    missing: set[str] = set()
    for node in walk(condition):
        if is_missing(node):
            outcomes[node.key] = NEVER
            missing.add(_word(node))
        else:
            outcomes[node.key] = _outcomes(node, [outcomes[operand.key] for operand in node.operands])
    return () if "true" in outcomes[condition.key] else tuple(sorted(missing))


def _word(node: Expression) -> str:
    return node.name if isinstance(node, (SignalRead, TrackField, Operation)) else "?"


def _any_outcome(node: Expression) -> Outcomes:
    return EITHER if node.type is Type.BOOLEAN else VALUE | EITHER if node.type is Type.ANY else VALUE


def _outcomes(node: Expression, operands: list[Outcomes]) -> Outcomes:
    if isinstance(node, Constant):
        return VALUE if not isinstance(node.value, bool) else TRUE if node.value else FALSE
    if isinstance(node, Operation) and node.name in _RULES:
        return _RULES[node.name](*operands)
    if isinstance(node, Operation) and node.name in QUANTIFIERS:
        return _QUANTIFIER_RULES[node.name](operands[0])
    return _any_outcome(node) if all(operands) else NEVER


def _and(left: Outcomes, right: Outcomes) -> Outcomes:
    return (left & right & TRUE) | ((left | right) & FALSE)


def _or(left: Outcomes, right: Outcomes) -> Outcomes:
    return ((left | right) & TRUE) | (left & right & FALSE)


def _not(operand: Outcomes) -> Outcomes:
    return (FALSE if "true" in operand else NEVER) | (TRUE if "false" in operand else NEVER)


def _if(condition: Outcomes, then: Outcomes, otherwise: Outcomes) -> Outcomes:
    return (then if "true" in condition else NEVER) | (otherwise if "false" in condition else NEVER)


def _known(operand: Outcomes) -> Outcomes:
    return EITHER if operand else FALSE


def _is_true(operand: Outcomes) -> Outcomes:
    return FALSE | (operand & TRUE)


def _same(operand: Outcomes) -> Outcomes:
    return operand


_RULES: Mapping[str, Callable[..., Outcomes]] = {
    "and": _and,
    "or": _or,
    "not": _not,
    "if": _if,
    "known": _known,
    "is_true": _is_true,
    "any_within": _same,
    "all_within": _same,
}

#: Over no tracks a quantifier is known whatever its condition is.
_QUANTIFIER_RULES: Mapping[str, Callable[[Outcomes], Outcomes]] = {
    "any_track": lambda condition: FALSE | (condition & TRUE),
    "all_tracks": lambda condition: TRUE | (condition & FALSE),
    "count_tracks": lambda condition: VALUE,
}
