"""Start-up of a spool: make folder and ledger agree again, whatever the last process was doing when it died.

In this order, under the spool's lock:
1. a damaged ledger is set aside and a new one begun; its counter goes on from `counter` and the file names;
2. unlinks that the ledger had decided on are finished;
3. files in `clips/` without a row are adopted, with the metadata noted on their draft if there is any;
   a file whose content is not what its name says becomes a tombstone and moves to `partial/`;
4. rows without a file become tombstones, with an alarm;
5. drafts whose writer is gone are marked partial and charged with their real size.
A spool that is over its quota after that is brought back under it (`Reservations.enforce`).
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from runtime.formats.durable_files import remove_durably, rename_durably, sha256_of
from runtime.messages import Priority
from runtime.spool.clips import ClipState, try_lock
from runtime.spool.folder import SpoolFolder
from runtime.spool.ledger import Ledger, add_alarm, fact, is_sound, next_number

ADOPTED_PRIORITY = Priority.NORMAL
ADOPTED_METADATA = '{"adopted":true}'


@dataclass(slots=True)
class RecoveryReport:
    """What start-up found and did. All lists empty after a clean stop."""

    ledger_rebuilt: bool = False
    adopted: list[int] = field(default_factory=list)
    unlinked: list[int] = field(default_factory=list)
    tombstoned: list[int] = field(default_factory=list)
    partial: list[int] = field(default_factory=list)  # ids of drafts


def open_or_set_aside(path: Path, wall_ns: int) -> tuple[Ledger, bool]:
    """Open the ledger; a damaged one is renamed and a new one begun. The flag says whether that happened."""
    try:
        ledger = Ledger(path)
        with ledger.reading() as connection:
            if is_sound(connection):
                return ledger, False
        ledger.close()
    except sqlite3.OperationalError:
        raise  # locked, full or unreadable disk: the file itself is not to blame
    except sqlite3.DatabaseError:
        pass  # "file is not a database", "database disk image is malformed": replaced below, with an alarm
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            rename_durably(part, path.with_name(f"ledger.corrupt-{wall_ns}.sqlite{suffix}"))
    return Ledger(path), True


class Recovery:
    """One start-up of one spool."""

    def __init__(self, folder: SpoolFolder, ledger: Ledger, wall_ns: int) -> None:
        self.folder = folder
        self.ledger = ledger
        self.wall_ns = wall_ns
        self.report = RecoveryReport()

    def run(self, ledger_was_damaged: bool) -> RecoveryReport:
        """All steps in order. The caller holds the spool's lock."""
        self.finish_unlinks()
        with self.ledger.transaction() as connection:
            if ledger_was_damaged:
                add_alarm(connection, self.wall_ns, "the ledger was damaged; it was set aside and rebuilt")
            files = self.folder.clip_files()
            self._adopt(connection, files)
            if ledger_was_damaged or self.ledger.is_new:
                self._account_for_lost_numbers(connection, files)
            self._entomb_missing(connection, files)
            self._mark_partial(connection)
        return self.report

    def finish_unlinks(self) -> None:
        """Remove files of clips that are delivered or tombstoned."""
        with self.ledger.reading() as connection:
            rows = connection.execute(
                "SELECT n, file_name FROM clips WHERE has_file = 1 AND state != 'pending'"
            ).fetchall()
        for row in rows:
            remove_durably(self.folder.clips / row["file_name"])
            with self.ledger.transaction() as connection:
                connection.execute("UPDATE clips SET has_file = 0 WHERE n = ?", (row["n"],))
            self.report.unlinked.append(int(row["n"]))

    def _adopt(self, connection: sqlite3.Connection, files: dict[int, Path]) -> None:
        known = {int(row[0]) for row in connection.execute("SELECT n FROM clips")}
        settled_through = fact(connection, "settled_through")
        for n in sorted(set(files) - known):
            if n <= settled_through:
                self._set_stray_aside(connection, files.pop(n))
                continue
            self._bury_gap_before(connection, n)
            self._adopt_file(connection, n, files)

    def _set_stray_aside(self, connection: sqlite3.Connection, path: Path) -> None:
        """A file whose number was settled and folded long ago: somebody put it back; its number stays settled."""
        aside = self.folder.partial / f"stray-{path.name}"
        size_bytes = path.stat().st_size
        rename_durably(path, aside)
        add_abandoned(connection, aside.name, size_bytes)
        add_alarm(connection, self.wall_ns, f"{path.name} came back after its number was settled; set aside")

    def _adopt_file(self, connection: sqlite3.Connection, n: int, files: dict[int, Path]) -> None:
        path = files[n]
        sha256 = sha256_of(path)
        noted = connection.execute("SELECT * FROM drafts WHERE sha256 = ?", (sha256,)).fetchone()
        priority = Priority(noted["priority"]) if noted else ADOPTED_PRIORITY
        metadata = noted["metadata"] if noted else ADOPTED_METADATA
        if not path.name.startswith(f"{n:012d}-{sha256[:16]}."):
            self._set_damaged_aside(connection, n, path, sha256)
            del files[n]
            return
        insert_clip(connection, n, path, sha256, path.stat().st_size, priority, metadata, self.wall_ns)
        connection.execute("DELETE FROM drafts WHERE sha256 = ?", (sha256,))
        self.report.adopted.append(n)

    def _set_damaged_aside(self, connection: sqlite3.Connection, n: int, path: Path, sha256: str) -> None:
        aside = self.folder.partial / f"damaged-{path.name}"
        size_bytes = path.stat().st_size
        rename_durably(path, aside)
        insert_clip(connection, n, path, sha256, size_bytes, ADOPTED_PRIORITY, ADOPTED_METADATA, self.wall_ns)
        self._entomb(connection, n, "the file's content does not match its name")
        add_abandoned(connection, aside.name, size_bytes)

    def _bury_gap_before(self, connection: sqlite3.Connection, n: int) -> None:
        for lost in range(next_number(connection), n):
            insert_clip(connection, lost, Path(""), "", 0, ADOPTED_PRIORITY, "{}", self.wall_ns)
            self._entomb(connection, lost, "lost: neither the ledger nor the folder knows what became of it")

    def _account_for_lost_numbers(self, connection: sqlite3.Connection, files: dict[int, Path]) -> None:
        self._bury_gap_before(connection, max([self.folder.highest_counted(), *files]) + 1)
        self.report.ledger_rebuilt = next_number(connection) > 1

    def _entomb_missing(self, connection: sqlite3.Connection, files: dict[int, Path]) -> None:
        rows = connection.execute("SELECT n FROM clips WHERE state = 'pending'").fetchall()
        for n in (int(row[0]) for row in rows):
            if n not in files:
                self._entomb(connection, n, "the file disappeared from the spool")

    def _entomb(self, connection: sqlite3.Connection, n: int, reason: str) -> None:
        connection.execute(
            "UPDATE clips SET state = ?, reason = ?, has_file = 0 WHERE n = ?",
            (ClipState.TOMBSTONED.value, reason, n),
        )
        add_alarm(connection, self.wall_ns, f"clip {n}: {reason}")
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


def add_abandoned(connection: sqlite3.Connection, file_name: str, size_bytes: int) -> None:
    """Charge the spool with a partial file that nobody writes any more."""
    connection.execute(
        "INSERT INTO drafts (file_name, reserved_bytes, priority, abandoned) VALUES (?, ?, ?, 1)"
        " ON CONFLICT (file_name) DO UPDATE SET reserved_bytes = excluded.reserved_bytes, abandoned = 1",
        (file_name, size_bytes, ADOPTED_PRIORITY.value),
    )


def insert_clip(
    connection: sqlite3.Connection,
    n: int,
    path: Path,
    sha256: str,
    size_bytes: int,
    priority: Priority,
    metadata: str,
    wall_ns: int,
) -> None:
    """Give number `n` to a pending clip whose file is in place."""
    connection.execute(
        "INSERT INTO clips"
        " (n, state, priority, rank, sha256, size_bytes, file_name, has_file, sealed_wall_ns, metadata)"
        " VALUES (?, 'pending', ?, ?, ?, ?, ?, 1, ?, ?)",
        (n, priority.value, priority.rank, sha256, size_bytes, path.name, wall_ns, metadata),
    )
