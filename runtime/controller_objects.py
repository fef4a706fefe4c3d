"""The active controller's own object list, for controllers that publish one: the text signal `controller.objects`.

A value is a JSON list, one entry for each object; an empty list says that it sees nothing:

    [{"id": 7, "class_name": "car", "distance_m": 31.5, "lateral_m": -0.4, "speed_mps": 22.1}, ...]

| key | value |
|---|---|
| `id` | whole number, the same for as long as it follows the object; unique in the list (required) |
| `class_name` | text of 1 to 64 characters (required) |
| `score` | 0 to 1 |
| `age_s` | how long it has followed the object; else counted from its first sample here |
| `distance_m` | straight line to it, 0 or more |
| `lateral_m` | to the left of the car's axis is positive |
| `speed_mps` | over ground |
| `closing_speed_mps` | how fast the distance shrinks; else the mean slope of `distance_m` over up to 0.5 s |
| `bearing_deg` | 0 ahead, left positive, -180 to 180; else from distance and lateral, for an object ahead |
| `lane` | "ego", "left", "right", "other"; else from distance, lateral and the path that is driven |

Keys that are not in the table are ignored; null is the same as leaving a key out. Each new sample is read once. A list
that is not like this (too long, not JSON, a wrong type, two objects with one id) is counted by reason, nothing is taken
from it, and the population is unknown until a good one comes. So it is after silence beyond the signal's timeout.

It is an ordinary signal: recorded as it came and read again in a replay. Derived values start anew with the recording.
"""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.inference.ground import lane_of
from runtime.messages import NANOSECONDS_PER_SECOND, ControllerObject, SignalReader
from runtime.shadow.comparison import driven_curvature_1pm

SIGNAL = "controller.objects"
MAX_TEXT_LENGTH = 65_536
MAX_OBJECTS = 256
MAX_CLASS_NAME_LENGTH = 64
MAX_ID = 2**53
LANES = frozenset({"ego", "left", "right", "other"})
#: A closing speed is the slope over so long; a shorter stretch would only tell the sensor's noise.
SLOPE_S = 0.5
MIN_SLOPE_S = 0.15
_SLOPE_SAMPLES = 32

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "score": (0.0, 1.0),
    "age_s": (0.0, 1e6),
    "distance_m": (0.0, 1e5),
    "lateral_m": (-1e5, 1e5),
    "speed_mps": (-1e4, 1e4),
    "closing_speed_mps": (-1e4, 1e4),
    "bearing_deg": (-180.0, 180.0),
}


class ObjectListError(ValueError):
    """A sample is no object list; the text is the reason that it is counted under, the same for all of one kind."""


@dataclass(slots=True)
class _Followed:
    """What is kept of one object from sample to sample."""

    first_seen_ns: int
    distances: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_SLOPE_SAMPLES))


class ControllerObjects:
    """Reads the list once for every new sample. Owned by the tick's thread."""

    def __init__(self) -> None:
        self.malformed: Counter[str] = Counter()  # lists that could not be used, by reason
        self._objects: list[ControllerObject] | None = None
        self._followed: dict[int, _Followed] = {}

    def at(self, signals: SignalReader, time_ns: int) -> Sequence[ControllerObject] | None:
        """The objects as they stand at `time_ns`; None when there is no list, or none that can be read."""
        for sample in signals.samples(SIGNAL):
            self._take(sample.value, sample.time_ns, driven_curvature_1pm(signals))
        if signals.value(SIGNAL) is None:
            self._forget()
        return self._objects

    def _forget(self) -> None:
        self._objects, self._followed = None, {}

    def _take(self, value: object, time_ns: int, curvature_1pm: float | None) -> None:
        try:
            entries = parse_objects(value)
        except ObjectListError as error:
            self.malformed[str(error)] += 1
            self._forget()
            return
        known, self._followed = self._followed, {}
        self._objects = [self._object(entry, known, time_ns, curvature_1pm) for entry in entries]

    def _object(
        self, entry: Mapping[str, Any], known: Mapping[int, _Followed], time_ns: int, curvature_1pm: float | None
    ) -> ControllerObject:
        number, age_s = entry["id"], entry.get("age_s")
        followed = self._followed[number] = known.get(number) or _Followed(time_ns)
        if age_s is not None:
            followed.first_seen_ns = time_ns - round(age_s * NANOSECONDS_PER_SECOND)
        distance_m, lateral_m = entry.get("distance_m"), entry.get("lateral_m")
        made = ControllerObject(
            object_id=number,
            class_name=entry["class_name"],
            score=entry.get("score"),
            first_seen_ns=followed.first_seen_ns,
            distance_m=distance_m,
            lateral_m=lateral_m,
            speed_mps=entry.get("speed_mps"),
            closing_speed_mps=entry.get("closing_speed_mps"),
            bearing_deg=entry.get("bearing_deg"),
            lane=entry.get("lane"),
        )
        if made.closing_speed_mps is None:
            made.closing_speed_mps = _closing_speed_mps(followed, distance_m, time_ns)
        _add_place(made, curvature_1pm)
        return made


