"""The beat of the tick, phase-locked to capture.

Tick k starts `phase_ns` after the cameras expose instant k, whether or not every frame is ready: decode jitter is
absorbed by the phase instead of reaching the result. A beat that is already over is skipped and counted, never
queued: after a stall the next tick works on the newest instant.
"""

from __future__ import annotations

import threading
from typing import Protocol

from runtime.clock import Clock


class InstantTimes(Protocol):
    """The capture grid as far as the beat needs it."""

    @property
    def period_ns(self) -> int:
        """Nanoseconds from one instant to the next."""

    def time_of(self, instant: int) -> int:
        """Capture time of an instant, following the cameras' clock."""

    def instant_of(self, time_ns: int) -> int:
        """The instant whose window holds `time_ns`."""


class Metronome:
    """Hands out instants at their time."""

    def __init__(self, grid: InstantTimes, phase_ns: int, clock: Clock) -> None:
        self._grid = grid
        self._phase_ns = phase_ns
        self._clock = clock
        self._last: int | None = None
        self.skipped = 0

    @property
    def phase_ns(self) -> int:
        """From exposure to the start of the tick."""
        return self._phase_ns

    def rephase(self, phase_ns: int) -> None:
        """From the next beat on begin at another phase; beats that are over by it are skipped and counted as ever."""
        self._phase_ns = phase_ns

    def due_ns(self, instant: int) -> int:
        """When the tick of an instant begins."""
        return self._grid.time_of(instant) + self._phase_ns

    def wait_for_next(self, stop: threading.Event) -> int | None:
        """Sleep until the next beat and return its instant; None when `stop` is set."""
        instant = self._next_instant()
        if not self._clock.wait_until(self.due_ns(instant), stop):
            return None
        self._last = instant
        return instant

    def _next_instant(self) -> int:
        current = self._grid.instant_of(self._clock.now_ns() - self._phase_ns)
        if self._last is None:
            return current + 1
        following = self._last + 1
        # `current` may be due right now: it is skipped only when its whole period has gone by.
        if current > following:
            self.skipped += current - following
            return current
        return following
