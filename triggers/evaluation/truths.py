"""What is true of each item of a tick, all of them in one whole number: a byte for each item.

A byte is `FALSE` (0), `UNKNOWN` (1) or `TRUE` (3): its low bit says that it may be true, the next one that it is. So
Kleene's `and` and `or` of all items are the number's own `&` and `|`, which costs a tenth of the smallest call of NumPy
over a few dozen items; a condition asks for hundreds of them. `ones` is the number with 1 in the byte of every item
(`ItemTable.ones`): times a byte it is that value for all items.

Numbers are made of arrays (`truth_of`, from bytes 0, 1 or 3) and can be read as arrays again (`rows_of`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FALSE, UNKNOWN, TRUE = 0, 1, 3
#: Kleene's `not` of each byte.
NEGATED = np.array([TRUE, UNKNOWN, FALSE, FALSE], np.int8)
#: A byte for each item, the first item's lowest.
Truth: TypeAlias = int


@cache
def ones_of(items: int) -> Truth:
    """1 in the byte of every item; bounded by the capacity of a table."""
    return int.from_bytes(b"\1" * items, "little")


def truth_of(rows: NDArray[Any]) -> Truth:
    """Of an array of bytes `FALSE`, `UNKNOWN` or `TRUE`, or of a mask (then 0 or 1)."""
    return int.from_bytes(rows.tobytes(), "little")


def rows_of(truth: Truth, items: int) -> NDArray[np.int8]:
    """The bytes as an array, which cannot be written to."""
    return np.frombuffer(truth.to_bytes(items, "little"), np.int8)


def unknown_of(truth: Truth, ones: Truth) -> Truth:
    """1 where it is unknown."""
    return (truth ^ truth >> 1) & ones


def true_of(truth: Truth, ones: Truth) -> Truth:
    """1 where it is true."""
    return truth >> 1 & ones


def compared(holds: Truth, unknown: Truth) -> Truth:
    """Of where something holds (1) and where it is unknown whether it does (1)."""
    return (holds & ~unknown) * TRUE | unknown if unknown else holds * TRUE


def negated(truth: Truth, ones: Truth) -> Truth:
    """Kleene's `not`: both bits the other way round, and swapped."""
    flipped = truth ^ ones * TRUE
    return flipped >> 1 & ones | (flipped & ones) << 1


def equal(left: Truth, right: Truth, ones: Truth) -> Truth:
    """Whether both are the same; unknown where one of them is."""
    unknown = unknown_of(left, ones) | unknown_of(right, ones)
    return compared((left ^ right) & ones ^ ones, unknown)


def chosen(condition: Truth, then: Truth, otherwise: Truth, ones: Truth) -> Truth:
    """`then if condition else otherwise`; unknown where the condition is."""
    is_then = true_of(condition, ones) * TRUE
    unknown = unknown_of(condition, ones)
    found = then & is_then | otherwise & ~is_then
    return found & ~(unknown * TRUE) | unknown if unknown else found
