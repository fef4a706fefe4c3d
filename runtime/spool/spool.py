"""`Spool`: begin, seal, deliver, entomb. The package's docstring is its contract."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.clock import Clock, SystemClock
from runtime.formats.durable_files import free_disk_bytes, make_directory_durably, sha256_of, sync_directory
from runtime.formats.synced_stream import SyncedStream
from runtime.messages import NANOSECONDS_PER_SECOND, Priority
from runtime.spool.accounts import fold_settled, next_number, shorten_settled
from runtime.spool.adoption import Describe, RecoveryReport, StartUp, no_progress
from runtime.spool.age import Age
from runtime.spool.ballast import Ballast
from runtime.spool.clips import (
    ClipDraft,
    PartialClip,
    QuotaExceededError,
    SealError,
    SpooledClip,
    current_boot_id,
    encode_metadata,
)
from runtime.spool.folder import SpoolFolder, bound_evidence
from runtime.spool.gate import Gate
from runtime.spool.ledger import Ledger
from runtime.spool.ledger_opening import open_or_set_aside
from runtime.spool.partials import Partials
from runtime.spool.recovery import Recovery
from runtime.spool.reservations import Reservations
from runtime.spool.sealing import WrittenClip, bury, condemn, counter_taken_back, place, sync_draft
from runtime.spool.sealing import taken_back_on_failure as taken_back
from runtime.spool.shape import ClipShape
from runtime.spool.wall_time import TrustedWall

#: Part of the quota that clips never get: SQLite's file and its write-ahead log live there.
LEDGER_RESERVE_BYTES = 8 << 20
#: Settled rows that stay in the ledger for people to read; older ones become counts.
KEEP_SETTLED_ROWS = 10_000
#: Old rows are folded after this many seals.
TIDY_EVERY = 256

log = logging.getLogger(__name__)


class Spool(Partials):
    """One spool directory, opened by one process; safe to use from its threads and beside other processes."""

    def __init__(
        self,
        folder: SpoolFolder,
        ledger: Ledger,
        quota_bytes: int,
        clock: Clock,
        ledger_reserve_bytes: int,
        disk_free: Callable[[Path], int],
        retention_ns: int | None,
        boot_id: str,
        describe: Describe | None,
        progress: Callable[[], None],
    ) -> None:
        super().__init__(folder, ledger, quota_bytes, TrustedWall(clock, boot_id, retention_ns))
        self.last_recovery = RecoveryReport()
        self._clock = clock
        self._seals_until_tidy = TIDY_EVERY
        self._is_torn = False
        self.tidying_failures = 0
        self.boot_id = boot_id
        self._describe = describe
        self._progress = progress
        self._reservations = Reservations(folder, ledger, quota_bytes, ledger_reserve_bytes, self._wall, disk_free)

    @classmethod
    def open(
        cls,
        directory: Path,
        quota_bytes: int,
        *,
        clock: Clock | None = None,
        ledger_reserve_bytes: int = LEDGER_RESERVE_BYTES,
        disk_free: Callable[[Path], int] = free_disk_bytes,
        retention_s: float | None = None,
        boot_id: str | None = None,
        describe: Describe | None = None,
        progress: Callable[[], None] = no_progress,
    ) -> Spool:
        """Open or create a spool and recover it. `last_recovery` tells what was found.

        Clips expire `retention_s` after sealing, those sealed before it was given too, or when their metadata says so
        (`expires_wall_ns`), whichever is earlier. `describe` tells what a file is that the ledger has lost, `progress`
        is called while a long start gets on. Raises ValueError for a quota that leaves no room for clips, SpoolError
        for a folder that contradicts itself, LedgerError and OSError (errno ENOSPC, EIO) where the disk is to blame:
        open it again later.
        """
        if quota_bytes <= ledger_reserve_bytes:
            raise ValueError(
                f"spool quota_bytes is {quota_bytes}: raise it above {ledger_reserve_bytes}, which the ledger may need"
            )
        folder, clock = SpoolFolder(directory), clock or SystemClock()
        for path in (folder.clips, folder.partial):
            make_directory_durably(path)
        retention_ns = None if retention_s is None else round(retention_s * NANOSECONDS_PER_SECOND)
        gate = Gate(folder.lock)
        with gate.opening():
            ledger, damaged = open_or_set_aside(folder.ledger, gate, Ballast(folder.ballast), clock.wall_ns())
            sync_directory(directory)  # the ledger's own name
            spool = cls(
                folder, ledger, quota_bytes, clock, ledger_reserve_bytes, disk_free, retention_ns,
                boot_id or current_boot_id(), describe, progress,
            )  # fmt: skip
            spool._recover(damaged)
        return spool

    @property
    def must_be_reopened(self) -> bool:
        """True when only a new start helps: a failed seal could not be taken back, or the ledger is gone."""
        return self._is_torn or self._ledger.is_lost

    def recover(self) -> RecoveryReport:
        """Make folder and ledger agree again (also done by `open`); harmless beside a living recorder."""
        with self._ledger.alone():
            return self._recover(damaged=False)

    def _recover(self, damaged: bool) -> RecoveryReport:
        wall_ns = self._clock.wall_ns()
        start = StartUp(self.folder, self._ledger, self._wall, wall_ns, self._describe, self._progress)
        self.last_recovery = Recovery(start).run(damaged)
        self._ledger.is_new = False
        self._is_torn = False
        self._try_to_tidy()
        bound_evidence(self.folder, self._ledger, self.quota_bytes, self._wall.now_ns())
        self._reservations.enforce()
        self._ledger.ballast.restore()
        return self.last_recovery

    def _try_to_tidy(self) -> None:
        """Tidy; on a full disk the ledger stays as large as it is, until the next attempt.

        What asked for it is done by then: a clip that was sealed must not look as if it was not.
        """
        self._seals_until_tidy = TIDY_EVERY
        try:
            self._tidy()
        except (OSError, sqlite3.OperationalError) as error:
            self.tidying_failures += 1
            log.warning("the ledger %s was not tidied: %s", self.folder.ledger, error)

    def _tidy(self) -> None:
        """Keep the ledger within its share of the quota."""
        with self._ledger.transaction() as connection:
            fold_settled(connection, KEEP_SETTLED_ROWS)
            shorten_settled(connection)
        if self._reservations.ledger_takes_room and self._ledger.is_mostly_empty():
            self._ledger.move_to_fresh_file()

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- drafts -------------------------------------------------------------------------------------------------

    def begin(
        self,
        estimated_bytes: int,
        priority: Priority = Priority.NORMAL,
        shape: ClipShape | None = None,
        metadata: Mapping[str, Any] | None = None,
        as_old_as: Age | None = None,
    ) -> ClipDraft:
        """Reserve room and hand out an empty, locked draft file.

        With a `shape`, a clip of the highest priority for which there is no room is told what would fit. `metadata`
        is what a partial clip is known by, should the recorder die. A clip that is made of something older is
        `as_old_as` that. Raises QuotaExceededError, of which ShrinkRequiredError is one.
        """
        self._ledger.ballast.restore()
        self._drop_left_rows()
        wanted = (estimated_bytes, priority, shape, metadata or {}, as_old_as)
        try:
            draft = self._reservations.begin(*wanted)
        except QuotaExceededError:
            if not self._reservations.ledger_takes_room:
                raise
            self._try_to_tidy()
            draft = self._reservations.begin(*wanted)
        try:
            sync_directory(self.folder.partial)  # else a power cut takes the name away, whatever was synced inside
        except OSError:
            self.discard(draft)
            raise
        return draft

    def write_into(self, draft: ClipDraft) -> SyncedStream:
        """The stream to write a draft with: it stays within its reservation, and syncs every two seconds.

        Raises QuotaExceededError when the disk cannot give what was reserved.
        """
        try:
            draft.stream = SyncedStream(
                draft.lock_descriptor,
                draft.reserved_bytes,
                lambda total_bytes: self._reservations.extend(draft, total_bytes),
                self._clock.now_ns,
            )
        except OSError as error:
            raise QuotaExceededError(f"cannot take {draft.reserved_bytes} bytes from the disk: {error}", 0) from error
        return draft.stream

    def extend(self, draft: ClipDraft, total_bytes: int) -> None:
        """Reserve `total_bytes` in all for a draft that turns out larger. Raises QuotaExceededError."""
        self._reservations.extend(draft, total_bytes)

    # -- sealing ------------------------------------------------------------------------------------------------

    def seal(self, draft: ClipDraft, metadata: Mapping[str, Any], priority: Priority | None = None) -> SpooledClip:
        """Make a written draft durable and give it the next number.

        Raises ValueError (metadata too large or no JSON; draft empty), QuotaExceededError (larger than reserved and
        no room; the draft is dropped) and SealError (fsync or rename failed; the draft holds no number and can only
        be discarded).
        """
        if not draft.may_be_sealed:
            raise ValueError(f"{draft.path} was left behind by a recorder that died: copy what is readable of it")
        text = encode_metadata(metadata)
        size_bytes = draft.path.stat().st_size if draft.stream is None else draft.stream.tell()
        if size_bytes == 0:
            raise ValueError(f"draft {draft.path} is empty: write the clip before sealing it, or discard it")
        try:
            if size_bytes > draft.reserved_bytes:  # what was reserved is there, however the ledger has grown since
                self.extend(draft, size_bytes)
        except QuotaExceededError:
            self.discard(draft)
            raise
        try:
            size_bytes = sync_draft(draft)
            clip = WrittenClip(
                draft.draft_id, draft.path, sha256_of(draft.path), size_bytes, priority or draft.priority, text
            )
            sealed = self._give_number(clip)
        except (OSError, sqlite3.Error) as error:
            self._is_torn |= self._number_is_taken()
            self._give_up(draft)
            raise SealError(f"cannot seal {draft.path}: {error}; it holds no number, discard it") from error
        draft.release()
        self._seals_until_tidy -= 1
        if self._seals_until_tidy <= 0:
            self._try_to_tidy()
        return sealed

    def _give_number(self, clip: WrittenClip) -> SpooledClip:
        with self._ledger.transaction() as connection:  # what a file name cannot say, in case we die before the row
            connection.execute(
                "UPDATE drafts SET sha256 = ?, metadata = ?, priority = ? WHERE id = ?",
                (clip.sha256, clip.metadata, clip.priority.value, clip.draft_id),
            )
            n = next_number(connection)
        with taken_back(self.folder, clip, n), self._ledger.transaction() as connection:
            sealed = place(connection, self.folder, clip, self._clock.wall_ns())
            self._wall.note_seal(connection, sealed.n)
            return sealed

    def entomb_partial(self, partial: PartialClip, reason: str) -> int:
        """Give a partial clip that may not be sealed a number, under which it is told to be no more; that number.

        Raises UnknownClipError when it is gone, LedgerError and OSError; the next start finishes what failed midway.
        """
        remains = self.resume(partial)
        try:
            with self._ledger.transaction() as connection:
                condemn(connection, partial, reason)
                n = next_number(connection)
            with counter_taken_back(self.folder, n), self._ledger.transaction() as connection:
                return bury(connection, self.folder, partial.draft_id, self._wall.now_ns())
        except (OSError, sqlite3.Error):
            self._is_torn |= self._number_is_taken()
            raise
        finally:
            remains.release()

    def _number_is_taken(self) -> bool:
        with self._ledger.reading() as connection:
            n = next_number(connection)
        return self.folder.has_file(n) or self.folder.highest_counted() >= n

    def _give_up(self, draft: ClipDraft) -> None:
        """Nobody may complete this seal; the lock is kept when the ledger cannot be told."""
        draft.may_be_sealed = False
        with self._ledger.transaction() as connection:
            connection.execute("UPDATE drafts SET sha256 = NULL WHERE id = ?", (draft.draft_id,))
        draft.release()
