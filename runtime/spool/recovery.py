"""Start-up of a spool: make folder and ledger agree again, whatever the last process was doing when it died.

In this order, while nobody else uses the spool:
1. a damaged ledger is set aside and a new one begun; its counter goes on from `counter` and the file names;
2. unlinks that the ledger had decided on are finished; files whose number was settled before are set aside as stray;
3. files in `clips/` without a row are adopted, with the metadata noted on their draft, else with what they say of
   themselves (`Describe`);
   a file whose content is not what its name says becomes a tombstone and moves to `partial/`;
4. numbers that `counter` knows and the ledger does not become tombstones: rows were lost; a `counter` that was lost
   itself is written anew;
5. drafts that were complete and durable get the number that they were about to get, condemned ones their tombstone;
6. rows without a file become tombstones, with an alarm;
7. drafts whose writer is gone are marked partial and charged with their real size.
A spool that is over its quota after that is brought back under it (`Reservations.enforce`).

A process that was killed may have left a rename that no sync has made durable: adopting syncs before it commits.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.formats.durable_files import (
    remove_durably,
    sha256_of,
    sync_directory,
    sync_file,
    write_durably,
)
from runtime.messages import Priority
from runtime.spool.accounts import add_abandoned, add_alarm, add_to_fact, entomb, fact, insert_clip, next_number
from runtime.spool.age import age_noted, set_age
from runtime.spool.clips import (
    CONDEMNED,
    DAMAGED_PREFIX,
    STRAY_PREFIX,
    SpoolError,
    encode_metadata,
    try_lock,
)
from runtime.spool.folder import SpoolFolder, set_aside, unlink_clip
from runtime.spool.ledger import Ledger
from runtime.spool.sealing import WrittenClip, bury, counter_taken_back, place, taken_back_on_failure

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


class Recovery:
    """One start-up of one spool."""

    def __init__(self, folder: SpoolFolder, ledger: Ledger, wall_ns: int, describe: Describe | None = None) -> None:
        self.folder = folder
        self.ledger = ledger
        self.wall_ns = wall_ns
        self.report = RecoveryReport()
        self._describe = describe

    def run(self, ledger_was_damaged: bool) -> RecoveryReport:
        """All steps in order. The caller keeps everybody else out (`Ledger.alone`)."""
        self._finish_unlinks()
        for leftover in (*self.folder.directory.glob(".counter.*.new"), self.folder.directory / "ledger.fresh"):
            leftover.unlink(missing_ok=True)  # of a write that was cut short
        with self.ledger.transaction() as connection:
            if ledger_was_damaged:
                add_alarm(connection, self.wall_ns, "the ledger was damaged; it was set aside and rebuilt")
            files = self.folder.clip_files()
            self._adopt(connection, files)
            self._account_for_lost_numbers(connection)
            self.report.ledger_rebuilt = (ledger_was_damaged or self.ledger.is_new) and next_number(connection) > 1
        self._complete_seals()
        self._bury_condemned()
        with self.ledger.transaction() as connection:
            self._entomb_missing(connection, self.folder.clip_files())
            self._mark_partial(connection)
        return self.report

    def _finish_unlinks(self) -> None:
        """Remove files of clips that are delivered or tombstoned."""
        with self.ledger.reading() as connection:
            rows = connection.execute("SELECT n FROM clips WHERE has_file = 1 AND state != 'pending'").fetchall()
        for (n,) in rows:
            unlink_clip(self.folder, self.ledger, n)
            self.report.unlinked.append(int(n))

    # -- files without rows -------------------------------------------------------------------------------------

    def _adopt(self, connection: sqlite3.Connection, files: dict[int, Path]) -> None:
        known = {int(row["n"]): row for row in connection.execute("SELECT n, file_name, has_file FROM clips")}
        strangers = sorted(set(files) - set(known))
        for n in sorted(set(files) & set(known)):
            if not known[n]["has_file"] or known[n]["file_name"] != files[n].name:
                self._set_stray_aside(connection, files[n])
                del files[n]
        if strangers:
            sync_directory(self.folder.clips)
            sync_directory(self.folder.partial)
        settled_through = fact(connection, "settled_through")
        for n in strangers:
            if n <= settled_through:
                self._set_stray_aside(connection, files[n])
                continue
            self._bury_gap_before(connection, n)
            self._adopt_file(connection, n, files[n])

    def _set_stray_aside(self, connection: sqlite3.Connection, path: Path) -> None:
        """A file whose number is settled, or is another file's: somebody put it back; the number stays what it is."""
        set_aside(connection, self.folder, path, STRAY_PREFIX, "its number was settled, or is that of another file")
        add_alarm(connection, self.wall_ns, f"{path.name} came back after its number was given away; set aside")

    def _adopt_file(self, connection: sqlite3.Connection, n: int, path: Path) -> None:
        sync_file(path)
        sha256 = sha256_of(path)
        noted, age = self._noted_draft(connection, sha256, path), None
        if not path.name.startswith(f"{n:012d}-{sha256[:16]}."):
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
        self._entomb(connection, n, why)

    # -- lost rows ----------------------------------------------------------------------------------------------

    def _account_for_lost_numbers(self, connection: sqlite3.Connection) -> None:
        """`counter` is raised before a file gets its name: a draft noted for the next number explains one step."""
        highest, upcoming = self.folder.highest_counted(), next_number(connection)
        noted = connection.execute(
            "SELECT count(*) FROM drafts WHERE sha256 IS NOT NULL OR abandoned = ?", (CONDEMNED,)
        ).fetchone()[0]
        if highest < upcoming - 1 or (highest == upcoming and noted):
            write_durably(self.folder.counter, f"{upcoming - 1}\n".encode())
        else:
            self._bury_gap_before(connection, highest + 1)

    def _bury_gap_before(self, connection: sqlite3.Connection, n: int) -> None:
        first = next_number(connection)
        if n - first > MAX_LOST_ROWS:
            first = self._count_as_lost(connection, first, n - MAX_LOST_ROWS)
        for lost in range(first, n):
            insert_clip(connection, lost, Path(""), "", 0, ADOPTED_PRIORITY, "{}", self.wall_ns)
            self._entomb(connection, lost, "lost: neither the ledger nor the folder knows what became of it")

    def _count_as_lost(self, connection: sqlite3.Connection, first: int, end: int) -> int:
        """A rebuilt ledger need not hold a row for each number of a long life; returns the first that gets one."""
        if connection.execute("SELECT 1 FROM clips LIMIT 1").fetchone():
            raise SpoolError(
                f"{self.folder.directory}: the ledger ends at {first - 1}, but files or `counter` go beyond {end}:"
                " a file or `counter` does not belong to this spool; move it away"
            )
        add_to_fact(connection, "settled_tombstoned", end - first)
        add_to_fact(connection, "settled_through", end - 1 - fact(connection, "settled_through"))
        add_alarm(connection, self.wall_ns, f"clips {first} to {end - 1}: lost with the ledger, or delivered before")
        return end

    # -- drafts -------------------------------------------------------------------------------------------------

    def _complete_seals(self) -> None:
        """Seals cut short after the note: the file is complete and was synced, only number and name are missing."""
        with self.ledger.reading() as connection:
            rows = connection.execute("SELECT * FROM drafts WHERE sha256 IS NOT NULL ORDER BY id").fetchall()
        for row in rows:
            path = self.folder.partial / row["file_name"]
            if not path.exists() or (descriptor := try_lock(path)) is None:
                continue
            try:
                if sha256_of(path) == row["sha256"]:
                    self._complete(row, path)
            finally:
                os.close(descriptor)

    def _complete(self, row: sqlite3.Row, path: Path) -> None:
        clip = WrittenClip(
            int(row["id"]), path, row["sha256"], path.stat().st_size, Priority(row["priority"]), row["metadata"]
        )
        with self.ledger.reading() as connection:
            n = next_number(connection)
        with taken_back_on_failure(self.folder, clip, n), self.ledger.transaction() as connection:
            place(connection, self.folder, clip, self.wall_ns)
        self.report.completed.append(n)

    def _bury_condemned(self) -> None:
        """Partial clips that were to get a tombstone."""
        with self.ledger.reading() as connection:
            rows = connection.execute("SELECT * FROM drafts WHERE abandoned = ? ORDER BY id", (CONDEMNED,)).fetchall()
        for row in rows:
            path = self.folder.partial / row["file_name"]
            descriptor = None
            if path.exists() and (descriptor := try_lock(path)) is None:
                continue  # who condemned it is about to bury it
            try:
                with self.ledger.reading() as connection:
                    n = next_number(connection)
                with counter_taken_back(self.folder, n), self.ledger.transaction() as connection:
                    bury(connection, self.folder, int(row["id"]), self.wall_ns)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
            self.report.tombstoned.append(n)

    def _mark_partial(self, connection: sqlite3.Connection) -> None:
        drafts = {row["file_name"]: row for row in connection.execute("SELECT * FROM drafts").fetchall()}
        present = {path.name: path for path in self.folder.partial.iterdir() if path.is_file()}
        for name, path in sorted(present.items()):
            descriptor = try_lock(path)
            if descriptor is None:
                continue  # its writer lives
            os.close(descriptor)
            add_abandoned(connection, name, path.stat().st_size)
        for name in set(drafts) - set(present):
            connection.execute("DELETE FROM drafts WHERE file_name = ?", (name,))
        rows = connection.execute("SELECT id FROM drafts WHERE abandoned = 1 ORDER BY id")
        self.report.partial = [int(row[0]) for row in rows]

    # -- rows without files -------------------------------------------------------------------------------------

    def _entomb_missing(self, connection: sqlite3.Connection, files: dict[int, Path]) -> None:
        rows = connection.execute("SELECT n, file_name FROM clips WHERE state = 'pending'").fetchall()
        for row in rows:
            n, name = int(row["n"]), str(row["file_name"])
            if n not in files:
                aside = self.folder.partial / f"{DAMAGED_PREFIX}{name}"
                is_kept = aside.exists()
                what = f"was found damaged, and kept as {aside.name}" if is_kept else "disappeared from the spool"
                self._entomb(connection, n, f"the file {what}")

    def _entomb(self, connection: sqlite3.Connection, n: int, reason: str) -> None:
        entomb(connection, n, reason, self.wall_ns)
        connection.execute("UPDATE clips SET has_file = 0 WHERE n = ?", (n,))
        self.report.tombstoned.append(n)