def parse_objects(value: object) -> list[dict[str, Any]]:
    """The entries of a list, with the table's keys only; unknown values are left out.

    Raises:
        ObjectListError: see the head of this module.
    """
    if not isinstance(value, str):
        raise ObjectListError("it is not text")
    if len(value) > MAX_TEXT_LENGTH:
        raise ObjectListError(f"it has more than {MAX_TEXT_LENGTH} characters")
    try:
        listed = json.loads(value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ObjectListError("it is not JSON") from error
    if not isinstance(listed, list):
        raise ObjectListError("it is not a list")
    if len(listed) > MAX_OBJECTS:
        raise ObjectListError(f"it has more than {MAX_OBJECTS} objects")
    entries = [_entry(entry) for entry in listed]
    if len({entry["id"] for entry in entries}) < len(entries):
        raise ObjectListError("two objects have one id")
    return entries


def _refuse_constant(word: str) -> None:
    raise ValueError(word)


def _entry(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ObjectListError("an object is not a mapping")
    number, class_name, lane = entry.get("id"), entry.get("class_name"), entry.get("lane")
    if type(number) is not int or not 0 <= number <= MAX_ID:
        raise ObjectListError("id is missing or not a whole number")
    if not isinstance(class_name, str) or not 0 < len(class_name) <= MAX_CLASS_NAME_LENGTH:
        raise ObjectListError("class_name is missing or not a short text")
    if lane is not None and lane not in LANES:
        raise ObjectListError("lane is not ego, left, right or other")
    numbers = {name: _number(name, entry[name]) for name in _BOUNDS if entry.get(name) is not None}
    return {"id": number, "class_name": class_name, **({} if lane is None else {"lane": lane}), **numbers}


def _number(name: str, value: object) -> float:
    low, high = _BOUNDS[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ObjectListError(f"{name} is not a number from {low:g} to {high:g}")
    return float(value)


def _closing_speed_mps(followed: _Followed, distance_m: float | None, time_ns: int) -> float | None:
    """From the oldest distance of the last `SLOPE_S` until now."""
    distances = followed.distances
    if distance_m is None:
        distances.clear()
        return None
    while distances and time_ns - distances[0][0] > SLOPE_S * NANOSECONDS_PER_SECOND:
        distances.popleft()
    distances.append((time_ns, distance_m))
    then_ns, then_m = distances[0]
    elapsed_s = (time_ns - then_ns) / NANOSECONDS_PER_SECOND
    return None if elapsed_s < MIN_SLOPE_S else (then_m - distance_m) / elapsed_s


def _add_place(made: ControllerObject, curvature_1pm: float | None) -> None:
    """Bearing and lane from distance and lateral offset, where the list does not give them."""
    if made.distance_m is None or made.lateral_m is None or abs(made.lateral_m) > made.distance_m:
        return
    if made.bearing_deg is None:
        made.bearing_deg = 0.0 if made.distance_m == 0.0 else math.degrees(math.asin(made.lateral_m / made.distance_m))
    if made.lane is None:
        ahead_m = math.copysign(math.sqrt(made.distance_m**2 - made.lateral_m**2), 90.0 - abs(made.bearing_deg))
        made.lane = lane_of((ahead_m, made.lateral_m), curvature_1pm)
