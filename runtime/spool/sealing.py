"""The last steps of a seal, and how they are taken back: the same for a recorder that seals and for start-up.

Inside one write transaction: raise `counter`, rename, fsync both folders, insert the row. If any of it fails, commit
included, the clip's file is removed and the counter set back: a number is given out with file and row, or not at all.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.formats.durable_files import remove_durably, rename_durably, write_durably
from runtime.messages import Priority
from runtime.spool.accounts import insert_clip, next_number
from runtime.spool.clips import ClipDraft, SealError, SpooledClip, SpoolError, clip_file_name
from runtime.spool.folder import SpoolFolder


@dataclass(frozen=True, slots=True)
class WrittenClip:
    """A durable file in `partial/` that is about to get a number."""

    draft_id: int
    path: Path
    sha256: str
    size_bytes: int
    priority: Priority
    metadata: str


def sync_draft(draft: ClipDraft) -> int:
    """Cut the draft to what was written and make it durable; its size in bytes. Raises OSError, never to be retried.

    The sync goes through the descriptor that was opened with the draft: only that one hears of every write-back that
    failed since, whoever wrote (fsync(2), ERRORS).
    """
    if draft.stream is not None:
        os.ftruncate(draft.lock_descriptor, draft.stream.finished_bytes())
    elif os.fstat(draft.lock_descriptor).st_ino != draft.path.stat().st_ino:
        raise SpoolError(f"{draft.path} was replaced by another file: write into the draft itself")
    os.fsync(draft.lock_descriptor)
    return os.fstat(draft.lock_descriptor).st_size


def place(connection: sqlite3.Connection, folder: SpoolFolder, clip: WrittenClip, wall_ns: int) -> SpooledClip:
    """Give the next number to a durable file. Inside a transaction, and inside `taken_back_on_failure`."""
    n = next_number(connection)
    if folder.has_file(n):
        raise SealError(f"number {n} already has a file but no row: an earlier seal failed; call recover()")
    if (counted := folder.highest_counted()) >= n:
        raise SealError(f"`counter` is at {counted}, the ledger says that {n} is next: rows were lost; call recover()")
    write_durably(folder.counter, f"{n}\n".encode())
    path = folder.clips / clip_file_name(n, clip.sha256)
    rename_durably(clip.path, path)
    insert_clip(connection, n, path, clip.sha256, clip.size_bytes, clip.priority, clip.metadata, wall_ns)
    connection.execute("DELETE FROM drafts WHERE id = ?", (clip.draft_id,))
    return SpooledClip(n, path, clip.sha256, clip.size_bytes, clip.priority, json.loads(clip.metadata), wall_ns)


@contextmanager
def taken_back_on_failure(folder: SpoolFolder, clip: WrittenClip, n: int) -> Iterator[None]:
    """Around the transaction that calls `place` for number `n`: what it did to files is undone when it fails.

    Only errors are undone: after a kill, start-up finds a file whose row is missing and adopts it.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        target = folder.clips / clip_file_name(n, clip.sha256)
        if not clip.path.exists() and target.exists():
            remove_durably(target)
        if not isinstance(error, SealError) and folder.highest_counted() == n:
            write_durably(folder.counter, f"{n - 1}\n".encode())
        raise
