"""Wall time and the age of clips, as far as a spool may trust them: a clock that is set does not make clips old.

Expiry deletes, so a jump of the clock must not cause it. Within one run of the machine age is monotonic time, whatever
happens to the wall clock. Across runs wall time is all there is: between start and now no more of it can have passed
than the monotonic clock says, and a clip of this run whose clock was set since is noted anew by the clock as it is now,
so that a run which began in 1970 does not age its clips by decades.

A machine without a clock of its own begins every run in the past, and is set once there is a network. A clock that was
set forward is therefore believed when it has stayed set for `HELD_NS`; one that only jumped never is. And whatever any
wall clock says, a clip of an earlier run is at least as old as this run of the machine. How much older one is that was
sealed while the clock had never been set, nobody knows: it counts as that old.

What is made of something older is as old as that (`age`). Of a clip that start-up seals or adopts nobody knows when it
was written but its file, by the wall clock of then: that is believed as far as that clock had been set.
"""

from __future__ import annotations

import sqlite3

from runtime.clock import Clock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.spool.age import SOME_BOOT, Age, set_age

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

    def is_too_old(self, age: Age) -> bool:
        """Whether what is that old may not stay any longer."""
        if self.keep_ns is None:
            return False
        if age.boot_id == self.boot_id and age.since_ns is not None:
            return self._clock.now_ns() - age.since_ns >= self.keep_ns
        by_wall_ns = 0 if age.since_wall_ns < NEVER_SET_NS else self.now_ns() - age.since_wall_ns
        return max(by_wall_ns, self._clock.now_ns()) >= self.keep_ns

    def note_seal(self, connection: sqlite3.Connection, n: int) -> None:
        """Write beside clip `n` when it was sealed by the clock that nobody sets, unless it is as old as another."""
        connection.execute(
            "UPDATE clips SET sealed_boot_id = ?, sealed_ns = ? WHERE n = ? AND sealed_boot_id IS NULL",
            (self.boot_id, self._clock.now_ns(), n),
        )

    def note_seal_by_file(self, connection: sqlite3.Connection, n: int, written_wall_ns: int) -> None:
        """As `note_seal`, of a file that was sealed nobody knows when: when it was last written, if that is sane.

        A time before the machine's start is that of an earlier run; one that lies ahead is taken as now.
        """
        if connection.execute("SELECT 1 FROM clips WHERE n = ? AND sealed_boot_id IS NOT NULL", (n,)).fetchone():
            return  # as old as another
        now_ns, wall_ns = self._clock.now_ns(), self._clock.wall_ns()
        aged_ns = max(0, wall_ns - written_wall_ns) if written_wall_ns >= NEVER_SET_NS else 0
        if aged_ns > now_ns:
            set_age(connection, n, Age(SOME_BOOT, None, written_wall_ns))
        else:
            set_age(connection, n, Age(self.boot_id, now_ns - aged_ns, wall_ns - aged_ns))

    def correct(self, connection: sqlite3.Connection) -> None:
        """After the wall clock was set: what is of this run was sealed when it says now that it was."""
        said = {"offset_ns": self._clock.wall_ns() - self._clock.now_ns(), "boot_id": self.boot_id, "step_ns": STEP_NS}
        connection.execute(
            "UPDATE clips SET sealed_wall_ns = sealed_ns + :offset_ns"
            " WHERE state = 'pending' AND sealed_boot_id = :boot_id"
            " AND abs(sealed_ns + :offset_ns - sealed_wall_ns) > :step_ns",
            said,
        )
        connection.execute(
            "UPDATE drafts SET as_old_as_wall_ns = as_old_as_ns + :offset_ns WHERE as_old_as_boot_id = :boot_id"
            " AND abs(as_old_as_ns + :offset_ns - as_old_as_wall_ns) > :step_ns",
            said,
        )
