"""The catalogue's rows as values, and the steps that several of its transactions share.

A step takes the open connection of a transaction and commits nothing itself. Who locks more than one row locks a
vehicle's before its partials', and partials by their id: so nobody waits in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, insert, select

from runtime.uplink.storage import tables
from runtime.uplink.storage.accounts import book, charge_of, charge_of_number
from runtime.uplink.storage.database import Database

#: A name is deleted once more after this time: a receiver that was just writing it may have finished after the first.
DELETION_GRACE_NS = 3600 * 1_000_000_000
#: In the access log, once for each erasure: clips of its time came later; how many is counted with the order.
ERASED_ON_ARRIVAL = "erase on arrival"


@dataclass(frozen=True, slots=True)
class ClipKey:
    """What a clip is known by on the fleet side; `sha256` in hexadecimal."""

    vehicle: str
    n: int
    sha256: str

    @property
    def columns(self) -> dict[str, Any]:
        """For SQL, by name."""
        return {"vehicle": self.vehicle, "n": self.n, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip that is durably stored. `verified` is None until the verifier has looked at it, after `verify_attempts`.

    `name` is where its bytes lie in the depot; `path` is that name below the receiver's directory.
    """

    key: ClipKey
    path: Path
    size_bytes: int
    priority: str
    metadata: str
    received_wall_ns: int
    verified: bool | None
    problems: str
    name: str = ""
    verify_attempts: int = 0


@dataclass(frozen=True, slots=True)
class PartialRow:
    """A clip under way, as it is durably known. `id` is 0 in an offer, and never given twice by the catalogue."""

    key: ClipKey
    size_bytes: int
    priority: str
    metadata: str
    ranges: tuple[tuple[int, int], ...]
    final_path: str | None
    id: int = 0
    segment_count: int = 0

    @property
    def file_name(self) -> str:
        """Where a depot that keeps partials as files keeps this one."""
        return f"partial/{self.key.vehicle}-{self.key.n:012d}-{self.key.sha256}-{self.id}.part"

    @property
    def segment_prefix(self) -> str:
        """What the names of this partial's segments begin with, in a depot that keeps segments."""
        return f"partial/{self.key.vehicle}/{self.key.n:012d}-{self.key.sha256[:16]}-{self.id}/"


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes `[start, end)` of a partial in an object of their own."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of an offer: the partial to go on with, None when the clip need not come; who gave way for it."""

    partial: PartialRow | None
    gave_way: tuple[PartialRow, ...] = ()


def one(table: Table, key: ClipKey) -> Any:
    """The condition for one clip of a table keyed by vehicle, number and hash."""
    return (table.c.vehicle == key.vehicle) & (table.c.n == key.n) & (table.c.sha256 == key.sha256)


def key_of(row: Row[Any]) -> ClipKey:
    """The key of any row that has one."""
    return ClipKey(row.vehicle, int(row.n), row.sha256)


def partial_row(row: Row[Any]) -> PartialRow:
    """A row of `partials` as a value."""
    ranges = tuple((int(a), int(b)) for a, b in json.loads(row.ranges))
    known = int(row.size_bytes), row.priority, row.metadata, ranges, row.final_path
    return PartialRow(key_of(row), *known, int(row.id), int(row.segment_count))


def stored_clip(row: Row[Any], directory: Path) -> StoredClip:
    """A row of `clips` as a value."""
    return StoredClip(
        key=key_of(row),
        path=directory / row.path,
        size_bytes=int(row.size_bytes),
        priority=row.priority,
        metadata=row.metadata,
        received_wall_ns=int(row.received_wall_ns),
        verified=None if row.verified is None else bool(row.verified),
        problems=row.problems,
        name=row.path,
        verify_attempts=int(row.verify_attempts),
    )


# -- steps of transactions ---------------------------------------------------------------------------------------------


def path_of_clip(connection: Connection, key: ClipKey) -> str | None:
    """Where the bytes of a stored clip lie; None when it is not stored."""
    path = connection.execute(select(tables.clips.c.path).where(one(tables.clips, key))).scalar_one_or_none()
    return None if path is None else str(path)


def has_clip(connection: Connection, key: ClipKey) -> bool:
    """True when the clip is stored."""
    return path_of_clip(connection, key) is not None


def is_settled(connection: Connection, key: ClipKey) -> bool:
    """True when the clip need not come: it is stored, or was removed on purpose."""
    table = tables.removed
    return has_clip(connection, key) or connection.execute(select(table.c.n).where(one(table, key))).first() is not None


