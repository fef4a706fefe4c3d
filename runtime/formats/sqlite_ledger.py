"""SQLite as Shadowrig's ledgers use it: write-ahead log, synchronous=FULL (a committed row survives a power cut) and
explicit transactions.

SQLite holds its place in a file by POSIX locks, and a process loses all of those on a file when it closes any
descriptor of it, whoever opened that (https://www.sqlite.org/howtocorrupt.html, section 2.2). Another process would
then take itself for the last one, and delete the log that this one goes on writing to. So nothing here opens a ledger's
file beside a connection: what has to be done with the file itself is done before the first one of this process.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from weakref import WeakSet

from runtime.formats.durable_files import sync_file

BUSY_TIMEOUT_S = 10.0

Identity = tuple[int, int]

_opening = threading.RLock()  # the garbage collector may close a connection anywhere
_open: dict[Identity, WeakSet[LedgerConnection]] = {}  # of this process, by device and inode


class LedgerConnection(sqlite3.Connection):
    """A connection that is known to be open until it is closed, or nobody has it any more."""

    file: Identity | None = None

    def close(self) -> None:
        """Close it."""
        with _opening:
            super().close()
            if self.file in _open:
                _open[self.file].discard(self)


def open_ledger(path: Path) -> sqlite3.Connection:
    """Open a ledger, a new one where there is none. Raises OSError and sqlite3.Error.

    The caller serialises use between threads and begins its own transactions.
    """
    with _opening:
        for closed in [file for file, connections in _open.items() if not connections]:
            del _open[closed]
        if _identity(path) not in _open:
            _make_and_sync(path)
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, factory=LedgerConnection
        )
        connection.file = _identity(path)
        _open.setdefault(connection.file, WeakSet()).add(connection)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def _make_and_sync(path: Path) -> None:
    # SQLite would make it unwritable for the group; its side files take the mode of the ledger.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660))
    # A process killed between writing a commit and syncing it leaves one that we can read and a power cut can take
    # back: nobody may act on it before it is durable.
    for part in (path, path.with_name(path.name + "-wal")):
        if part.exists():
            sync_file(part)


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
