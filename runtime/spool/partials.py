"""Partial clips: drafts whose writer died, and files that recovery set aside. They go before any clip for room."""

from __future__ import annotations

import json
import os

from runtime.formats.durable_files import remove_durably
from runtime.messages import Priority
from runtime.spool.clips import ClipDraft, PartialClip, UnknownClipError, try_lock
from runtime.spool.deliveries import Deliveries


class Partials(Deliveries):
    """The partial clips of one spool."""

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
                json.loads(row["metadata"] or "{}"),
                row["boot_id"],
                row["begun_ns"],
            )
            for row in rows
        ]

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
                connection.execute("UPDATE drafts SET abandoned = 0 WHERE id = ?", (partial.draft_id,))
            except BaseException:
                os.close(descriptor)
                raise
        return ClipDraft(
            partial.draft_id, partial.path, partial.size_bytes, partial.priority, descriptor, may_be_sealed=False
        )

    def expire_partials(self) -> int:
        """Delete partial clips that are older than sealed ones may become; how many. Raises LedgerError and OSError.

        One that cannot be deleted stays partial, and nobody's.
        """
        deleted = 0
        for partial in self.partial():
            try:
                begun_wall_ns = partial.path.stat().st_mtime_ns
                if not self._wall.is_too_old(partial.boot_id, partial.begun_ns, begun_wall_ns):
                    continue
                draft = self.resume(partial)
            except (UnknownClipError, FileNotFoundError):
                continue  # somebody else has just taken it
            try:
                self.discard(draft)
            except OSError:
                self.abandon(draft)
                raise
            deleted += 1
        return deleted

    def discard(self, draft: ClipDraft) -> None:
        """Drop a draft and its reservation."""
        remove_durably(draft.path)
        with self._ledger.transaction() as connection:
            connection.execute("DELETE FROM drafts WHERE id = ?", (draft.draft_id,))
        draft.release()

    def abandon(self, draft: ClipDraft) -> None:
        """Let a draft be partial again."""
        try:
            with self._ledger.transaction() as connection:
                connection.execute("UPDATE drafts SET abandoned = 1 WHERE id = ?", (draft.draft_id,))
        finally:
            draft.release()