def partials_of(connection: Connection, vehicle: str | None) -> list[PartialRow]:
    """Clips under way, least recently touched first."""
    table = tables.partials
    question = select(table).order_by(table.c.touched_wall_ns, table.c.n, table.c.id)
    if vehicle is not None:
        question = question.where(table.c.vehicle == vehicle)
    return [partial_row(row) for row in connection.execute(question)]


def add_partial(connection: Connection, row: PartialRow, wall_ns: int) -> PartialRow:
    """A clip was offered and accepted; the row with its id."""
    values = {
        **row.key.columns, "size_bytes": row.size_bytes, "priority": row.priority, "metadata": row.metadata,
        "ranges": "[]", "final_path": None, "touched_wall_ns": wall_ns,
    }  # fmt: skip
    added = connection.execute(insert(tables.partials).values(values).returning(tables.partials.c.id))
    charged = charge_of(row.size_bytes, row.metadata)
    book(connection, row.key.vehicle, highest_n=row.key.n, charged_bytes=charged)
    return PartialRow(row.key, row.size_bytes, row.priority, row.metadata, (), None, int(added.scalar_one()))


def forget_partial(connection: Connection, database: Database, row: PartialRow, wall_ns: int, kept: str = "") -> None:
    """Delete a partial's row and leave its bytes for deletion, all but those that are at `kept` now.

    The caller holds the vehicle's row; the partial's is locked here before anything is read: a receiver may just be
    adding segments, or planning its final path, under that lock alone, and nobody else would know of those bytes.
    """
    own = tables.partials.c.id == row.id
    locked = connection.execute(select(tables.partials).where(own).with_for_update()).first()
    if locked is None:
        return
    names = list(
        connection.execute(select(tables.segments.c.name).where(tables.segments.c.partial == row.id)).scalars()
    )
    if not names and not kept:  # a file of its own, which finishing would have renamed
        names = [row.file_name]
    leave_for_deletion(connection, database, names, wall_ns)
    if locked.final_path not in (None, kept):
        leave_final(connection, database, str(locked.final_path), wall_ns)
    connection.execute(delete(tables.partials).where(own))
    book(connection, row.key.vehicle, charged_bytes=-charge_of(int(locked.size_bytes), locked.metadata))


def forget_clip(connection: Connection, database: Database, clip: StoredClip, reason: str, wall_ns: int) -> bool:
    """Remove a stored clip on purpose: what remains is that its number came, and why it went.

    False when it was gone already.
    """
    if not connection.execute(delete(tables.clips).where(one(tables.clips, clip.key))).rowcount:
        return False
    charged = charge_of(clip.size_bytes, clip.metadata)
    book(connection, clip.key.vehicle, clips=-1, clip_bytes=-clip.size_bytes, charged_bytes=-charged)
    remember_removed(connection, clip.key, reason, wall_ns)
    leave_final(connection, database, clip.name, wall_ns)
    return True


def remember_removed(connection: Connection, key: ClipKey, reason: str, wall_ns: int) -> None:
    """This clip is not taken in again. The caller holds the vehicle's row."""
    values = {**key.columns, "reason": reason, "wall_ns": wall_ns}
    if connection.execute(select(tables.removed.c.n).where(one(tables.removed, key))).first() is not None:
        return
    connection.execute(insert(tables.removed).values(values))
    book(connection, key.vehicle, highest_n=key.n, removed=1, charged_bytes=charge_of_number(reason))


def leave_for_deletion(connection: Connection, database: Database, names: Iterable[str], *due_wall_ns: int) -> None:
    """No row wants these bytes any more: delete them at each of these times. No name is ever used again."""
    rows = [{"name": name, "due_wall_ns": due_ns} for name in names for due_ns in due_wall_ns]
    if rows:
        connection.execute(database.insert_ignoring(tables.deletions), rows)


def leave_final(connection: Connection, database: Database, name: str, wall_ns: int) -> None:
    """Delete what is at a final path, and once more later: some receiver may be writing it just now."""
    leave_for_deletion(connection, database, [name], wall_ns, wall_ns + DELETION_GRACE_NS)


def log_access(
    connection: Connection, wall_ns: int, who: str, action: str, vehicle: str | None, detail: object
) -> None:
    """Add a row to the access log; it stands if the transaction does."""
    values = {"wall_ns": wall_ns, "who": who, "action": action, "vehicle": vehicle, "detail": json.dumps(detail)}
    connection.execute(insert(tables.access_log).values(values))
