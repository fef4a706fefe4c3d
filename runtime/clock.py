"""Clocks. Time is an argument everywhere else; only entry points and capture threads hold one of these.

`SystemClock` is the vehicle's monotonic clock. `ManualClock` stands still until told, for replay and tests.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from runtime.messages import NANOSECONDS_PER_SECOND

#: The last part of a wait is slept and not waited for on the event: a sleep ends closer to its time, and looks for
#: nothing else. `stop` is late by no more than this.
FINE_WAIT_NS = 1_000_000


def period_of(rate_hz: float) -> int:
    """Nanoseconds from one beat to the next; `rate_hz` is positive."""
    return round(NANOSECONDS_PER_SECOND / rate_hz)


class Clock(Protocol):
    """A source of monotonic and wall time."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""

    def wall_ns(self) -> int:
        """Unix time in nanoseconds."""

    def wait_until(self, time_ns: int, stop: threading.Event) -> bool:
        """Wait until `time_ns`; return False early when `stop` is set."""


class SystemClock:
    """The machine's clocks (CLOCK_MONOTONIC and CLOCK_REALTIME)."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def wait_until(self, time_ns: int, stop: threading.Event) -> bool:
        coarse_ns = time_ns - FINE_WAIT_NS - time.monotonic_ns()
        if coarse_ns > 0 and stop.wait(coarse_ns / NANOSECONDS_PER_SECOND):
            return False
        while (remaining_ns := time_ns - time.monotonic_ns()) > 0:
            time.sleep(remaining_ns / NANOSECONDS_PER_SECOND)
        return not stop.is_set()


class ManualClock:
    """A clock that moves only when told to. Waiting moves it there at once."""

    def __init__(self, now_ns: int = 0, wall_offset_ns: int = 0) -> None:
        self._now_ns = now_ns
        self._wall_offset_ns = wall_offset_ns

    def now_ns(self) -> int:
        return self._now_ns

    def wall_ns(self) -> int:
        return self._now_ns + self._wall_offset_ns

    def advance_to(self, time_ns: int) -> None:
        """Move to `time_ns`; moving backwards is an error of the caller."""
        if time_ns < self._now_ns:
            raise ValueError(f"clock cannot go back from {self._now_ns} to {time_ns}")
        self._now_ns = time_ns

    def wait_until(self, time_ns: int, stop: threading.Event) -> bool:
        self._now_ns = max(self._now_ns, time_ns)
        return not stop.is_set()
