"""Wall time and the age of clips, as far as a spool may trust them: a clock that is set does not make clips old.

Expiry deletes, so a jump of the clock must not cause it. Within one run of the machine age is monotonic time, whatever
happens to the wall clock. Across runs wall time is all there is: between start and now no more of it can have passed
than the monotonic clock says, and a clip of this run whose clock was set since is noted anew by the clock as it is now,
so that a run which began in 1970 does not age its clips by decades.

A machine without a clock of its own begins every run in the past, and is set once there is a network. A clock that was
set forward is therefore believed when it has stayed set for `HELD_NS`; one that only jumped never is. And whatever any
wall clock says, a clip of an earlier run is at least as old as this run of the machine. How much older one is that was
sealed while the clock had never been set, nobody knows: it counts as that old.
"""

from __future__ import annotations

import sqlite3

from runtime.clock import Clock
from runtime.messages import NANOSECONDS_PER_SECOND

#: A wall clock that is disciplined drifts by less than this against the monotonic one; more is a clock that was set.
STEP_NS = 10 * NANOSECONDS_PER_SECOND
#: A wall clock that was set forward is believed when it has kept its new distance to the monotonic one for so long.
HELD_NS = 600 * NANOSECONDS_PER_SECOND

#: 2024-01-01. Before that this software ran nowhere: a wall clock that says so was never set.
NEVER_SET_NS = 1_704_067_200 * NANOSECONDS_PER_SECOND

#: True for a row of `clips` that nobody wants any more; parameters are `TrustedWall.instant()`.
IS_EXPIRED = """(coalesce(expires_wall_ns <= :wall_ns, 0) OR coalesce(:keep_ns <= CASE
    WHEN sealed_boot_id = :boot_id THEN :now_ns - sealed_ns
    WHEN sealed_wall_ns < :never_set_ns THEN :now_ns
    ELSE max(:wall_ns - sealed_wall_ns, :now_ns) END, 0))"""


class TrustedWall:
    """Unix time in ns, never further ahead than the monotonic clock allows, and what is too old by it.

    `keep_ns`: how long sealed clips may stay; None: for ever. The monotonic clock counts from the machine's start.
    """

    def __init__(self, clock: Clock, boot_id: str = "", keep_ns: int | None = None) -> None:
        self._clock = clock
        self.boot_id = boot_id
        self.keep_ns = keep_ns
        self._believed_offset_ns = clock.wall_ns() - clock.now_ns()
        self._ahead: tuple[int, int] | None = None  # an offset that is not believed yet, and since when it holds

    def now_ns(self) -> int:
        """The lesser of what the wall clock says and what it must be by the monotonic clock."""
        wall_ns, now_ns = self._clock.wall_ns(), self._clock.now_ns()
        self._follow(wall_ns - now_ns, now_ns)
        return min(wall_ns, self._believed_offset_ns + now_ns)

    def _follow(self, offset_ns: int, now_ns: int) -> None:
        """Believe a clock that was set forward, once it has held."""
        ahead = self._ahead
        if offset_ns <= self._believed_offset_ns + STEP_NS:
            self._ahead = None
        elif ahead is None or abs(offset_ns - ahead[0]) > STEP_NS:
            self._ahead = (offset_ns, now_ns)
        elif now_ns - ahead[1] >= HELD_NS:
            self._believed_offset_ns, self._ahead = offset_ns, None

    def monotonic_ns(self) -> int:
        """Nanoseconds since the machine's start."""
        return self._clock.now_ns()

    def instant(self) -> dict[str, int | str | None]:
        """Now, as the parameters of IS_EXPIRED."""
        return {
            "wall_ns": self.now_ns(),
            "now_ns": self._clock.now_ns(),
            "boot_id": self.boot_id,
            "keep_ns": self.keep_ns,
            "never_set_ns": NEVER_SET_NS,
        }

    def is_too_old(self, boot_id: str | None, since_ns: int | None, since_wall_ns: int) -> bool:
        """Whether what began then, in that run of the machine, may not stay any longer."""
        if self.keep_ns is None:
            return False
        if boot_id == self.boot_id and since_ns is not None:
            return self._clock.now_ns() - since_ns >= self.keep_ns
        by_wall_ns = 0 if since_wall_ns < NEVER_SET_NS else self.now_ns() - since_wall_ns
        return max(by_wall_ns, self._clock.now_ns()) >= self.keep_ns

    def note_seal(self, connection: sqlite3.Connection, n: int) -> None:
        """Write beside clip `n` when it was sealed by the clock that nobody sets."""
        connection.execute(
            "UPDATE clips SET sealed_boot_id = ?, sealed_ns = ? WHERE n = ?", (self.boot_id, self._clock.now_ns(), n)
        )

    def correct(self, connection: sqlite3.Connection) -> None:
        """After the wall clock was set: clips of this run were sealed when it says now that they were."""
        connection.execute(
            "UPDATE clips SET sealed_wall_ns = sealed_ns + :offset_ns"
            " WHERE state = 'pending' AND sealed_boot_id = :boot_id"
            " AND abs(sealed_ns + :offset_ns - sealed_wall_ns) > :step_ns",
            {"offset_ns": self._clock.wall_ns() - self._clock.now_ns(), "boot_id": self.boot_id, "step_ns": STEP_NS},
        )
