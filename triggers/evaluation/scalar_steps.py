"""One closure per operator: reads operand slots, writes its own. Unknown is None (Kleene's strong logic).

`false and unknown` is false, `true or unknown` is true; everything else that touches an unknown is unknown. A
number that is not finite is unknown too: division by zero, overflow.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from triggers.language.zones import Zone

Step: TypeAlias = Callable[[], None]
#: The values of all nodes, by index; rewritten every tick.
Slots: TypeAlias = list[Any]
StepMaker: TypeAlias = Callable[[Slots, int, tuple[int, ...]], Step]

_LARGEST = 1.7976931348623157e308


def _arithmetic(apply: Callable[[float, float], float]) -> StepMaker:
    def make(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
        left_slot, right_slot = operands

        def step() -> None:
            left, right = slots[left_slot], slots[right_slot]
            if left is None or right is None:
                slots[out] = None
                return
            value = apply(left, right)
            slots[out] = value if -_LARGEST <= value <= _LARGEST else None

        return step

    return make


def _partial_arithmetic(apply: Callable[[float, float], float]) -> StepMaker:
    """For operators that have no result for some numbers (x / 0, (-1) ** 0.5)."""

    def safely(left: float, right: float) -> float:
        try:
            value = apply(left, right)
        except (ZeroDivisionError, OverflowError):
            return float("nan")
        return value if isinstance(value, float) else float("nan")

    return _arithmetic(safely)


def _comparison(apply: Callable[[Any, Any], bool]) -> StepMaker:
    def make(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
        left_slot, right_slot = operands

        def step() -> None:
            left, right = slots[left_slot], slots[right_slot]
            slots[out] = None if left is None or right is None else apply(left, right)

        return step

    return make


def _unary(apply: Callable[[Any], Any]) -> StepMaker:
    def make(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
        (operand_slot,) = operands

        def step() -> None:
            operand = slots[operand_slot]
            slots[out] = None if operand is None else apply(operand)

        return step

    return make


def _and(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    left_slot, right_slot = operands

    def step() -> None:
        left, right = slots[left_slot], slots[right_slot]
        if left is False or right is False:
            slots[out] = False
        else:
            slots[out] = None if left is None or right is None else True

    return step


def _or(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    left_slot, right_slot = operands

    def step() -> None:
        left, right = slots[left_slot], slots[right_slot]
        if left is True or right is True:
            slots[out] = True
        else:
            slots[out] = None if left is None or right is None else False

    return step


def _if(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    condition_slot, then_slot, otherwise_slot = operands

    def step() -> None:
        condition = slots[condition_slot]
        slots[out] = None if condition is None else slots[then_slot if condition else otherwise_slot]

    return step


def _known(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    (operand_slot,) = operands

    def step() -> None:
        slots[out] = slots[operand_slot] is not None

    return step


def _is_true(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
    (operand_slot,) = operands

    def step() -> None:
        slots[out] = slots[operand_slot] is True

    return step


def _variadic(apply: Callable[[Any], float]) -> StepMaker:
    def make(slots: Slots, out: int, operands: tuple[int, ...]) -> Step:
        def step() -> None:
            values = [slots[operand] for operand in operands]
            slots[out] = None if None in values else apply(values)

        return step

    return make


def membership_step(slots: Slots, out: int, operand_slot: int, choices: frozenset[object]) -> Step:
    """`operand in choices`."""

    def step() -> None:
        operand = slots[operand_slot]
        slots[out] = None if operand is None else operand in choices

    return step


def inside_step(slots: Slots, out: int, operands: tuple[int, ...], zone: Zone) -> Step:
    """`inside("zone")` at a latitude and longitude; while they stay the same nothing is computed."""
    latitude_slot, longitude_slot = operands
    last: tuple[float | None, float | None] = (None, None)
    is_inside: bool | None = None

    def step() -> None:
        nonlocal last, is_inside
        latitude_deg, longitude_deg = here = slots[latitude_slot], slots[longitude_slot]
        if here != last:
            is_known = latitude_deg is not None and longitude_deg is not None
            is_inside = zone.contains(latitude_deg, longitude_deg) if is_known else None
            last = here
        slots[out] = is_inside

    return step


def sign(value: float) -> float:
    """-1, 0 or 1."""
    return float((value > 0) - (value < 0))


SCALAR_STEPS: Mapping[str, StepMaker] = {
    "+": _arithmetic(operator.add),
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _partial_arithmetic(operator.truediv),
    "//": _partial_arithmetic(operator.floordiv),
    "%": _partial_arithmetic(operator.mod),
    "**": _partial_arithmetic(operator.pow),
    "<": _comparison(operator.lt),
    "<=": _comparison(operator.le),
    ">": _comparison(operator.gt),
    ">=": _comparison(operator.ge),
    "==": _comparison(operator.eq),
    "!=": _comparison(operator.ne),
    "negate": _unary(operator.neg),
    "not": _unary(operator.not_),
    "abs": _unary(abs),
    "sign": _unary(sign),
    "min": _variadic(min),
    "max": _variadic(max),
    "and": _and,
    "or": _or,
    "if": _if,
    "known": _known,
    "is_true": _is_true,
}
