"""The spool's ledger: one SQLite file that knows every number ever given out.

Tables: `clips` (one row per number, until both settled and old), `drafts` (quota reservations, and on their way to a
number the hash and metadata of the clip), `alarms` (bounded), `facts` (named integers). Old settled rows are folded
into three facts, so that the file stays small while `{1..n}` stays accounted for.

All writes happen inside `transaction()`, which takes SQLite's write lock at its start. If another process replaced a
corrupt ledger, the file behind our connection is no longer the one in the folder: every use checks that and reopens.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.formats.durable_files import open_ledger
from runtime.messages import Priority
from runtime.spool.admission import Kind, Resident
from runtime.spool.clips import ClipState, SpoolCounts, SpoolError

SCHEMA_VERSION = 1
MAX_ALARMS = 1000

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE clips (
    n INTEGER PRIMARY KEY CHECK (n > 0),
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'tombstoned')),
    reason TEXT NOT NULL DEFAULT '',
    priority TEXT NOT NULL,
    rank INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    file_name TEXT NOT NULL,
    has_file INTEGER NOT NULL,
    reported INTEGER NOT NULL DEFAULT 0,
    sealed_wall_ns INTEGER NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX clips_waiting ON clips (rank, n) WHERE state = 'pending';
CREATE INDEX clips_with_files ON clips (n) WHERE has_file = 1;
CREATE INDEX clips_to_report ON clips (n) WHERE state = 'tombstoned' AND reported = 0;
CREATE TABLE drafts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file_name TEXT NOT NULL UNIQUE,
    reserved_bytes INTEGER NOT NULL,
    priority TEXT NOT NULL,
    abandoned INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    metadata TEXT
);
CREATE TABLE alarms (id INTEGER PRIMARY KEY AUTOINCREMENT, wall_ns INTEGER NOT NULL, text TEXT NOT NULL);
"""

COUNTS = """
SELECT coalesce(sum(state = 'pending'), 0) AS pending,
       coalesce(sum(state = 'delivered'), 0) AS delivered,
       coalesce(sum(state = 'tombstoned'), 0) AS tombstoned,
       coalesce(max(n), 0) AS highest
FROM clips
"""

FOLD = """
INSERT INTO facts VALUES ('settled_through', :through) ON CONFLICT (name) DO UPDATE SET value = :through
"""


class Ledger:
    """An open ledger, shared by the threads of one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection, self.is_new = self._connect()
        self._inode = path.stat().st_ino

    def _connect(self) -> tuple[sqlite3.Connection, bool]:
        connection = open_ledger(self.path)
        try:
            is_new = prepare_schema(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection, is_new

    def close(self) -> None:
        """Close the connection; the ledger itself is always consistent."""
        with self._lock:
            self._connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection to the file that is in the folder now."""
        if self.path.stat().st_ino != self._inode:
            self._connection.close()
            self._connection, _ = self._connect()
            self._inode = self.path.stat().st_ino
        return self._connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One thread at a time; no transaction."""
        with self._lock:
            yield self.connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable on exit; other writers, here and in other processes, wait."""
        with self._lock:
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def prepare_schema(connection: sqlite3.Connection, path: Path) -> bool:
    """Create the tables of a new ledger; True when it was new. Raises sqlite3.DatabaseError when it is damaged."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise SpoolError(f"{path} has schema {version}, this software knows up to {SCHEMA_VERSION}: update it")
        if version == 0:
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return version == 0


def is_sound(connection: sqlite3.Connection) -> bool:
    """SQLite's own check of the whole file."""
    return [row[0] for row in connection.execute("PRAGMA quick_check(1)")] == ["ok"]


