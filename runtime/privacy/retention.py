"""How long clips may stay on the vehicle: those older than allowed are deleted, delivered or not.

A sealed clip ends as a tombstone, so that the ledger stays gapless and the receiver is told; what a dead writer left
unfinished is just deleted. Age is counted in wall time from sealing, across power cuts: a clock that jumps ahead
deletes early, one that is set back late, and neither is ever more wrong than the clock.
"""

from __future__ import annotations

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.spool import Spool, SpoolError, UnknownClipError

INTERVAL_NS = 60 * NANOSECONDS_PER_SECOND
#: Clips looked at in one go; a spool of 20 GB holds fewer.
MAX_CLIPS = 100_000
REASON = "older than privacy.keep_s allows"


class Retention:
    """Belongs to the recorder's thread."""

    def __init__(self, spool: Spool, keep_s: float | None) -> None:
        """`keep_s` None: clips stay until they are delivered or make room."""
        self._spool = spool
        self._keep_ns = None if keep_s is None else round(keep_s * NANOSECONDS_PER_SECOND)
        self._next_ns = 0
        self.deleted = 0
        self.last_error = ""

    def step(self, now_ns: int, wall_ns: int) -> int:
        """Delete what is too old, at most once a minute of `now_ns`; how many clips that were."""
        if self._keep_ns is None or now_ns < self._next_ns:
            return 0
        self._next_ns = now_ns + INTERVAL_NS
        oldest_wall_ns = wall_ns - self._keep_ns
        try:
            deleted = self._sealed(oldest_wall_ns) + self._unfinished(oldest_wall_ns)
        except OSError as error:  # a disk that refuses: named in the status, and tried again in a minute
            self.last_error = str(error)
            return 0
        self.deleted += deleted
        return deleted

    def _sealed(self, oldest_wall_ns: int) -> int:
        old = [clip.n for clip in self._spool.pending(MAX_CLIPS) if clip.sealed_wall_ns < oldest_wall_ns]
        return sum(self._spool.tombstone(n, REASON) for n in old)

    def _unfinished(self, oldest_wall_ns: int) -> int:
        deleted = 0
        for partial in self._spool.partial():
            try:
                if partial.path.stat().st_mtime_ns < oldest_wall_ns:
                    self._spool.discard(self._spool.resume(partial))
                    deleted += 1
            except (UnknownClipError, FileNotFoundError, SpoolError):
                continue  # somebody else has just taken it
        return deleted
