"""How long clips may stay on the vehicle: those older than allowed are deleted, delivered or not.

The spool knows the age of what it holds (`runtime.spool.wall_time`) and was told the limit when it was opened; here it
is asked once a minute. A sealed clip ends as a tombstone, so that the ledger stays gapless and the receiver is told;
what a dead writer left unfinished is just deleted.
"""

from __future__ import annotations

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.spool import Spool

INTERVAL_NS = 60 * NANOSECONDS_PER_SECOND


class Retention:
    """Belongs to the recorder's thread."""

    def __init__(self, spool: Spool) -> None:
        """`spool` was opened with `retention_s`; without, clips stay until they are delivered or make room."""
        self._spool = spool
        self._next_ns = 0
        self.deleted = 0
        self.last_error = ""

    def step(self, now_ns: int) -> int:
        """Delete what is too old, at most once a minute of `now_ns`; how many clips that were.

        A disk or ledger that refuses is named in `last_error`, and asked again in a minute.
        """
        if now_ns < self._next_ns:
            return 0
        self._next_ns = now_ns + INTERVAL_NS
        before = self.deleted
        try:
            self.deleted += len(self._spool.expire())
            self.deleted += self._spool.expire_partials()
            self.last_error = ""
        except OSError as error:
            self.last_error = str(error)
        return self.deleted - before
