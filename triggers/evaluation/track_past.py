"""The recent past of every track, for `displacement_px`, `class_flips`, `presence_flips`, `state_flips`, `box_jitter`.

One bounded deque for each living track; a track that the tracker no longer reports is forgotten at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runtime.messages import NANOSECONDS_PER_SECOND, Track
from triggers.language.types import Value

#: Ticks remembered for each track: a minute at 20 Hz.
MAX_MOMENTS = 1200


@dataclass(frozen=True, slots=True)
class Moment:
    """A track on one tick."""

    time_ns: int
    x_px: float
    y_px: float
    height_px: float
    class_name: str
    state: str | None
    visible: bool


class TrackHistory:
    """All tracks' pasts."""

    def __init__(self, longest_s: float) -> None:
        """`longest_s` is the longest window that any rule asks for; 0: nothing is kept."""
        self._longest_ns = round(longest_s * NANOSECONDS_PER_SECOND)
        self._moments: dict[int, deque[Moment]] = {}

    def see(self, tracks: Sequence[Track], time_ns: int) -> None:
        """Take in the tracks of one tick."""
        if self._longest_ns == 0:
            return
        alive: dict[int, deque[Moment]] = {}
        for track in tracks:
            moments = self._moments.get(track.track_id)
            if moments is None:
                moments = deque(maxlen=MAX_MOMENTS)
            moments.append(_moment(track, time_ns))
            while moments[0].time_ns < time_ns - self._longest_ns:
                moments.popleft()
            alive[track.track_id] = moments
        self._moments = alive

    def within(self, track: Track, seconds: float, time_ns: int) -> list[Moment]:
        """The track's moments of the last `seconds`, oldest first."""
        start_ns = time_ns - round(seconds * NANOSECONDS_PER_SECOND)
        return [moment for moment in self._moments.get(track.track_id, ()) if moment.time_ns >= start_ns]


def _moment(track: Track, time_ns: int) -> Moment:
    x0, y0, x1, y1 = track.box_px
    return Moment(time_ns, (x0 + x1) / 2, (y0 + y1) / 2, y1 - y0, track.class_name, track.state, track.visible)


def _age_s(track: Track, time_ns: int) -> float:
    return (time_ns - track.first_seen_ns) / NANOSECONDS_PER_SECOND


def displacement_px(moments: Sequence[Moment], is_whole: bool) -> Value:
    """Diagonal of the area that the centre of the seen box stayed in; unknown for a track younger than the window."""
    seen = [moment for moment in moments if moment.visible]
    if not is_whole or not seen:
        return None
    xs, ys = [moment.x_px for moment in seen], [moment.y_px for moment in seen]
    return math.hypot(max(xs) - min(xs), max(ys) - min(ys))


def _flips(moments: Sequence[Moment], of: Callable[[Moment], object]) -> Value:
    return float(sum(of(before) != of(after) for before, after in zip(moments, moments[1:], strict=False)))


def class_flips(moments: Sequence[Moment], is_whole: bool) -> Value:
    """How often the class changed."""
    return _flips(moments, lambda moment: moment.class_name)


def presence_flips(moments: Sequence[Moment], is_whole: bool) -> Value:
    """How often it appeared or disappeared."""
    return _flips(moments, lambda moment: moment.visible)


def state_flips(moments: Sequence[Moment], is_whole: bool) -> Value:
    """How often the state changed between two known ones."""
    return _flips([moment for moment in moments if moment.state is not None], lambda moment: moment.state)


def box_jitter(moments: Sequence[Moment], is_whole: bool) -> Value:
    """Mean second difference of the centre, in box heights: 0 for smooth motion."""
    seen = [moment for moment in moments if moment.visible]
    if len(seen) < 3:
        return None
    jumps = [
        math.hypot(a.x_px - 2 * b.x_px + c.x_px, a.y_px - 2 * b.y_px + c.y_px) / max(b.height_px, 1.0)
        for a, b, c in zip(seen, seen[1:], seen[2:], strict=False)
    ]
    return sum(jumps) / len(jumps)


HISTORY_FUNCTIONS: Mapping[str, Callable[[Sequence[Moment], bool], Value]] = {
    "displacement_px": displacement_px,
    "class_flips": class_flips,
    "presence_flips": presence_flips,
    "state_flips": state_flips,
    "box_jitter": box_jitter,
}


def field_value(track: Track, name: str, time_ns: int) -> Value:
    """A track field of the language; None where the track does not know it."""
    if name == "age_s":
        return _age_s(track, time_ns)
    if name == "width_px":
        return float(track.box_px[2] - track.box_px[0])
    if name == "height_px":
        return float(track.box_px[3] - track.box_px[1])
    if name == "track_id":
        return float(track.track_id)
    value: Value = getattr(track, name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def covers(track: Track, seconds: float, time_ns: int) -> bool:
    """True when the track is at least so old."""
    return _age_s(track, time_ns) >= seconds