def fact(connection: sqlite3.Connection, name: str) -> int:
    """A named integer, 0 when never set."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def add_to_fact(connection: sqlite3.Connection, name: str, amount: int) -> None:
    """Add to a named integer."""
    connection.execute(
        "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (name, amount),
    )


def next_number(connection: sqlite3.Connection) -> int:
    """The number that the next sealed clip gets."""
    highest = int(connection.execute("SELECT coalesce(max(n), 0) FROM clips").fetchone()[0])
    return max(highest, fact(connection, "settled_through")) + 1


def add_alarm(connection: sqlite3.Connection, wall_ns: int, text: str) -> None:
    """Note something that a person has to know; only the newest MAX_ALARMS are kept."""
    connection.execute("INSERT INTO alarms (wall_ns, text) VALUES (?, ?)", (wall_ns, text))
    connection.execute("DELETE FROM alarms WHERE id <= (SELECT max(id) FROM alarms) - ?", (MAX_ALARMS,))
    add_to_fact(connection, "alarms", 1)


def entomb(connection: sqlite3.Connection, n: int, reason: str, wall_ns: int) -> bool:
    """Give up on a pending clip, with an alarm; False when it was settled already. Its file goes after the commit."""
    changed = connection.execute(
        "UPDATE clips SET state = 'tombstoned', reason = ? WHERE n = ? AND state = 'pending'", (reason, n)
    ).rowcount
    if changed:
        add_alarm(connection, wall_ns, f"clip {n}: {reason}")
    return bool(changed)


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of all files, drafts counted with what they reserved."""
    row = connection.execute(
        "SELECT (SELECT coalesce(sum(size_bytes), 0) FROM clips WHERE has_file = 1)"
        " + (SELECT coalesce(sum(reserved_bytes), 0) FROM drafts)"
    ).fetchone()
    return int(row[0])


def residents(connection: sqlite3.Connection) -> list[Resident]:
    """Every file that eviction may look at; drafts that are being written are not among them."""
    clips = connection.execute("SELECT n, state, rank, size_bytes FROM clips WHERE has_file = 1")
    found = [
        Resident(
            Kind.PENDING if row["state"] == ClipState.PENDING.value else Kind.DELIVERED,
            int(row["n"]),
            int(row["rank"]),
            int(row["size_bytes"]),
        )
        for row in clips
    ]
    partial = connection.execute("SELECT id, priority, reserved_bytes FROM drafts WHERE abandoned = 1")
    return found + [
        Resident(Kind.PARTIAL, int(row["id"]), Priority(row["priority"]).rank, int(row["reserved_bytes"]))
        for row in partial
    ]


def count(connection: sqlite3.Connection, quota_bytes: int) -> SpoolCounts:
    """The ledger in numbers, as of one instant."""
    row = connection.execute(COUNTS).fetchone()
    partial = connection.execute("SELECT count(*) FROM drafts WHERE abandoned = 1").fetchone()[0]
    return SpoolCounts(
        sealed=max(int(row["highest"]), fact(connection, "settled_through")),
        pending=int(row["pending"]),
        delivered=int(row["delivered"]) + fact(connection, "settled_delivered"),
        tombstoned=int(row["tombstoned"]) + fact(connection, "settled_tombstoned"),
        evicted=fact(connection, "evicted"),
        refused=fact(connection, "refused"),
        partial=int(partial),
        bytes_used=used_bytes(connection),
        quota_bytes=quota_bytes,
        alarms=fact(connection, "alarms"),
    )


def fold_settled(connection: sqlite3.Connection, keep_rows: int) -> int:
    """Replace old rows at the low end, all of them settled, by their counts; returns how many went."""
    first_open = connection.execute(
        "SELECT min(n) FROM clips WHERE state = 'pending' OR has_file = 1 OR (state = 'tombstoned' AND reported = 0)"
    ).fetchone()[0]
    newest = next_number(connection) - 1
    through = min(newest - keep_rows, int(first_open) - 1 if first_open is not None else newest)
    if through <= fact(connection, "settled_through"):
        return 0
    for state in (ClipState.DELIVERED, ClipState.TOMBSTONED):
        settled = connection.execute(
            "SELECT count(*) FROM clips WHERE n <= ? AND state = ?", (through, state.value)
        ).fetchone()[0]
        add_to_fact(connection, f"settled_{state.value}", int(settled))
    connection.execute(FOLD, {"through": through})
    return connection.execute("DELETE FROM clips WHERE n <= ?", (through,)).rowcount
