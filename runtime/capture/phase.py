"""The grid of instants: which frames of eight cameras belong together, and when the tick is due.

Instant k is at time T(k). The grid follows the reference camera's capture times with a phase-locked loop (type 2:
phase and rate), so that an instant stands where the cameras expose although their clock is not ours. A frame belongs
to the first instant that is not more than `skew_ns` before it: windows reach from one period back to `skew_ns` ahead.

What makes a replay agree with the live run is that T does not depend on which thread came first: a correction that
is learned from the reference's frame at instant k takes effect at instant k + `CORRECTION_DELAY`, and by then every
camera's frames of k have been seen by anyone who is not late. Only integers are used; moving all times by a constant
moves the grid by that constant. When the reference is silent the grid runs on at the last rate.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: Instants between learning a correction and using it: more than any camera lags behind another without being late.
CORRECTION_DELAY = 4
#: Without a reference frame in the window for so many instants, the next one is believed whatever its phase.
RELOCK_AFTER = 20
#: Loop gains as divisors: 1/8 of the phase error, 1/256 of it into the rate (critically damped).
PHASE_DIVISOR = 8
RATE_DIVISOR = 256
#: No camera's clock is further off; beyond this the reference has another rate than the tick, and is not followed.
MAX_RATE_ERROR_DIVISOR = 50
#: Pieces of the grid that are kept: enough for every frame that is not hopelessly late.
KEPT_SEGMENTS = 64


@dataclass(frozen=True, slots=True)
class GridSegment:
    """From instant `first` on, T(k) = time_ns + (k - first) * period_ns."""

    first: int
    time_ns: int
    period_ns: int


class InstantGrid:
    """Maps capture times to instants and back. All methods may be called from any thread."""

    def __init__(
        self,
        period_ns: int,
        reference_camera: str | None = None,
        *,
        start_ns: int | None = None,
        skew_ns: int | None = None,
    ) -> None:
        """`start_ns` is T(0); without it the first frame seen sets it. `skew_ns` is a quarter period by default."""
        if period_ns < 1:
            raise ValueError(f"period_ns is {period_ns}; it must be positive")
        self._nominal_ns = period_ns
        self._reference = reference_camera
        self._skew_ns = period_ns // 4 if skew_ns is None else skew_ns
        if not 0 <= self._skew_ns < period_ns:
            raise ValueError(f"skew_ns is {self._skew_ns}; it must be at least 0 and below the period {period_ns}")
        self._lock = threading.RLock()
        self._segments: deque[GridSegment] = deque(maxlen=KEPT_SEGMENTS)
        self._last_reference_ns: int | None = None
        self._last_locked: int | None = None
        self._blind_until: int | None = None
        if start_ns is not None:
            self.start(start_ns)

    @property
    def period_ns(self) -> int:
        """The period that the grid runs at now."""
        with self._lock:
            return self._segments[-1].period_ns if self._segments else self._nominal_ns

    @property
    def is_started(self) -> bool:
        """True when T(0) is known."""
        return bool(self._segments)

    def start(self, time_ns: int) -> None:
        """Put instant 0 at `time_ns`, unless the grid runs already."""
        with self._lock:
            if not self._segments:
                self._segments.append(GridSegment(0, time_ns, self._nominal_ns))

    def segments(self, after: int | None = None) -> tuple[GridSegment, ...]:
        """The pieces of the grid that begin after instant `after`, oldest first: all that are kept, without it."""
        with self._lock:
            return tuple(segment for segment in self._segments if after is None or segment.first > after)

    def follow(self, segments: Iterable[GridSegment], now_ns: int | None = None) -> int:
        """Take over what a grid in another process has learned: it sees the frames, this one the ticks.

        Returns how many came when the first instant they hold for was over at `now_ns`: ticks had its old time then.
        """
        late = 0
        with self._lock:
            for segment in segments:
                if not self._segments or segment.first > self._segments[-1].first:
                    self._segments.append(segment)
                    late += now_ns is not None and segment.time_ns < now_ns
        return late

    def observe(self, camera: str, time_ns: int) -> int:
        """The instant of a frame; a frame of the reference camera also disciplines the grid."""
        with self._lock:
            self.start(time_ns)
            if camera == self._reference:
                self._discipline(time_ns)
            return self.instant_of(time_ns)

    def time_of(self, instant: int) -> int:
        """T(instant)."""
        with self._lock:
            segment = self._first_segment()
            for candidate in reversed(self._segments):
                if candidate.first <= instant:
                    segment = candidate
                    break
            return segment.time_ns + (instant - segment.first) * segment.period_ns

    def instant_of(self, time_ns: int) -> int:
        """The instant whose window holds `time_ns`."""
        with self._lock:
            return self._first_instant_from(time_ns - self._skew_ns)

    def _first_segment(self) -> GridSegment:
        if not self._segments:
            raise ValueError("the grid has not started: call start(), or observe() a frame")
        return self._segments[0]

    def _first_instant_from(self, time_ns: int) -> int:
        """The smallest k with T(k) >= time_ns."""
        following: int | None = None
        for segment in reversed(self._segments):
            if time_ns > segment.time_ns:
                instant = segment.first - (segment.time_ns - time_ns) // segment.period_ns
                return instant if following is None else min(instant, following)
            following = segment.first
        oldest = self._first_segment()
        return oldest.first - (oldest.time_ns - time_ns) // oldest.period_ns

    def _discipline(self, time_ns: int) -> None:
        """Learn from one capture time of the reference camera."""
        if self._last_reference_ns is not None and time_ns <= self._last_reference_ns:
            return
        self._last_reference_ns = time_ns
        instant = self._first_instant_from(time_ns - self._nominal_ns // 2)
        error_ns = time_ns - self.time_of(instant)
        if self._blind_until is not None and instant < self._blind_until:
            return  # a jump is under way: what is measured now has been corrected already
        if self._last_locked is None or instant - self._last_locked > RELOCK_AFTER:
            self._blind_until = self._correct(instant, error_ns, 0)
            self._last_locked = instant
        elif abs(error_ns) <= self._nominal_ns // 4 and instant != self._last_locked:
            self._correct(instant, _divide(error_ns, PHASE_DIVISOR), _divide(error_ns, RATE_DIVISOR))
            self._last_locked = instant

    def _correct(self, instant: int, phase_ns: int, rate_ns: int) -> int:
        """Begin a new segment `CORRECTION_DELAY` instants on; returns its first instant."""
        newest = self._segments[-1]
        first = max(instant + CORRECTION_DELAY, newest.first + 1)
        limit = self._nominal_ns // MAX_RATE_ERROR_DIVISOR
        period_ns = max(self._nominal_ns - limit, min(self._nominal_ns + limit, newest.period_ns + rate_ns))
        self._segments.append(GridSegment(first, self.time_of(first) + phase_ns, period_ns))
        return first


def readiness_of(grid: InstantGrid, now_ns: Callable[[], int], tell: Callable[[int], None]) -> Callable[[int], None]:
    """What to tell of each frame's capture time once it stands ready: `tell` hears how long after its instant that is.

    Against the instant and not the frame: a camera without the common trigger exposes at a time of its own.
    """

    def ready(time_ns: int) -> None:
        tell(now_ns() - grid.time_of(grid.instant_of(time_ns)))

    return ready


def _divide(value: int, divisor: int) -> int:
    """Integer division towards zero, so that errors of both signs are corrected alike."""
    return value // divisor if value >= 0 else -(-value // divisor)
