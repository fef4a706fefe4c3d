"""Where the vehicle was while a clip was recorded, and whether that is known at every instant of it.

A fix is a latitude and a longitude of about the same time. It holds until the next one, for `timeout_s` at most, and
ends when either signal becomes unknown. Between two fixes the vehicle is taken to have driven in a straight line, so a
zone that lies between them counts. (0, 0) is what many receivers say for "no fix", and is taken for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from runtime.messages import NANOSECONDS_PER_SECOND, SignalSample
from triggers.language.zones import distance_m

NAMESPACE = "vehicle"
LATITUDE, LONGITUDE = "vehicle.latitude_deg", "vehicle.longitude_deg"
#: Points put between two fixes are at most so far apart, and at most so many.
STEP_M = 5.0
MAX_STEPS = 2000
_NOWHERE_DEG = 1e-6

#: By signal: when it was said, in degrees.
_Known: TypeAlias = dict[str, tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Fix:
    """A position and how long it held."""

    time_ns: int
    until_ns: int
    latitude_deg: float
    longitude_deg: float


def fixes_of(samples: Iterable[SignalSample | tuple[str, int]], timeout_s: float) -> list[Fix]:
    """Fixes from samples in order of time; `(name, time_ns)` says that a signal became unknown then."""
    timeout_ns = round(timeout_s * NANOSECONDS_PER_SECOND)
    events: list[tuple[int, tuple[float, float] | None]] = []
    for time_ns, known, _ in _changes(samples):
        position = _position(known, time_ns, timeout_ns)
        if events and events[-1][0] == time_ns:
            events.pop()  # the second half of the same fix
        events.append((time_ns, position))
    return _held(events, timeout_ns)


def first_loss_ns(samples: Iterable[SignalSample | tuple[str, int]]) -> int | None:
    """When the place was first said to be unknown; None: never. Two signals that arrive one by one are no loss."""
    return next((time_ns for time_ns, known, is_lost in _changes(samples) if is_lost or _is_nowhere(known)), None)


def of_places(samples: Iterable[SignalSample | tuple[str, int]]) -> Iterator[SignalSample | tuple[str, int]]:
    """Those that tell the place: few of the many of a vehicle."""
    for sample in samples:
        if (sample.name if isinstance(sample, SignalSample) else sample[0]) in (LATITUDE, LONGITUDE):
            yield sample


def _changes(samples: Iterable[SignalSample | tuple[str, int]]) -> Iterator[tuple[int, _Known, bool]]:
    """At each sample of a place: its time, what is known then, and whether this sample took something away."""
    known: _Known = {}
    for sample in of_places(samples):
        name, time_ns = (sample.name, sample.time_ns) if isinstance(sample, SignalSample) else sample
        value = sample.value if isinstance(sample, SignalSample) else None
        value_deg = _degrees(value, 90.0 if name == LATITUDE else 180.0)
        if value_deg is None:
            known.pop(name, None)
        else:
            known[name] = (time_ns, value_deg)
        yield time_ns, known, value_deg is None


def _degrees(value: object, limit_deg: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value) if abs(value) <= limit_deg else None


def _is_nowhere(known: _Known) -> bool:
    return len(known) == 2 and all(abs(value_deg) < _NOWHERE_DEG for _, value_deg in known.values())


def _position(known: _Known, now_ns: int, timeout_ns: int) -> tuple[float, float] | None:
    if len(known) < 2 or any(now_ns - time_ns > timeout_ns for time_ns, _ in known.values()):
        return None
    return None if _is_nowhere(known) else (known[LATITUDE][1], known[LONGITUDE][1])


def _held(events: Sequence[tuple[int, tuple[float, float] | None]], timeout_ns: int) -> list[Fix]:
    fixes = []
    for index, (time_ns, position) in enumerate(events):
        following_ns = events[index + 1][0] if index + 1 < len(events) else time_ns + timeout_ns
        if position is not None:
            fixes.append(Fix(time_ns, min(following_ns, time_ns + timeout_ns), *position))
    return fixes


def from_the_start(fixes: Sequence[Fix], start_ns: int, timeout_s: float, lost_ns: int | None = None) -> list[Fix]:
    """The fixes of a sealed clip that begins at `start_ns`: the first one holds back to there, for `timeout_s` at most.

    Its last fix before that instant is not in it, and one fix tells as much of the time before it as of that behind.
    Not where the place was said to be unknown in between (`lost_ns`, the first time that it was): what was true before
    that is not known then.
    """
    reach_ns = round(timeout_s * NANOSECONDS_PER_SECOND)
    if not fixes or not start_ns < fixes[0].time_ns <= start_ns + reach_ns:
        return list(fixes)
    if lost_ns is not None and lost_ns <= fixes[0].time_ns:
        return list(fixes)
    return [replace(fixes[0], time_ns=start_ns), *fixes[1:]]


def unknown_times(fixes: Sequence[Fix], start_ns: int, end_ns: int) -> Iterator[tuple[int, int]]:
    """From when until when no fix holds, within start..end; nothing: the place is known throughout."""
    known_until_ns = start_ns
    for fix in fixes:
        if fix.time_ns > known_until_ns:
            yield known_until_ns, min(fix.time_ns, end_ns)
        known_until_ns = max(known_until_ns, fix.until_ns)
        if known_until_ns >= end_ns > start_ns or fix.until_ns >= end_ns:
            return
    yield known_until_ns, end_ns


def first_unknown_ns(fixes: Sequence[Fix], start_ns: int, end_ns: int) -> int | None:
    """The first instant of start..end at which no fix holds; None: it is known throughout."""
    return next((from_ns for from_ns, _ in unknown_times(fixes, start_ns, end_ns)), None)


def during(fixes: Sequence[Fix], start_ns: int, end_ns: int) -> Sequence[Fix]:
    """The fixes that tell the way from start to end: with the one before and the one behind, where there are any."""
    first = max((index for index, fix in enumerate(fixes) if fix.time_ns <= start_ns), default=0)
    last = min((index for index, fix in enumerate(fixes) if fix.time_ns >= end_ns), default=len(fixes) - 1)
    return fixes[first : last + 1]


def way_through(fixes: Sequence[Fix]) -> Iterator[tuple[float, float]]:
    """Latitudes and longitudes along the way, at most `STEP_M` apart as long as `MAX_STEPS` reach."""
    if fixes:
        yield fixes[0].latitude_deg, fixes[0].longitude_deg
    for before, after in pairwise(fixes):
        east_deg = (after.longitude_deg - before.longitude_deg + 180.0) % 360.0 - 180.0
        north_deg = after.latitude_deg - before.latitude_deg
        way_m = distance_m(before.latitude_deg, before.longitude_deg, after.latitude_deg, after.longitude_deg)
        steps = min(max(1, math.ceil(way_m / STEP_M)), MAX_STEPS)
        for step in range(1, steps + 1):
            share = step / steps
            longitude_deg = before.longitude_deg + share * east_deg
            yield before.latitude_deg + share * north_deg, (longitude_deg + 180.0) % 360.0 - 180.0
