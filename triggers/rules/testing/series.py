"""A value over the time of a test, as a person writes it.

    20.0                            the same at all times
    {0: 20.0, 2: null, 3: 8.0}      a value holds from its time until the next one; null, and before the first: unknown
    {ramp: {0: 20.0, 4: 8.0}}       goes evenly from one time to the next, and holds after the last

Ramps are for numbers and boxes. Times are seconds from the start of the test, never negative.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, cast

from pydantic import PlainValidator

from runtime.formats.documents import Mistake
from runtime.messages import SignalValue

T = TypeVar("T")
Box: TypeAlias = tuple[float, float, float, float]

RAMP = "ramp"


@dataclass(frozen=True, slots=True)
class Series(Generic[T]):
    """Times (ascending) and the value from each on; None is unknown."""

    times_s: tuple[float, ...]
    values: tuple[T | None, ...]
    is_ramp: bool = False

    @staticmethod
    def always(value: T | None) -> Series[T]:
        """One value at all times."""
        return Series((0.0,), (value,))

    def at(self, now_s: float) -> T | None:
        """The value at a time; None while unknown."""
        index = bisect_right(self.times_s, now_s) - 1
        if index < 0:
            return None
        if not self.is_ramp or index + 1 == len(self.times_s):
            return self.values[index]
        start_s, end_s = self.times_s[index], self.times_s[index + 1]
        share = (now_s - start_s) / (end_s - start_s)
        return cast("T", _between(self.values[index], self.values[index + 1], share))

    def steps_between(self, after_s: float, until_s: float) -> Sequence[tuple[float, T]]:
        """What begins to hold after one time and until another, oldest first; of a ramp, its value at the latter."""
        if self.is_ramp:
            value = self.at(until_s)
            return () if value is None else ((until_s, value),)
        pairs = zip(self.times_s, self.values, strict=True)
        return [(at_s, value) for at_s, value in pairs if after_s < at_s <= until_s and value is not None]


def _between(start: Any, end: Any, share: float) -> Any:
    if isinstance(start, tuple):
        return tuple(_between(left, right, share) for left, right in zip(start, end, strict=True))
    return start + (end - start) * share


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Mistake("must be a number", "write a number, or null where it is unknown")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Mistake("must be text", "write text (numbers and true/false in quotes)")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise Mistake("must be true or false", "write true or false, or null where it is unknown")
    return value


def _box(value: object) -> Box:
    if not isinstance(value, list) or len(value) != 4:
        raise Mistake("must be a box", "write [left, top, right, bottom] in pixels")
    left, top, right, bottom = map(_number, value)
    if left >= right or top >= bottom:
        raise Mistake("must be a box with a width and a height", "write [left, top, right, bottom] in pixels")
    return left, top, right, bottom


def _any(value: object) -> SignalValue:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    raise Mistake("must be a number, text, true or false", "write such a value, or null where it is unknown")


def _reader(read: Callable[[object], T], can_ramp: bool) -> Callable[[object], Series[T]]:
    """A pydantic validator that reads a value, steps or a ramp."""

    def parse(written: object) -> Series[T]:
        if not isinstance(written, Mapping):
            return Series.always(None if written is None else read(written))
        if RAMP not in written:
            return _steps(written, read, ())
        if not can_ramp or len(written) > 1:
            raise Mistake("can have no ramp here", "write {time_s: value}, where values are numbers or boxes a 'ramp'")
        if not isinstance(written[RAMP], Mapping):
            raise Mistake("must be a mapping", "write {ramp: {0: 20.0, 4: 8.0}}", at=(RAMP,))
        series = _steps(written[RAMP], read, (RAMP,))
        if None in series.values:
            raise Mistake("cannot go to unknown", "write a value at every time of a ramp", at=(RAMP,))
        return Series(series.times_s, series.values, is_ramp=True)

    return parse


def _steps(written: Mapping[Any, object], read: Callable[[object], T], at: tuple[str, ...]) -> Series[T]:
    if not written:
        raise Mistake("has no times", "write {0: value}", at=at)
    values: dict[float, T | None] = {}
    for key, value in written.items():
        try:
            values[_time_s(key)] = None if value is None else read(value)
        except Mistake as mistake:
            raise Mistake(str(mistake), mistake.fix, at=(*at, str(key), *mistake.at)) from mistake
    times_s = sorted(values)
    return Series(tuple(times_s), tuple(values[time_s] for time_s in times_s))


def _time_s(key: object) -> float:
    try:
        time_s = float(str(key))
    except ValueError:
        time_s = math.nan
    if not 0 <= time_s < math.inf:
        raise Mistake("has a key that is not a time", "write seconds from the test's start, such as {0: …, 2.5: …}")
    return time_s


NumberSeries = Annotated[Series[float], PlainValidator(_reader(_number, can_ramp=True))]
TextSeries = Annotated[Series[str], PlainValidator(_reader(_text, can_ramp=False))]
TruthSeries = Annotated[Series[bool], PlainValidator(_reader(_truth, can_ramp=False))]
BoxSeries = Annotated[Series[Box], PlainValidator(_reader(_box, can_ramp=True))]
SignalSeries = Annotated[Series[SignalValue], PlainValidator(_reader(_any, can_ramp=True))]
