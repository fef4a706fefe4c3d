"""What becomes of sealed clips: waiting, delivered, given up, expired. The half of a spool that the uploader uses.

The ledger's row changes first and is durable, then the file goes; start-up finishes unlinks that were cut short.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from runtime.messages import Priority
from runtime.spool.accounts import count, entomb, expired, has_untold_alarms, newest_alarms, take_untold_alarms
from runtime.spool.clips import Alarm, ClipState, SpoolCounts, SpooledClip, Tombstone, UnknownClipError
from runtime.spool.folder import SpoolFolder, unlink_clip
from runtime.spool.ledger import Ledger
from runtime.spool.wall_time import TrustedWall

EXPIRED_AT_ONCE = 1000
DELIVER = "UPDATE clips SET state = 'delivered', reason = '' WHERE n = ? AND state != 'delivered'"
REPORTED = "UPDATE clips SET reported = 1 WHERE n = ? AND state = 'tombstoned'"
WAITING = """SELECT * FROM clips WHERE state = 'pending' AND n NOT IN (SELECT value FROM json_each(?))
    ORDER BY rank, n LIMIT ?"""
FIND = "SELECT * FROM clips WHERE clip_id = ? ORDER BY n DESC LIMIT 1"


class Deliveries:
    """The sealed clips of one spool."""

    def __init__(self, folder: SpoolFolder, ledger: Ledger, quota_bytes: int, wall: TrustedWall) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self._ledger = ledger
        self._wall = wall

    def pending(self, limit: int | None = 1000, without: Collection[int] = ()) -> list[SpooledClip]:
        """Clips to deliver: highest priority first, oldest first within one; at most `limit`, if there is one.

        Those whose numbers are in `without` are passed over.
        """
        passed_over = json.dumps([*without])
        with self._ledger.reading() as connection:
            rows = connection.execute(WAITING, (passed_over, -1 if limit is None else limit)).fetchall()
        return [self._clip(row) for row in rows]

    def clip(self, n: int) -> SpooledClip:
        """One clip, whatever became of it. Raises UnknownClipError, also for rows folded long ago."""
        with self._ledger.reading() as connection:
            row = connection.execute("SELECT * FROM clips WHERE n = ?", (n,)).fetchone()
        if row is None:
            raise UnknownClipError(f"no clip has number {n} in {self.folder.ledger}")
        return self._clip(row)

    def knows_clip(self, clip_id: str) -> bool:
        """True when a clip with this `clip_id` in its metadata was sealed and its row has not been folded yet."""
        return self.find(clip_id) is not None

    def find(self, clip_id: str) -> SpooledClip | None:
        """The newest clip with this `clip_id` in its metadata, whatever became of it; None: no row, or folded."""
        with self._ledger.reading() as connection:
            row = connection.execute(FIND, (clip_id,)).fetchone()
        return None if row is None else self._clip(row)

    def mark_delivered(self, n: int) -> bool:
        """The receiver holds clip `n` durably: record that, then unlink it. False when that was known already.

        A clip that was entombed while its last bytes were on their way counts as delivered after all. Raises
        LedgerError, with errno ENOSPC where the disk is full: come again.
        """
        changed = self._ledger.write(lambda connection: connection.execute(DELIVER, (n,)).rowcount)
        if not changed:
            self.clip(n)
        unlink_clip(self.folder, self._ledger, n)
        self._ledger.ballast.restore()
        return bool(changed)

    def tombstone(self, n: int, reason: str) -> bool:
        """Give up on a pending clip, with an alarm. False when it was settled already."""
        changed = self._ledger.write(lambda connection: entomb(connection, n, reason, self._wall.now_ns()))
        if not changed:
            self.clip(n)
        unlink_clip(self.folder, self._ledger, n)
        return changed

    def expire(self) -> list[int]:
        """Entomb pending clips whose time is over, at most EXPIRED_AT_ONCE; their numbers."""
        with self._ledger.transaction() as connection:
            self._wall.correct(connection)
            numbers = expired(connection, self._wall, EXPIRED_AT_ONCE)
            for n in numbers:
                entomb(connection, n, "expired before it could be delivered", self._wall.now_ns())
        for n in numbers:
            unlink_clip(self.folder, self._ledger, n)
        return numbers

    def unreported_tombstones(self, limit: int = 100) -> list[Tombstone]:
        """Tombstones that the receiver has not confirmed yet, oldest first."""
        with self._ledger.reading() as connection:
            rows = connection.execute(
                "SELECT n, reason FROM clips WHERE state = 'tombstoned' AND reported = 0 ORDER BY n LIMIT ?", (limit,)
            ).fetchall()
        return [Tombstone(int(row["n"]), str(row["reason"])) for row in rows]

    def mark_tombstone_reported(self, n: int) -> None:
        """The receiver knows that `n` will never come."""
        self._ledger.write(lambda connection: connection.execute(REPORTED, (n,)))

    # -- figures ------------------------------------------------------------------------------------------------

    def counts(self) -> SpoolCounts:
        """The ledger in numbers, all as of one instant; no writer waits for it. Raises LedgerError."""
        with self._ledger.snapshot() as connection:
            return count(connection, self.quota_bytes, self._ledger.disk_bytes())

    def monotonic_ns(self) -> int:
        """Nanoseconds since the machine's start, by the clock that the spool was given."""
        return self._wall.monotonic_ns()

    def alarms(self, limit: int = 100) -> list[Alarm]:
        """The newest alarms, newest first."""
        with self._ledger.reading() as connection:
            return newest_alarms(connection, limit)

    def take_untold_alarms(self) -> list[Alarm]:
        """Alarms, oldest first, to be told by the caller: each is handed out once, whoever raised it and whoever asks.

        A hundred at most; what is left is handed out at the next call. Raises LedgerError.
        """
        with self._ledger.reading() as connection:
            if not has_untold_alarms(connection):
                return []
        with self._ledger.transaction() as connection:
            return take_untold_alarms(connection)

    def _clip(self, row: sqlite3.Row) -> SpooledClip:
        return SpooledClip(
            n=int(row["n"]),
            path=self.folder.clips / row["file_name"],
            sha256=str(row["sha256"]),
            size_bytes=int(row["size_bytes"]),
            priority=Priority(row["priority"]),
            metadata=json.loads(row["metadata"]),
            sealed_wall_ns=int(row["sealed_wall_ns"]),
            state=ClipState(row["state"]),
            reason=str(row["reason"]),
        )
