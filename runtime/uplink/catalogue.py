"""The receiver's catalogue: clips stored, clips under way, numbers that will never come. SQLite, WAL, FULL.

`clips` is what the vehicle was told with DONE. `partials` is what it was told with ACK: ranges are written here only
after fdatasync of the bytes. `final_path` on a partial row means that its rename may have happened.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.formats.durable_files import open_ledger
from runtime.uplink.ranges import RangeSet

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE clips (
    vehicle TEXT NOT NULL, n INTEGER NOT NULL, sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, priority TEXT NOT NULL, metadata TEXT NOT NULL,
    path TEXT NOT NULL, received_wall_ns INTEGER NOT NULL,
    verified INTEGER, problems TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (vehicle, n, sha256)
);
CREATE INDEX clips_to_verify ON clips (received_wall_ns) WHERE verified IS NULL;
CREATE TABLE partials (
    vehicle TEXT NOT NULL, n INTEGER NOT NULL, sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, priority TEXT NOT NULL, metadata TEXT NOT NULL,
    ranges TEXT NOT NULL, final_path TEXT, touched_wall_ns INTEGER NOT NULL,
    PRIMARY KEY (vehicle, n, sha256)
);
CREATE TABLE tombstones (
    vehicle TEXT NOT NULL, n INTEGER NOT NULL, reason TEXT NOT NULL, wall_ns INTEGER NOT NULL,
    PRIMARY KEY (vehicle, n)
)
"""
ONE = " WHERE vehicle = ? AND n = ? AND sha256 = ?"


