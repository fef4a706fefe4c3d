"""Partial clips: drafts whose writer died, and damaged files set aside. `admission` says when they go for room."""

from __future__ import annotations

import json
import os

from runtime.formats.durable_files import remove_durably
from runtime.messages import Priority
from runtime.spool.accounts import add_alarm, entomb
from runtime.spool.age import Age, age_noted, age_of_clip
from runtime.spool.clips import (
    ABANDONED,
    BEING_WRITTEN,
    DAMAGED_PREFIX,
    ClipDraft,
    PartialClip,
    UnknownClipError,
    try_lock,
)
from runtime.spool.deliveries import Deliveries
from runtime.spool.folder import SpoolFolder, bound_evidence, moved_back_on_failure, set_aside
from runtime.spool.ledger import Ledger
from runtime.spool.wall_time import TrustedWall


class Partials(Deliveries):
    """The partial clips of one spool."""

    def __init__(self, folder: SpoolFolder, ledger: Ledger, quota_bytes: int, wall: TrustedWall) -> None:
        super().__init__(folder, ledger, quota_bytes, wall)
        self._left_rows: list[int] = []  # drafts that are gone, and that the ledger would not forget when they went

    def partial(self) -> list[PartialClip]:
        """Drafts whose writer died, and damaged files, oldest first."""
        with self._ledger.reading() as connection:
            rows = connection.execute("SELECT * FROM drafts WHERE abandoned = ? ORDER BY id", (ABANDONED,)).fetchall()
        return [
            PartialClip(
                int(row["id"]),
                self.folder.partial / row["file_name"],
                int(row["reserved_bytes"]),
                Priority(row["priority"]),
                json.loads(row["metadata"] or "{}"),
                row["boot_id"],
                row["begun_ns"],
                age_noted(row),
            )
            for row in rows
        ]

    def age_of(self, n: int) -> Age:
        """Of a sealed clip, for what is made of it (`begin`). UnknownClipError, also for rows folded long ago."""
        with self._ledger.reading() as connection:
            age = age_of_clip(connection, n)
        if age is None:
            raise UnknownClipError(f"no clip has number {n} in {self.folder.ledger}")
        return age

    def age_of_partial(self, partial: PartialClip) -> Age:
        """Since it was begun, or of what it is made of. Across runs of the machine its file's time tells. OSError."""
        if partial.as_old_as is not None:
            return partial.as_old_as
        return Age(partial.boot_id, partial.begun_ns, partial.path.stat().st_mtime_ns)

    def resume(self, partial: PartialClip) -> ClipDraft:
        """Take over a partial clip: copy what is readable of it into a new draft, then discard it.

        It cannot be sealed in place: that would trust pages whose fsync may have failed. Raises UnknownClipError when
        it is gone.
        """
        with self._ledger.transaction() as connection:
            descriptor = try_lock(partial.path) if partial.path.exists() else None
            if descriptor is None:
                raise UnknownClipError(f"partial clip {partial.path} is gone, or another process has taken it")
            try:
                connection.execute("UPDATE drafts SET abandoned = ? WHERE id = ?", (BEING_WRITTEN, partial.draft_id))
            except BaseException:
                os.close(descriptor)
                raise
        return ClipDraft(
            partial.draft_id, partial.path, partial.size_bytes, partial.priority, descriptor, may_be_sealed=False
        )

    def set_damaged_aside(self, n: int, reason: str) -> bool:
        """Give up on a pending clip whose file is not what was sealed, and keep that file for people to look at.

        As `tombstone`, but the file becomes `partial/damaged-<its name>`: bounded, and first to go when room is needed.
        """
        with self._ledger.reading() as connection:
            row = connection.execute("SELECT file_name FROM clips WHERE n = ? AND state = 'pending'", (n,)).fetchone()
        if row is None or not (path := self.folder.clips / row["file_name"]).exists():
            return self.tombstone(n, reason)
        aside = self.folder.partial / f"{DAMAGED_PREFIX}{path.name}"
        with moved_back_on_failure(path, aside), self._ledger.transaction() as connection:
            changed = entomb(connection, n, reason, self._wall.now_ns())
            if changed:
                connection.execute("UPDATE clips SET has_file = 0 WHERE n = ?", (n,))
                set_aside(connection, self.folder, path, DAMAGED_PREFIX, f"clip {n}: {reason}")
        bound_evidence(self.folder, self._ledger, self.quota_bytes, self._wall.now_ns())
        return changed

    def expire_partials(self) -> int:
        """Delete partial clips that are older than sealed ones may become; how many. Raises LedgerError and OSError.

        One that cannot be deleted stays partial, and nobody's.
        """
        deleted = 0
        for partial in self.partial():
            try:
                if not self._wall.is_too_old(self.age_of_partial(partial)):
                    continue
                draft = self.resume(partial)
            except (UnknownClipError, FileNotFoundError):
                continue  # somebody else has just taken it
            try:
                self.discard(draft)
            except OSError:
                self.abandon(draft)
                raise
            with self._ledger.transaction() as connection:
                add_alarm(connection, self._wall.now_ns(), f"partial clip {partial.path.name} was too old, and deleted")
            deleted += 1
        return deleted

    def discard(self, draft: ClipDraft) -> None:
        """Drop a draft and its reservation. A row that cannot go now goes when the next draft begins."""
        try:
            remove_durably(draft.path)
        finally:
            draft.release()
            if not draft.path.exists():  # where only the directory's fsync failed, the file is gone all the same
                self._left_rows.append(draft.draft_id)
        self._drop_left_rows()

    def _drop_left_rows(self) -> None:
        """Of drafts that have no file any more: they reserve nothing."""
        if not self._left_rows:
            return
        rows = [(draft_id,) for draft_id in self._left_rows]
        with self._ledger.transaction() as connection:
            connection.executemany("DELETE FROM drafts WHERE id = ?", rows)
        del self._left_rows[: len(rows)]

    def abandon(self, draft: ClipDraft) -> None:
        """Let a draft be partial again."""
        try:
            with self._ledger.transaction() as connection:
                connection.execute("UPDATE drafts SET abandoned = ? WHERE id = ?", (ABANDONED, draft.draft_id))
        finally:
            draft.release()
