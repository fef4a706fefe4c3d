"""The last steps of a seal, and how they are taken back: the same for a recorder that seals and for start-up.

Inside one write transaction: raise `counter`, rename, fsync both folders, insert the row. If any of it fails, commit
included, the clip's file is removed and the counter set back: a number is given out with file and row, or not at all.

A partial clip that may not be sealed gets a number too (`bury`), so that nothing vanishes without an explanation: it is
condemned first, with the reason; then, inside one transaction, counter, tombstone, and the file goes. Start-up buries
what was condemned.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.formats.durable_files import remove_durably, rename_durably
from runtime.formats.offer_limits import metadata_text
from runtime.messages import Priority
from runtime.spool.accounts import entomb, insert_clip, next_number
from runtime.spool.age import hand_on_age
from runtime.spool.clips import (
    CONDEMNED,
    ClipDraft,
    PartialClip,
    SealError,
    SpooledClip,
    SpoolError,
    UnknownClipError,
    clip_file_name,
)
from runtime.spool.folder import SpoolFolder

RESTART = "start the process again: that recovers it"


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
    n = _take_number(connection, folder)
    path = folder.clips / clip_file_name(n, clip.sha256)
    rename_durably(clip.path, path)
    insert_clip(connection, n, path, clip.sha256, clip.size_bytes, clip.priority, clip.metadata, wall_ns)
    age = hand_on_age(connection, clip.draft_id, n)
    connection.execute("DELETE FROM drafts WHERE id = ?", (clip.draft_id,))
    since_ns = wall_ns if age is None else age.since_wall_ns
    return SpooledClip(n, path, clip.sha256, clip.size_bytes, clip.priority, json.loads(clip.metadata), since_ns)


def _take_number(connection: sqlite3.Connection, folder: SpoolFolder) -> int:
    n = next_number(connection)
    if folder.has_file(n):
        raise SealError(f"number {n} already has a file but no row: an earlier seal failed; {RESTART}")
    if (counted := folder.highest_counted()) >= n:
        raise SealError(f"`counter` is at {counted}, the ledger says that {n} is next: rows were lost; {RESTART}")
    folder.count_to(n)
    return n


def condemn(connection: sqlite3.Connection, partial: PartialClip, reason: str) -> None:
    """From now on a partial clip can only be buried. Inside a transaction."""
    said = json.dumps({"reason": reason, "metadata": metadata_text(partial.metadata)})  # it never travels
    connection.execute(
        "UPDATE drafts SET abandoned = ?, metadata = ? WHERE id = ?", (CONDEMNED, said, partial.draft_id)
    )


def bury(connection: sqlite3.Connection, folder: SpoolFolder, draft_id: int, wall_ns: int) -> int:
    """Give the next number to a condemned draft, as a tombstone. Inside transaction and `counter_taken_back`."""
    row = connection.execute("SELECT * FROM drafts WHERE id = ?", (draft_id,)).fetchone()
    if row is None:
        raise UnknownClipError(f"draft {draft_id} is gone: another process has buried it")
    said = json.loads(row["metadata"])
    n = _take_number(connection, folder)
    insert_clip(
        connection, n, Path(""), "", int(row["reserved_bytes"]), Priority(row["priority"]), said["metadata"], wall_ns
    )
    connection.execute("UPDATE clips SET has_file = 0 WHERE n = ?", (n,))
    entomb(connection, n, said["reason"], wall_ns)
    remove_durably(folder.partial / row["file_name"])
    connection.execute("DELETE FROM drafts WHERE id = ?", (draft_id,))
    return n


@contextmanager
def counter_taken_back(folder: SpoolFolder, n: int) -> Iterator[None]:
    """Around a transaction that takes number `n`: `counter` is set back when it fails."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if not isinstance(error, SealError) and folder.highest_counted() == n:
            folder.count_to(n - 1)
        raise


@contextmanager
def taken_back_on_failure(folder: SpoolFolder, clip: WrittenClip, n: int) -> Iterator[None]:
    """Around the transaction that calls `place` for number `n`: what it did to files is undone when it fails.

    Only errors are undone: after a kill, start-up finds a file whose row is missing and adopts it.
    """
    with counter_taken_back(folder, n):
        try:
            yield
        except (OSError, sqlite3.Error):
            target = folder.clips / clip_file_name(n, clip.sha256)
            if not clip.path.exists() and target.exists():
                remove_durably(target)
            raise
