"""The spool's ledger: one SQLite file that knows every number ever given out (its queries are in `accounts`).

Tables: `clips` (one row per number, until both settled and old), `drafts` (quota reservations, and on their way to a
number the hash and metadata of the clip), `alarms` (bounded), `facts` (named integers).

All writes happen inside `transaction()`, which takes SQLite's write lock at its start. If another process replaced a
corrupt ledger, the file behind our connection is no longer the one in the folder: every use checks that and reopens;
the gate keeps it from being replaced in between. A file that has vanished, or is empty, is never begun anew by a
running process: that is a LedgerError, until a new start has rebuilt it with its counter.

A commit that fails because a sync failed is rolled back, and the ledger moves to a fresh file: nothing may trust a
later sync of the old one. Whatever SQLite cannot do (full, locked, I/O error) is a LedgerError, an OSError; damage is
a sqlite3.DatabaseError, which ends the process: the next start sets the ledger aside and rebuilds it.

Where the disk is full the ballast gives way to the ledger, and `write` tries once more: without the ledger the spool
could not free what it holds itself. What still fails is a LedgerError with errno ENOSPC: come back later.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from runtime.formats.durable_files import remove_durably, rename_durably, sync_file
from runtime.formats.sqlite_ledger import open_ledger
from runtime.spool.ballast import Ballast
from runtime.spool.clips import LedgerError
from runtime.spool.gate import Gate
from runtime.spool.ledger_schema import prepare_schema

#: The write-ahead log is brought home and cut back at this size: it counts against the ledger's share of the quota.
WAL_PAGES = 256
WAL_BYTES = 1 << 20

#: About what the rows weigh: their texts, and something for the rest and the indexes.
ROWS_BYTES = """
SELECT (SELECT coalesce(sum(200 + length(reason) + length(metadata)), 0) FROM clips)
     + (SELECT coalesce(sum(100 + length(text)), 0) FROM alarms)
     + (SELECT coalesce(sum(100 + coalesce(length(metadata), 0)), 0) FROM drafts)
