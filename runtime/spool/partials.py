"""Partial clips: drafts whose writer died, and files that recovery set aside. They go before any clip for room."""

from __future__ import annotations

import json

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
            connection.execute("UPDATE drafts SET abandoned = 0 WHERE id = ?", (partial.draft_id,))
        return ClipDraft(
            partial.draft_id, partial.path, partial.size_bytes, partial.priority, descriptor, may_be_sealed=False
        )

    def abandon(self, draft: ClipDraft) -> None:
        """Let a draft be partial again."""
        with self._ledger.transaction() as connection:
            connection.execute("UPDATE drafts SET abandoned = 1 WHERE id = ?", (draft.draft_id,))
        draft.release()
