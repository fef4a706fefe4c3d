"""What arrives on a bus -> a value of the type that a rule expects, or unknown.

A recording writes booleans as 0 and 1 and a bus as numbers; both are understood. What cannot be understood (text
where a number is needed, 0.5 where true or false is needed, NaN) is unknown, and counted by the reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from runtime.messages import SignalReader
from triggers.language.types import Type, Value

Converter: TypeAlias = Callable[[object], Value]

_LARGEST = 1.7976931348623157e308


def to_number(value: object) -> Value:
    """A finite float, or None."""
    if isinstance(value, str):
        return None
    number = float(value)  # type: ignore[arg-type]  # bool, int, NumPy scalars
    return number if -_LARGEST <= number <= _LARGEST else None


def to_boolean(value: object) -> Value:
    """True or False; also from 1 and 0."""
    if isinstance(value, bool):
        return value
    return bool(value) if not isinstance(value, str) and value in (0, 1) else None


def to_text(value: object) -> Value:
    """Text, or None."""
    return value if isinstance(value, str) else None


def to_any(value: object) -> Value:
    """Whatever it is, as one of the language's types."""
    return value if isinstance(value, (bool, str)) else to_number(value)


CONVERTERS: Mapping[Type, Converter] = {
    Type.NUMBER: to_number,
    Type.BOOLEAN: to_boolean,
    Type.TEXT: to_text,
    Type.ANY: to_any,
}


class Reading(NamedTuple):
    """A signal that is read on every tick."""

    out: int
    name: str
    convert: Converter


def read_signals(
    slots: list[Any], readings: Iterable[Reading], signals: SignalReader, not_understood: Counter[str]
) -> None:
    """Read the signals of this tick; counts those that are not understood."""
    value_of = signals.value
    for out, name, convert in readings:
        raw = value_of(name)
        if raw is None:
            slots[out] = None
            continue
        value = slots[out] = convert(raw)
        if value is None:
            not_understood[name] += 1