"""

#: SQLITE_IOERR_SHM*: its index of the log could not grow or be read. No sync has failed, nothing has to be distrusted.
SHARED_MEMORY_ERRORS = {10 | reason << 8 for reason in (18, 19, 20, 21)}

Written = TypeVar("Written")


class Ledger:
    """An open ledger, shared by the threads of one process."""

    def __init__(self, path: Path, gate: Gate, ballast: Ballast) -> None:
        self.path = path
        self.gate = gate
        self.ballast = ballast
        self._owes_fresh_file = False  # a sync failed, and there was no room for another file yet
        self._lock = threading.RLock()
        self.is_lost = False  # its file vanished while we ran: only the recovery of a new start helps
        self._connection, self.is_new = self._connect(may_create=True)
        self._inode = path.stat().st_ino

    def _connect(self, may_create: bool) -> tuple[sqlite3.Connection, bool]:
        connection = open_ledger(self.path)
        try:
            is_new = prepare_schema(connection, self.path, may_create)
            connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection, is_new

    def close(self) -> None:
        """Close the connection; the ledger itself is always consistent."""
        with self._lock:
            self._connection.close()
            self.gate.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection to the file that is in the folder now. Raises LedgerError when there is none, or an empty one.

        A ledger begun here would give out numbers from 1 again: only a start does that, and recovers.
        """
        try:
            inode = self.path.stat().st_ino
            if inode != self._inode:
                connection, _ = self._connect(may_create=False)
                self._connection.close()
                self._connection, self._inode = connection, inode
        except (FileNotFoundError, LedgerError) as error:
            self.is_lost = True
            raise LedgerError(
                f"{self.path} was deleted or replaced by an empty file while in use: start again, that rebuilds it"
            ) from error
        self.is_lost = False
        return self._connection

    def disk_bytes(self) -> int:
        """What the ledger and its side files occupy."""
        return sum(path.stat().st_blocks * 512 for path in self.path.parent.glob("ledger.*") if path.exists())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else uses the spool meanwhile: for recovery."""
        with self._lock, self.gate.exclusive():
            yield

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One thread at a time; no transaction. Raises LedgerError."""
        with self._lock, self.gate.shared():
            try:
                yield self.connection
            except sqlite3.OperationalError as error:
                raise self._as_ledger_error("read", error) from error

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read several things as of one instant, without the lock of writers. Raises LedgerError."""
        with self.reading() as connection:
            connection.execute("BEGIN DEFERRED")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def write(self, change: Callable[[sqlite3.Connection], Written]) -> Written:
        """What `change` gives, inside `transaction`; once more where the ballast has made room. Raises LedgerError.

        `change` touches nothing but the ledger.
        """
        try:
            with self.transaction() as connection:
                return change(connection)
        except LedgerError as error:
            if error.errno != errno.ENOSPC:
                raise
        with self.transaction() as connection:
            return change(connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable on exit; other writers, here and in other processes, wait. Raises LedgerError."""
        with self._lock:
            self.ballast.make_room()
            if self._owes_fresh_file:
                self._leave_failed_file()
            try:
                with self.gate.shared():
                    yield from self._transact()
            except sqlite3.OperationalError as error:
                failure = self._as_ledger_error("write", error)
                if is_sync_suspect(error):
                    self._leave_failed_file()
                raise failure from error

    def _as_ledger_error(self, what: str, error: sqlite3.OperationalError) -> LedgerError:
        """The error in our words; where the disk is full, the ballast gives way to the next attempt."""
        failure = ledger_error(what, self.path, error, self.ballast)
        if failure.errno == errno.ENOSPC:
            self.ballast.give_up()
        return failure

    def _leave_failed_file(self) -> None:
        """Move, or owe it: no transaction begins on a file whose sync has failed. Raises LedgerError."""
        self._owes_fresh_file = True
        try:
            self.move_to_fresh_file()
        except sqlite3.OperationalError as error:
            raise self._as_ledger_error("copy", error) from error
        self._owes_fresh_file = False

    def _transact(self) -> Iterator[sqlite3.Connection]:
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite has rolled back by itself after some errors
                connection.execute("ROLLBACK")
            raise

    def is_mostly_empty(self) -> bool:
        """True when its rows need less than half of what it occupies: SQLite gives no room back by itself."""
        with self.reading() as connection:
            return 2 * int(connection.execute(ROWS_BYTES).fetchone()[0]) < self.disk_bytes()

    def move_to_fresh_file(self) -> None:
        """Copy what is committed to a new file and go on there. Raises sqlite3.Error and OSError."""
        fresh = self.path.with_name("ledger.fresh")
        with self.alone():
            fresh.unlink(missing_ok=True)
            try:
                self.connection.execute("VACUUM INTO ?", (str(fresh),))
                sync_file(fresh)
            except (OSError, sqlite3.Error):
                fresh.unlink(missing_ok=True)  # half of it would only take room
                raise
            fresh.chmod(0o660)
            rename_durably(fresh, replacement_of(self.path))
            finish_replacing(self.path)
            self._connection.close()  # only now: SQLite leaves a file alone that is no longer in its place


def replacement_of(path: Path) -> Path:
    """Once it has this name, a complete new ledger waits to take the place of the one at `path`."""
    return path.with_name("ledger.replacing")


def finish_replacing(path: Path) -> None:
    """Put a waiting new ledger in its place; harmless when there is none.

    The old one's side files go first: SQLite would take them for the new one's.
    """
    if not replacement_of(path).exists():
        return
    for suffix in ("-wal", "-shm"):
        remove_durably(path.with_name(path.name + suffix))
    rename_durably(replacement_of(path), path)


def ledger_error(what: str, path: Path, error: sqlite3.OperationalError, ballast: Ballast) -> LedgerError:
    """SQLite's error in our words; errno is ENOSPC where the disk is full."""
    is_full = "full" in str(error) or ballast.is_disk_low
    where = f"{path}, the disk is full: make room on it" if is_full else str(path)
    failure = LedgerError(f"cannot {what} {where}: {error}; nothing was changed")
    if is_full:
        failure.errno = errno.ENOSPC
    return failure


def is_sync_suspect(error: sqlite3.OperationalError) -> bool:
    """True when the disk itself failed. (Python 3.10 has no error codes: SQLite's text is what there is.)"""
    return "disk I/O error" in str(error) and getattr(error, "sqlite_errorcode", None) not in SHARED_MEMORY_ERRORS


def is_sound(connection: sqlite3.Connection) -> bool:
    """SQLite's own check of the whole file."""
    return [row[0] for row in connection.execute("PRAGMA quick_check(1)")] == ["ok"]
