"""`Spool`: begin, seal, deliver, entomb. The package's docstring is its contract."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.clock import Clock, SystemClock
from runtime.formats.durable_files import (
    make_directory_durably,
    remove_durably,
    rename_durably,
    sha256_of,
    sync_file,
    write_durably,
)
from runtime.messages import Priority
from runtime.spool.clips import (
    ClipDraft,
    ClipState,
    PartialClip,
    QuotaExceededError,
    SealError,
    SpoolCounts,
    SpooledClip,
    Tombstone,
    UnknownClipError,
    clip_file_name,
    encode_metadata,
    try_lock,
)
from runtime.spool.folder import SpoolFolder, start_up_lock, unlink_clip
from runtime.spool.ledger import Ledger, count, entomb, fold_settled, next_number
from runtime.spool.recovery import Recovery, RecoveryReport, insert_clip, open_or_set_aside
from runtime.spool.reservations import Reservations, free_disk_bytes

#: Part of the quota that clips never get: SQLite's file and its write-ahead log live there.
LEDGER_RESERVE_BYTES = 8 << 20
#: Settled rows that stay in the ledger for people to read; older ones become counts at start-up.
KEEP_SETTLED_ROWS = 10_000


class Spool:
    """One spool directory, opened by one process; safe to use from its threads and beside other processes."""

    def __init__(
        self,
        folder: SpoolFolder,
        ledger: Ledger,
        quota_bytes: int,
        clock: Clock,
        ledger_reserve_bytes: int,
        disk_free: Callable[[Path], int],
    ) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self.last_recovery = RecoveryReport()
        self._ledger = ledger
        self._clock = clock
        clip_quota_bytes = quota_bytes - ledger_reserve_bytes
        self._reservations = Reservations(folder, ledger, clip_quota_bytes, clock, disk_free)

    @classmethod
    def open(
        cls,
        directory: Path,
        quota_bytes: int,
        *,
        clock: Clock | None = None,
        ledger_reserve_bytes: int = LEDGER_RESERVE_BYTES,
        disk_free: Callable[[Path], int] = free_disk_bytes,
    ) -> Spool:
        """Open or create a spool and recover it. `last_recovery` tells what was found.

        Raises ValueError for a quota that leaves no room for clips, SpoolError for a folder that contradicts itself.
        """
        if quota_bytes <= ledger_reserve_bytes:
            raise ValueError(
                f"spool quota_bytes is {quota_bytes}: raise it above {ledger_reserve_bytes}, which the ledger may need"
            )
        folder = SpoolFolder(directory)
        for path in (folder.clips, folder.partial):
            make_directory_durably(path)
        clock = clock or SystemClock()
        with start_up_lock(folder):
            ledger, damaged = open_or_set_aside(folder.ledger, clock.wall_ns())
            spool = cls(folder, ledger, quota_bytes, clock, ledger_reserve_bytes, disk_free)
            spool._recover(damaged)
        return spool

    def recover(self) -> RecoveryReport:
        """Make folder and ledger agree again (also done by `open`); harmless beside a living recorder."""
        with start_up_lock(self.folder):
            return self._recover(damaged=False)

    def _recover(self, damaged: bool) -> RecoveryReport:
        self.last_recovery = Recovery(self.folder, self._ledger, self._clock.wall_ns()).run(damaged)
        self._ledger.is_new = False
        self._reservations.enforce()
        with self._ledger.transaction() as connection:
            fold_settled(connection, KEEP_SETTLED_ROWS)
        return self.last_recovery

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- drafts -------------------------------------------------------------------------------------------------

    def begin(self, estimated_bytes: int, priority: Priority = Priority.NORMAL) -> ClipDraft:
        """Reserve room and hand out an empty, locked draft file. Raises QuotaExceededError."""
        return self._reservations.begin(estimated_bytes, priority)

    def extend(self, draft: ClipDraft, total_bytes: int) -> None:
        """Reserve `total_bytes` in all for a draft that turns out larger. Raises QuotaExceededError."""
        self._reservations.extend(draft, total_bytes)

    # -- sealing ------------------------------------------------------------------------------------------------

    def seal(self, draft: ClipDraft, metadata: Mapping[str, Any], priority: Priority | None = None) -> SpooledClip:
        """Make a written draft durable and give it the next number.

        Raises ValueError (metadata too large or no JSON; draft empty), QuotaExceededError (larger than reserved and
        no room; the draft is dropped) and SealError (fsync or rename failed; the draft is set aside as partial).
        """
        text = encode_metadata(metadata)
        priority = priority or draft.priority
        size_bytes = draft.path.stat().st_size
        if size_bytes == 0:
            raise ValueError(f"draft {draft.path} is empty: write the clip before sealing it, or discard it")
        try:
            self.extend(draft, size_bytes)
        except QuotaExceededError:
            self.discard(draft)
            raise
        try:
            sync_file(draft.path)
            sha256 = sha256_of(draft.path)
            self._note(draft, sha256, text, priority)
            return self._give_number(draft, sha256, size_bytes, text, priority)
        except (OSError, sqlite3.Error) as error:
            raise SealError(f"cannot seal {draft.path}: {error}; it is kept as partial") from error
        finally:
            draft.release()

    def _note(self, draft: ClipDraft, sha256: str, metadata: str, priority: Priority) -> None:
        """Keep what a file name cannot say, in case we die between rename and row."""
        with self._ledger.transaction() as connection:
            connection.execute(
                "UPDATE drafts SET sha256 = ?, metadata = ?, priority = ? WHERE id = ?",
                (sha256, metadata, priority.value, draft.draft_id),
            )

    def _give_number(
        self, draft: ClipDraft, sha256: str, size_bytes: int, metadata: str, priority: Priority
    ) -> SpooledClip:
        wall_ns = self._clock.wall_ns()
        with self._ledger.transaction() as connection:
            n = next_number(connection)
            if any(self.folder.clips.glob(f"{n:012d}-*.mcap")):
                raise SealError(f"number {n} already has a file but no row: an earlier seal failed; call recover()")
            write_durably(self.folder.counter, f"{n}\n".encode())
            path = self.folder.clips / clip_file_name(n, sha256)
            rename_durably(draft.path, path)
            insert_clip(connection, n, path, sha256, size_bytes, priority, metadata, wall_ns)
            connection.execute("DELETE FROM drafts WHERE id = ?", (draft.draft_id,))
        return SpooledClip(n, path, sha256, size_bytes, priority, json.loads(metadata), wall_ns)

    def discard(self, draft: ClipDraft) -> None:
        """Drop a draft and its reservation."""
        remove_durably(draft.path)
        with self._ledger.transaction() as connection:
            connection.execute("DELETE FROM drafts WHERE id = ?", (draft.draft_id,))
        draft.release()

    # -- partial clips ------------------------------------------------------------------------------------------

    def partial(self) -> list[PartialClip]:
        """Drafts whose writer died, and damaged files, oldest first."""
        with self._ledger.reading() as connection:
            rows = connection.execute("SELECT * FROM drafts WHERE abandoned = 1 ORDER BY id").fetchall()
        return [
            PartialClip(
                int(row["id"]),
                self.folder.partial / row["file_name"],
                int(row["reserved_bytes"]),
                Priority(row["priority"]),
            )
            for row in rows
        ]

    def resume(self, partial: PartialClip) -> ClipDraft:
        """Take over a partial clip: copy what is readable of it into a new draft, then discard it.

        Sealing it in place would trust pages whose fsync may have failed. Raises UnknownClipError when it is gone.
        """
        with self._ledger.transaction() as connection:
            descriptor = try_lock(partial.path) if partial.path.exists() else None
            if descriptor is None:
                raise UnknownClipError(f"partial clip {partial.path} is gone, or another process has taken it")
            connection.execute("UPDATE drafts SET abandoned = 0 WHERE id = ?", (partial.draft_id,))
        return ClipDraft(partial.draft_id, partial.path, partial.size_bytes, partial.priority, descriptor)

    # -- delivery -----------------------------------------------------------------------------------------------

    def pending(self, limit: int = 1000) -> list[SpooledClip]:
        """Clips to deliver: highest priority first, oldest first within one priority."""
        with self._ledger.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM clips WHERE state = 'pending' ORDER BY rank, n LIMIT ?", (limit,)
            ).fetchall()
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
        with self._ledger.reading() as connection:
            query = "SELECT 1 FROM clips WHERE json_extract(metadata, '$.clip_id') = ? LIMIT 1"
            return connection.execute(query, (clip_id,)).fetchone() is not None

    def mark_delivered(self, n: int) -> bool:
        """The receiver holds clip `n` durably: record that, then unlink it. False when that was known already.

        A clip that was entombed while its last bytes were on their way counts as delivered after all.
        """
        with self._ledger.transaction() as connection:
            changed = connection.execute(
                "UPDATE clips SET state = 'delivered', reason = '' WHERE n = ? AND state != 'delivered'", (n,)
            ).rowcount
        if not changed:
            self.clip(n)
        unlink_clip(self.folder, self._ledger, n)
        return bool(changed)

    def tombstone(self, n: int, reason: str) -> bool:
        """Give up on a pending clip, with an alarm. False when it was settled already."""
        with self._ledger.transaction() as connection:
            changed = entomb(connection, n, reason, self._clock.wall_ns())
        if not changed:
            self.clip(n)
        unlink_clip(self.folder, self._ledger, n)
        return changed

    def unreported_tombstones(self, limit: int = 100) -> list[Tombstone]:
        """Tombstones that the receiver has not confirmed yet, oldest first."""
        with self._ledger.reading() as connection:
            rows = connection.execute(
                "SELECT n, reason FROM clips WHERE state = 'tombstoned' AND reported = 0 ORDER BY n LIMIT ?", (limit,)
            ).fetchall()
        return [Tombstone(int(row["n"]), str(row["reason"])) for row in rows]

    def mark_tombstone_reported(self, n: int) -> None:
        """The receiver knows that `n` will never come."""
        with self._ledger.transaction() as connection:
            connection.execute("UPDATE clips SET reported = 1 WHERE n = ? AND state = 'tombstoned'", (n,))

    # -- figures ------------------------------------------------------------------------------------------------

    def counts(self) -> SpoolCounts:
        """The ledger in numbers, all as of one instant."""
        with self._ledger.transaction() as connection:
            return count(connection, self.quota_bytes)

    def alarms(self, limit: int = 100) -> list[str]:
        """The newest alarms, newest first."""
        with self._ledger.reading() as connection:
            rows = connection.execute("SELECT text FROM alarms ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
        return [str(row[0]) for row in rows]

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
