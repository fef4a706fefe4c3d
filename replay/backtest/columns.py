"""Columns of values that may be unknown: packed into bytes for a file, and unpacked into lists again, exactly.

A column is `[kind, data, texts?]`, ready for msgpack. Kinds: `n` numbers (float64), `i` integers (int64), `b` truth
(int8), `t` text (int32 codes into `texts`), `o` nothing but unknowns (the count). Unknown (None) is NaN, the smallest
int64, -1 and -1. A number that is NaN comes back as None: both are unknown to rules. Integers among numbers come back
as numbers, which is what rules take them for. Columns that mix other kinds are kept value by value (`m`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN_INTEGER = -(2**63)
LARGEST_INTEGER = 2**63 - 1

Packed = list[Any]


class ColumnError(ValueError):
    """A packed column is not what it should be: the file is damaged or of another version."""


def pack(values: Sequence[Any]) -> Packed:
    """Pack a column. Values are None, bool, int, float (of NumPy as well) or text."""
    kinds = {_kind(value) for value in values if value is not None}
    if not kinds:
        return ["o", len(values)]
    if kinds == {"b"}:
        return ["b", np.array([-1 if value is None else value for value in values], np.int8).tobytes()]
    if kinds == {"i"}:
        return ["i", np.array([UNKNOWN_INTEGER if value is None else value for value in values], np.int64).tobytes()]
    if kinds <= {"n", "i"}:
        return ["n", np.array(values, np.float64).tobytes()]  # None becomes NaN
    if kinds == {"t"}:
        return _pack_texts(values)
    return ["m", [value.item() if isinstance(value, np.generic) else value for value in values]]


def _kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "b"
    if isinstance(value, str):
        return "t"
    return "i" if isinstance(value, (int, np.integer)) and abs(value) <= LARGEST_INTEGER else "n"


def _pack_texts(values: Sequence[str | None]) -> Packed:
    codes: dict[str, int] = {}
    numbers = [-1 if value is None else codes.setdefault(value, len(codes)) for value in values]
    return ["t", np.array(numbers, np.int32).tobytes(), list(codes)]


def unpack(packed: Packed) -> list[Any]:
    """The values of a packed column. Raises ColumnError."""
    try:
        kind, data = packed[0], packed[1]
        if kind == "o":
            return [None] * data
        if kind == "m":
            return list(data)
        if kind == "t":
            texts = [*packed[2], None]  # code -1 is the last
            return [texts[code] for code in np.frombuffer(data, np.int32).tolist()]
        return _unpack_array(kind, data)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ColumnError(f"a column is damaged ({type(error).__name__}: {error})") from error


_ARRAYS: dict[str, tuple[Any, Any]] = {"n": (np.float64, None), "i": (np.int64, UNKNOWN_INTEGER), "b": (np.int8, -1)}


def _unpack_array(kind: str, data: bytes) -> list[Any]:
    dtype, _ = _ARRAYS[kind]
    array = np.frombuffer(data, dtype)
    unknown = _unknown_rows(kind, array)
    values: list[Any] = array.astype(np.bool_).tolist() if kind == "b" else array.tolist()
    for row in unknown.tolist():
        values[row] = None
    return values


def _unknown_rows(kind: str, array: NDArray[Any]) -> NDArray[np.intp]:
    if kind == "n":
        return np.flatnonzero(np.isnan(array))
    return np.flatnonzero(array == _ARRAYS[kind][1])
