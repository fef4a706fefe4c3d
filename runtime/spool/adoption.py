"""Files of a spool that its ledger does not know, and numbers that nothing is known of: the first part of start-up.

Hashing and syncing every file of a large spool takes minutes, and a start may be ended at any moment: each file is
adopted in a transaction of its own, in ascending order with the gap before it, so that what was done stays done and the
next start goes on behind it. Meanwhile the ledger ends too early. What keeps anybody from giving a number out a second
time is `counter`, which is raised to the highest file before the first of them is adopted.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.formats.durable_files import remove_durably, sha256_of, sync_directory, sync_file
from runtime.messages import Priority
from runtime.spool.accounts import add_alarm, add_to_fact, entomb, fact, insert_clip, next_number
from runtime.spool.age import age_noted, set_age
from runtime.spool.clips import (
    CONDEMNED,
    DAMAGED_PREFIX,
    STRAY_PREFIX,
    SpoolError,
    clip_file_name,
    encode_metadata,
)
from runtime.spool.folder import SpoolFolder, set_aside
from runtime.spool.ledger import Ledger
from runtime.spool.wall_time import TrustedWall

log = logging.getLogger(__name__)

ADOPTED_PRIORITY = Priority.NORMAL
ADOPTED = {"adopted": True}
ADOPTED_METADATA = encode_metadata(ADOPTED)
#: Lost numbers get a row each up to here; before the first file of a new ledger, more are only counted.
MAX_LOST_ROWS = 1000

#: Reads from a sealed file what `seal` was told of it; None when the file does not say.
Describe = Callable[[Path], Mapping[str, Any] | None]


@dataclass(slots=True)
class RecoveryReport:
    """What start-up found and did. All lists empty after a clean stop."""

    ledger_rebuilt: bool = False
    adopted: list[int] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)  # sealed by start-up: the seal was cut short
    unlinked: list[int] = field(default_factory=list)
    tombstoned: list[int] = field(default_factory=list)
    partial: list[int] = field(default_factory=list)  # ids of drafts


def no_progress() -> None:
    """Where nobody waits for a start that takes long."""


@dataclass(frozen=True, slots=True)
class StartUp:
    """What the steps of one start-up share."""

    folder: SpoolFolder
    ledger: Ledger
    wall: TrustedWall
    wall_ns: int
    describe: Describe | None = None
    #: Called after each file that was looked at.
    progress: Callable[[], None] = no_progress
    report: RecoveryReport = field(default_factory=RecoveryReport)

    def entomb(self, connection: sqlite3.Connection, n: int, reason: str) -> None:
        """Give up on a number that has no file."""
        entomb(connection, n, reason, self.wall_ns)
        connection.execute("UPDATE clips SET has_file = 0 WHERE n = ?", (n,))
        self.report.tombstoned.append(n)


class Adoption:
    """Rows for files without one, tombstones for numbers without either."""

    def __init__(self, start: StartUp) -> None:
        self.folder = start.folder
        self.ledger = start.ledger
        self.wall_ns = start.wall_ns
        self.report = start.report
        self._start = start
        self._describe = start.describe

    def run(self) -> None:
        """Raises SpoolError for files or a `counter` that cannot be of this spool, before anything is changed."""
        files = self.folder.clip_files()
        strangers = self._set_strays_aside(files)
        if strangers:
            sync_directory(self.folder.clips)
            sync_directory(self.folder.partial)
            self._check_gaps(strangers)
            if self.folder.highest_counted() < strangers[-1]:
                self.folder.count_to(strangers[-1])
        for n in strangers:
            with self.ledger.transaction() as connection:
                self._bury_gap_before(connection, n)
                self._adopt_file(connection, n, files[n])
            self._start.progress()
        with self.ledger.transaction() as connection:
            self._account_for_lost_numbers(connection)

    def _set_strays_aside(self, files: dict[int, Path]) -> list[int]:
        """The numbers of files to adopt, ascending. Those whose number was settled, or is another file's, are moved."""
        with self.ledger.transaction() as connection:
            known = {int(row["n"]): row for row in connection.execute("SELECT n, file_name, has_file FROM clips")}
            settled_through = fact(connection, "settled_through")
            strangers = []
            for n, path in sorted(files.items()):
                row = known.get(n)
                if row is None and n > settled_through:
                    strangers.append(n)
                elif row is None or not row["has_file"] or row["file_name"] != path.name:
                    self._set_stray_aside(connection, path)
        return strangers

    def _check_gaps(self, strangers: list[int]) -> None:
        """Only before the first file of a new ledger may many numbers be unknown."""
        with self.ledger.reading() as connection:
            before = next_number(connection)
            has_rows = connection.execute("SELECT 1 FROM clips LIMIT 1").fetchone() is not None
        for n in strangers:
            if has_rows and n - before > MAX_LOST_ROWS:
                raise self._does_not_belong(before, n - MAX_LOST_ROWS)
            before, has_rows = n + 1, True

    def _set_stray_aside(self, connection: sqlite3.Connection, path: Path) -> None:
        """A file whose number is settled, or is another file's: somebody put it back; the number stays what it is."""
        set_aside(connection, self.folder, path, STRAY_PREFIX, "its number was settled, or is that of another file")
        add_alarm(connection, self.wall_ns, f"{path.name} came back after its number was given away; set aside")

    def _adopt_file(self, connection: sqlite3.Connection, n: int, path: Path) -> None:
        sync_file(path)
        sha256 = sha256_of(path)
        noted, age = self._noted_draft(connection, sha256, path), None
        if path.name != clip_file_name(n, sha256):
            self._set_damaged_aside(connection, n, path, sha256)
            return
        if noted:  # where a rename is not atomic, a power cut leaves the file under both names
            remove_durably(self.folder.partial / noted["file_name"])
            age = age_noted(noted)
            connection.execute("DELETE FROM drafts WHERE id = ?", (noted["id"],))
            priority, metadata = Priority(noted["priority"]), str(noted["metadata"])
        else:
            priority, metadata = self._what_it_says(path)
        insert_clip(connection, n, path, sha256, path.stat().st_size, priority, metadata, self.wall_ns)
        if age is not None:
            set_age(connection, n, age)
        self._start.wall.note_seal_by_file(connection, n, path.stat().st_mtime_ns)
        self.report.adopted.append(n)

    def _what_it_says(self, path: Path) -> tuple[Priority, str]:
        """Priority and metadata of a file that nothing was noted of."""
        facts = self._describe(path) if self._describe is not None else None
        if facts is None:
            return ADOPTED_PRIORITY, ADOPTED_METADATA
        try:
            return Priority(facts.get("priority", ADOPTED_PRIORITY)), encode_metadata({**facts, **ADOPTED})
        except ValueError as error:  # a file must not keep the spool from opening, whatever it says
            log.warning("%s is adopted without what it says of itself: %s", path, error)
            return ADOPTED_PRIORITY, ADOPTED_METADATA

    def _noted_draft(self, connection: sqlite3.Connection, sha256: str, path: Path) -> sqlite3.Row | None:
        """The draft that this file was: its own file has gone from `partial/`, or is this very file."""
        rows: list[sqlite3.Row] = connection.execute(
            "SELECT * FROM drafts WHERE sha256 = ? ORDER BY id", (sha256,)
        ).fetchall()
        for row in rows:
            draft = self.folder.partial / row["file_name"]
            if not draft.exists() or draft.samefile(path):
                return row
        return None

    def _set_damaged_aside(self, connection: sqlite3.Connection, n: int, path: Path, sha256: str) -> None:
        size_bytes, why = path.stat().st_size, "the file's content does not match its name"
        set_aside(connection, self.folder, path, DAMAGED_PREFIX, why)
        insert_clip(connection, n, path, sha256, size_bytes, ADOPTED_PRIORITY, ADOPTED_METADATA, self.wall_ns)
        self._start.entomb(connection, n, why)

    # -- lost rows ----------------------------------------------------------------------------------------------

    def _account_for_lost_numbers(self, connection: sqlite3.Connection) -> None:
        """`counter` is raised before a file gets its name: a draft noted for the next number explains one step."""
        highest, upcoming = self.folder.highest_counted(), next_number(connection)
        noted = connection.execute(
            "SELECT count(*) FROM drafts WHERE sha256 IS NOT NULL OR abandoned = ?", (CONDEMNED,)
        ).fetchone()[0]
        if highest < upcoming - 1 or (highest == upcoming and noted):
            self.folder.count_to(upcoming - 1)
        else:
            self._bury_gap_before(connection, highest + 1)

    def _bury_gap_before(self, connection: sqlite3.Connection, n: int) -> None:
        first = next_number(connection)
        if n - first > MAX_LOST_ROWS:
            first = self._count_as_lost(connection, first, n - MAX_LOST_ROWS)
        for lost in range(first, n):
            insert_clip(connection, lost, Path(""), "", 0, ADOPTED_PRIORITY, "{}", self.wall_ns)
            self._start.entomb(connection, lost, "lost: neither the ledger nor the folder knows what became of it")

    def _count_as_lost(self, connection: sqlite3.Connection, first: int, end: int) -> int:
        """A rebuilt ledger need not hold a row for each number of a long life; returns the first that gets one."""
        if connection.execute("SELECT 1 FROM clips LIMIT 1").fetchone():
            raise self._does_not_belong(first, end)
        add_to_fact(connection, "settled_tombstoned", end - first)
        add_to_fact(connection, "settled_through", end - 1 - fact(connection, "settled_through"))
        add_alarm(connection, self.wall_ns, f"clips {first} to {end - 1}: lost with the ledger, or delivered before")
        return end

    def _does_not_belong(self, first: int, end: int) -> SpoolError:
        return SpoolError(
            f"{self.folder.directory}: the ledger ends at {first - 1}, but files or `counter` go beyond {end}:"
            " a file or `counter` does not belong to this spool; move it away"
        )
