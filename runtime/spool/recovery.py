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

3 and 4 are `adoption`, a transaction for each file: a start that is ended in the middle has lost nothing of its work.

A process that was killed may have left a rename that no sync has made durable: adopting syncs before it commits.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from runtime.formats.durable_files import sha256_of
from runtime.messages import Priority
from runtime.spool.accounts import add_abandoned, add_alarm, next_number
from runtime.spool.adoption import Adoption, RecoveryReport, StartUp
from runtime.spool.clips import ABANDONED, CONDEMNED, DAMAGED_PREFIX, try_lock
from runtime.spool.folder import unlink_clip
from runtime.spool.sealing import WrittenClip, bury, counter_taken_back, place, taken_back_on_failure


class Recovery:
    """One start-up of one spool."""

    def __init__(self, start: StartUp) -> None:
        self.folder = start.folder
        self.ledger = start.ledger
        self.wall_ns = start.wall_ns
        self.report = start.report
        self._start = start

    def run(self, ledger_was_damaged: bool) -> RecoveryReport:
        """All steps in order. The caller keeps everybody else out (`Ledger.alone`).

        Killed anywhere, the next start goes on behind what was done. Raises SpoolError (LedgerError among them: with
        errno ENOSPC the disk is full) and OSError.
        """
        if ledger_was_damaged:
            with self.ledger.transaction() as connection:
                add_alarm(connection, self.wall_ns, "the ledger was damaged; it was set aside and rebuilt")
        self._finish_unlinks()
        for leftover in (*self.folder.directory.glob(".counter.*.new"), self.folder.directory / "ledger.fresh"):
            leftover.unlink(missing_ok=True)  # of a write that was cut short
        Adoption(self._start).run()
        with self.ledger.reading() as connection:
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
            self._start.progress()

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
            self._start.progress()

    def _complete(self, row: sqlite3.Row, path: Path) -> None:
        clip = WrittenClip(
            int(row["id"]), path, row["sha256"], path.stat().st_size, Priority(row["priority"]), row["metadata"]
        )
        with self.ledger.reading() as connection:
            n = next_number(connection)
        with taken_back_on_failure(self.folder, clip, n), self.ledger.transaction() as connection:
            placed = place(connection, self.folder, clip, self.wall_ns)
            self._start.wall.note_seal_by_file(connection, n, placed.path.stat().st_mtime_ns)
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
        rows = connection.execute("SELECT id FROM drafts WHERE abandoned = ? ORDER BY id", (ABANDONED,))
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
                self._start.entomb(connection, n, f"the file {what}")
