"""The spool's folder: where things lie, and how files leave it once the ledger has decided that they go."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.formats.durable_files import remove_durably, rename_durably, write_durably
from runtime.spool.accounts import add_abandoned, add_alarm
from runtime.spool.clips import ABANDONED, CLIP_NAME, SpoolError, is_evidence, occupied_bytes
from runtime.spool.ledger import Ledger

#: Files kept to be looked at: so many, and so much of the quota.
MAX_EVIDENCE = 16
EVIDENCE_SHARE = 8


@dataclass(frozen=True, slots=True)
class SpoolFolder:
    """The paths of a spool."""

    directory: Path

    @property
    def clips(self) -> Path:
        return self.directory / "clips"

    @property
    def partial(self) -> Path:
        return self.directory / "partial"

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger.sqlite"

    @property
    def counter(self) -> Path:
        return self.directory / "counter"

    @property
    def ballast(self) -> Path:
        return self.directory / "ballast"

    @property
    def lock(self) -> Path:
        return self.directory / "spool.lock"

    def clip_files(self) -> dict[int, Path]:
        """Sealed files by number. Raises SpoolError when two files claim one number."""
        found: dict[int, Path] = {}
        for path in sorted(self.clips.iterdir()):
            match = CLIP_NAME.fullmatch(path.name)
            if match is None:
                continue
            n = int(match.group(1))
            if n in found:
                raise SpoolError(f"{found[n]} and {path} claim the same number: move one of them away")
            found[n] = path
        return found

    def has_file(self, n: int) -> bool:
        """True when number `n` has a sealed file."""
        return any(self.clips.glob(f"{n:012d}-*.mcap"))

    def highest_counted(self) -> int:
        """The number in `counter`, 0 when the file is missing or unreadable."""
        try:
            text = self.counter.read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return 0
        return int(text) if text.strip().isdigit() else 0

    def count_to(self, n: int) -> None:
        """Write `counter` durably. Raises OSError."""
        write_durably(self.counter, f"{n}\n".encode())


def unlink_clip(folder: SpoolFolder, ledger: Ledger, n: int) -> None:
    """Remove the file of a settled clip, and note that it is gone. Harmless when it was removed already."""
    with ledger.reading() as connection:
        row = connection.execute(
            "SELECT file_name FROM clips WHERE n = ? AND has_file = 1 AND state != 'pending'", (n,)
        ).fetchone()
    if row is None:
        return
    remove_durably(folder.clips / row["file_name"])
    ledger.write(lambda connection: connection.execute("UPDATE clips SET has_file = 0 WHERE n = ?", (n,)))


def set_aside(connection: sqlite3.Connection, folder: SpoolFolder, path: Path, prefix: str, why: str) -> None:
    """Move a file out of `clips/` for people to look at, charged as before. Inside a transaction that settles it."""
    aside = folder.partial / f"{prefix}{path.name}"
    size_bytes = path.stat().st_size
    rename_durably(path, aside)
    if path.exists():  # a power cut had left it under both names, and renaming a file to itself does nothing
        remove_durably(path)
    add_abandoned(connection, aside.name, size_bytes, json.dumps({"set_aside": why}))


@contextmanager
def moved_back_on_failure(path: Path, aside: Path) -> Iterator[None]:
    """Around the transaction that calls `set_aside`: a row that stays as it was keeps its file where it was.

    After a kill, start-up finds the file aside and entombs its row.
    """
    try:
        yield
    except (OSError, sqlite3.Error):
        if aside.exists() and not path.exists():
            rename_durably(aside, path)
        raise


def bound_evidence(folder: SpoolFolder, ledger: Ledger, quota_bytes: int, wall_ns: int) -> None:
    """Drop what was set aside beyond MAX_EVIDENCE files or a share of the quota, the oldest first."""
    with ledger.reading() as connection:
        rows = connection.execute(
            f"SELECT id, file_name, reserved_bytes FROM drafts WHERE abandoned = {ABANDONED} ORDER BY id DESC"
        ).fetchall()
    count, kept_bytes = 0, 0
    for row in rows:
        if not is_evidence(row["file_name"]):
            continue
        size_bytes = occupied_bytes(int(row["reserved_bytes"]))
        if count < MAX_EVIDENCE and kept_bytes + size_bytes <= quota_bytes // EVIDENCE_SHARE:
            count, kept_bytes = count + 1, kept_bytes + size_bytes
        else:
            limit = f"{MAX_EVIDENCE} files and 1/{EVIDENCE_SHARE} of the quota"
            drop_partial(folder, ledger, int(row["id"]), wall_ns, f"dropped: {limit} are kept to be looked at")


def drop_partial(folder: SpoolFolder, ledger: Ledger, draft_id: int, wall_ns: int, reason: str) -> None:
    """Remove a partial clip that nobody has taken over, with an alarm."""
    with ledger.transaction() as connection:
        row = connection.execute(
            "SELECT * FROM drafts WHERE id = ? AND abandoned = ?", (draft_id, ABANDONED)
        ).fetchone()
        if row is None:
            return
        remove_durably(folder.partial / row["file_name"])
        connection.execute("DELETE FROM drafts WHERE id = ?", (draft_id,))
        add_alarm(connection, wall_ns, f"partial clip {row['file_name']} was {reason}")
