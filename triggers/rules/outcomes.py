"""What an expression can be, as a set of outcomes, and how operators carry such sets upwards.

The outcomes of a condition are `true` and `false`, that of a number or text is `value`; an empty set is always
unknown. Only what is certain is used: a set may hold outcomes that never come, and never lacks one that can. A window
or an edge over a condition that is never true (or never false) is as certain as the condition itself: `rising(c)`
needs both.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TypeAlias

from triggers.language.expressions import Expression
from triggers.language.types import Type

Outcomes: TypeAlias = frozenset[str]

NEVER: Outcomes = frozenset()
TRUE: Outcomes = frozenset({"true"})
FALSE: Outcomes = frozenset({"false"})
EITHER: Outcomes = TRUE | FALSE
VALUE: Outcomes = frozenset({"value"})


def any_outcome(node: Expression) -> Outcomes:
    """Whatever a node of that type can be."""
    return EITHER if node.type is Type.BOOLEAN else VALUE | EITHER if node.type is Type.ANY else VALUE


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


def _edge(operand: Outcomes) -> Outcomes:
    """rising, falling, changed: only what can be two things can go from one to the other."""
    return EITHER if operand - TRUE and operand - FALSE else FALSE if operand else NEVER


def _since(operand: Outcomes) -> Outcomes:
    return VALUE if "true" in operand else NEVER


#: Operators whose outcomes follow from those of their operands.
CARRIED: Mapping[str, Callable[..., Outcomes]] = {
    "and": _and,
    "or": _or,
    "not": _not,
    "if": _if,
    "known": _known,
    "is_true": _is_true,
    "any_within": _same,
    "all_within": _same,
    "lag": _same,
    "rising": _edge,
    "falling": _edge,
    "changed": _edge,
    "since_s": _since,
}

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

#: Operators that give a number which can only be one thing unchanged.
_KEEPING = frozenset({"lag", "min_within", "max_within", "mean_within"})
_COUNTING = frozenset({"count_within", "flips"})


def exact_number(name: str, operand: Outcomes, exact: float | None) -> float | None:
    """What an operator over one operand can only be, if there is one such number; `exact`: that of the operand."""
    if name in _COUNTING and _edge(operand) == FALSE:
        return 0.0
    return exact if name in _KEEPING else None
