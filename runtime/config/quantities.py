"""Sizes and durations as people write them: `500MB`, `512MiB`, `20GB`; `0.5`, `90s`, `15min`, `2h`, `30d`.

Bytes become an int (MB is 10^6, MiB is 2^20), durations a float of seconds. A plain number is bytes or seconds,
except where days are usual (`MarkedSeconds`).
Nothing is guessed: a unit that is not in the tables is refused, and so are negative and non-finite amounts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from runtime.formats.documents import Mistake

BYTES_BY_UNIT: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
SECONDS_BY_UNIT: Mapping[str, float] = {
    "ms": 0.001,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)?\s*")


def parse_bytes(value: object) -> int:
    """A number of bytes from `500MB`, `1.5GiB` or a whole number.

    Raises:
        Mistake: not a size; the text names the units.
    """
    amount, unit = _split(value, "a size", "500MB, 512MiB or 20GB")
    factor = _factor(unit or "B", BYTES_BY_UNIT, "size")
    total = amount * factor
    if not math.isclose(total, round(total), abs_tol=1e-6):
        raise Mistake(f"is {total:g} bytes, which is not a whole number", "write whole bytes, such as 500MB")
    return round(total)


def parse_duration_s(value: object) -> float:
    """A duration in seconds from `0.5`, `90s`, `15min`, `2h` or `30d`.

    Raises:
        Mistake: not a duration; the text names the units.
    """
    amount, unit = _split(value, "a duration", "0.5 (seconds), 90s, 15min or 2h")
    return amount * _factor(unit or "s", SECONDS_BY_UNIT, "duration")


def parse_marked_duration_s(value: object) -> float:
    """A duration that has to name its unit: where days are meant, a bare 90 must not be seconds.

    Raises:
        Mistake: not a duration, or one without a unit.
    """
    duration_s = parse_duration_s(value)
    _, unit = _split(value, "a duration", "90d, 12h or 30min")
    if unit is None:
        bare = str(value).strip()
        raise Mistake(f"is {bare} of an unknown unit", f"write {bare}d for days, or {bare}h for hours")
    return duration_s


def _split(value: object, what: str, examples: str) -> tuple[float, str | None]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise Mistake(f"is not {what}", f"write {examples}")
        return value, None
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Mistake(f"is not {what}", f"write {examples}")
    return float(match.group(1)), match.group(2)


def _factor(unit: str, factors: Mapping[str, float], what: str) -> float:
    factor = factors.get(unit)
    if factor is None:
        raise Mistake(f"{unit!r} is not a unit of {what}", f"use one of {', '.join(factors)}")
    return factor


def _positive(parse: Any) -> Any:
    def check(value: object) -> float:
        amount: float = parse(value)
        if amount <= 0:
            raise Mistake("must be greater than 0")
        return amount

    return check


ByteCount = Annotated[int, BeforeValidator(_positive(parse_bytes))]
Seconds = Annotated[float, BeforeValidator(_positive(parse_duration_s))]
MarkedSeconds = Annotated[float, BeforeValidator(_positive(parse_marked_duration_s))]
SecondsOrZero = Annotated[float, BeforeValidator(parse_duration_s)]
