"""What each operator and plain function does to values, unknown included (Kleene's strong three-valued logic).

An operator with an unknown operand is unknown, except where the known ones decide: `false and unknown` is false,
`true or unknown` is true. Arithmetic that has no finite result (division by zero, overflow) is unknown.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

from triggers.language.types import Value

Operator = Callable[..., Value]


def _and(left: Value, right: Value) -> Value:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _or(left: Value, right: Value) -> Value:
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def _not(operand: Value) -> Value:
    return None if operand is None else not operand


def _conditional(condition: Value, then: Value, otherwise: Value) -> Value:
    return None if condition is None else then if condition else otherwise


def _strict(function: Callable[..., Value]) -> Operator:
    """Unknown as soon as one operand is."""

    def apply(*operands: Value) -> Value:
        return None if None in operands else function(*operands)

    return apply


def _arithmetic(function: Callable[..., float]) -> Operator:
    def apply(*operands: Value) -> Value:
        if None in operands:
            return None
        try:
            result = function(*operands)
        except (ZeroDivisionError, OverflowError, ValueError):
            return None
        return float(result) if isinstance(result, (int, float)) and math.isfinite(result) else None

    return apply


def _sign(operand: float) -> float:
    return float((operand > 0) - (operand < 0))


OPERATORS: Mapping[str, Operator] = {
    "and": _and,
    "or": _or,
    "not": _not,
    "if": _conditional,
    "negate": _arithmetic(operator.neg),
    "+": _arithmetic(operator.add),
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _arithmetic(operator.truediv),
    "//": _arithmetic(operator.floordiv),
    "%": _arithmetic(operator.mod),
    "**": _arithmetic(operator.pow),
    "<": _strict(operator.lt),
    "<=": _strict(operator.le),
    ">": _strict(operator.gt),
    ">=": _strict(operator.ge),
    "==": _strict(operator.eq),
    "!=": _strict(operator.ne),
    "abs": _arithmetic(abs),
    "sign": _arithmetic(_sign),
    "min": _strict(min),
    "max": _strict(max),
    "known": lambda operand: operand is not None,
    "is_true": lambda operand: operand is True,
}
