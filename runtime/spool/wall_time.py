"""Wall time as far as a spool may trust it: a clock that is set while we run does not make clips old.

Expiry deletes, so a jump of the clock must not cause it. Between start and now no more time can have passed than the
monotonic clock says; a clock that is set back is believed, for that only keeps clips longer.
"""

from __future__ import annotations

from runtime.clock import Clock


class TrustedWall:
    """Unix time in ns, never further ahead than the monotonic clock allows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._opened_wall_ns = clock.wall_ns()
        self._opened_ns = clock.now_ns()

    def now_ns(self) -> int:
        """The lesser of what the wall clock says and what it must be by the monotonic clock."""
        return min(self._clock.wall_ns(), self._opened_wall_ns + self._clock.now_ns() - self._opened_ns)