@dataclass(frozen=True, slots=True)
class ClipKey:
    """What a clip is known by on the fleet side; `sha256` in hexadecimal."""

    vehicle: str
    n: int
    sha256: str

    @property
    def row(self) -> tuple[str, int, str]:
        """For SQL."""
        return self.vehicle, self.n, self.sha256


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip that is durably stored. `verified` is None until the verifier has looked at it."""

    key: ClipKey
    path: Path
    size_bytes: int
    priority: str
    metadata: str
    received_wall_ns: int
    verified: bool | None
    problems: str


@dataclass(frozen=True, slots=True)
class PartialRow:
    """A clip under way, as it is durably known."""

    key: ClipKey
    size_bytes: int
    priority: str
    metadata: str
    ranges: tuple[tuple[int, int], ...]
    final_path: str | None


class Catalogue:
    """One open catalogue, shared by the threads of the receiver."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = open_ledger(path)
        with self._transaction() as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise OSError(f"{path} has schema {version}, this software knows up to {SCHEMA_VERSION}: update it")
            if version == 0:
                for statement in SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    # -- clips under way ----------------------------------------------------------------------------------------

    def add_partial(self, row: PartialRow, wall_ns: int) -> None:
        """A clip was offered and accepted."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO partials VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?)",
                (*row.key.row, row.size_bytes, row.priority, row.metadata, json.dumps(row.ranges), wall_ns),
            )

    def save_ranges(self, held: Iterable[tuple[ClipKey, RangeSet]], wall_ns: int) -> None:
        """These bytes are on disk. One commit for all."""
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE partials SET ranges = ?, touched_wall_ns = ?" + ONE,
                [(json.dumps(list(ranges)), wall_ns, *key.row) for key, ranges in held],
            )

    def plan_final_path(self, key: ClipKey, path: str | None) -> None:
        """The rename to `path` is about to happen; None takes that back."""
        with self._transaction() as connection:
            connection.execute("UPDATE partials SET final_path = ?" + ONE, (path, *key.row))

    def drop_partial(self, key: ClipKey) -> None:
        """Forget a clip under way."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM partials" + ONE, key.row)

    def partial(self, key: ClipKey) -> PartialRow | None:
        """One clip under way."""
        rows = self._rows("SELECT * FROM partials" + ONE, key.row)
        return partial_row(rows[0]) if rows else None

    def partials(self, vehicle: str | None = None) -> list[PartialRow]:
        """Clips under way, least recently touched first; of one vehicle or of all."""
        rows = self._rows(
            "SELECT * FROM partials WHERE ? IS NULL OR vehicle = ? ORDER BY touched_wall_ns, n", (vehicle, vehicle)
        )
        return [partial_row(row) for row in rows]

    # -- stored clips -------------------------------------------------------------------------------------------

    def store(self, row: PartialRow, path: str, wall_ns: int) -> None:
        """The clip is verified and at its final path: from this commit on it is ours."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO clips (vehicle, n, sha256, size_bytes, priority, metadata, path,"
                " received_wall_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row.key.row, row.size_bytes, row.priority, row.metadata, path, wall_ns),
            )
            connection.execute("DELETE FROM partials" + ONE, row.key.row)

    def has(self, key: ClipKey) -> bool:
        """True when the clip is stored."""
        return bool(self._rows("SELECT 1 FROM clips" + ONE, key.row))

    def clips(self, directory: Path, vehicle: str | None = None) -> list[StoredClip]:
        """Stored clips by vehicle and number; paths below `directory`."""
        rows = self._rows("SELECT * FROM clips WHERE ? IS NULL OR vehicle = ? ORDER BY vehicle, n", (vehicle, vehicle))
        return [stored_clip(row, directory) for row in rows]

    def next_unverified(self, directory: Path) -> StoredClip | None:
        """The oldest clip that the verifier has not seen."""
        rows = self._rows("SELECT * FROM clips WHERE verified IS NULL ORDER BY received_wall_ns, n LIMIT 1")
        return stored_clip(rows[0], directory) if rows else None

    def record_verification(self, key: ClipKey, problems: Sequence[str]) -> None:
        """The verifier's verdict: no problems means verified."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE clips SET verified = ?, problems = ?" + ONE,
                (int(not problems), "\n".join(problems), *key.row),
            )

    # -- tombstones and figures ---------------------------------------------------------------------------------

    def record_tombstone(self, vehicle: str, n: int, reason: str, wall_ns: int) -> None:
        """Number `n` of this vehicle will never come."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?)", (vehicle, n, reason, wall_ns))

    def tombstones(self, vehicle: str) -> dict[int, str]:
        """Reasons by number."""
        rows = self._rows("SELECT n, reason FROM tombstones WHERE vehicle = ? ORDER BY n", (vehicle,))
        return {int(row["n"]): str(row["reason"]) for row in rows}

    def bytes_of(self, vehicle: str) -> int:
        """What a vehicle occupies, clips under way counted in full."""
        rows = self._rows(
            "SELECT (SELECT coalesce(sum(size_bytes), 0) FROM clips WHERE vehicle = ?)"
            " + (SELECT coalesce(sum(size_bytes), 0) FROM partials WHERE vehicle = ?)",
            (vehicle, vehicle),
        )
        return int(rows[0][0])

    def figures(self) -> dict[str, int]:
        """Counts for the status file."""
        row = self._rows(
            "SELECT count(*) AS clips, coalesce(sum(size_bytes), 0) AS bytes, count(DISTINCT vehicle) AS vehicles,"
            " coalesce(sum(verified = 1), 0) AS verified, coalesce(sum(verified = 0), 0) AS verification_failed,"
            " coalesce(sum(verified IS NULL), 0) AS unverified,"
            " (SELECT count(*) FROM partials) AS partial, (SELECT count(*) FROM tombstones) AS tombstones FROM clips"
        )[0]
        return {name: int(row[name]) for name in row.keys()}  # noqa: SIM118  sqlite3.Row iterates over values


def partial_row(row: sqlite3.Row) -> PartialRow:
    """A row of `partials` as a value."""
    return PartialRow(
        ClipKey(row["vehicle"], int(row["n"]), row["sha256"]),
        int(row["size_bytes"]),
        row["priority"],
        row["metadata"],
        tuple((int(a), int(b)) for a, b in json.loads(row["ranges"])),
        row["final_path"],
    )


def stored_clip(row: sqlite3.Row, directory: Path) -> StoredClip:
    """A row of `clips` as a value."""
    return StoredClip(
        key=ClipKey(row["vehicle"], int(row["n"]), row["sha256"]),
        path=directory / row["path"],
        size_bytes=int(row["size_bytes"]),
        priority=row["priority"],
        metadata=row["metadata"],
        received_wall_ns=int(row["received_wall_ns"]),
        verified=None if row["verified"] is None else bool(row["verified"]),
        problems=row["problems"],
    )
