"""What the ledger says: numbers, bytes, alarms, and the folding of old rows. Functions over an open connection.

Old settled rows are folded into three facts, so that the ledger stays small while `{1..n}` stays accounted for.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from runtime.messages import Priority
from runtime.spool.admission import Kind, Resident
from runtime.spool.clips import (
    ABANDONED,
    BLOCK_BYTES,
    EXPIRES_KEY,
    Alarm,
    ClipState,
    SpoolCounts,
    is_evidence,
    occupied_bytes,
)
from runtime.spool.wall_time import IS_EXPIRED, TrustedWall

MAX_ALARMS = 1000
#: What is told at once; the rest follows.
ALARMS_AT_ONCE = 100
#: Metadata of settled clips that stays readable; of older ones only the clip_id stays.
KEEP_METADATA_BYTES = 256 << 10
#: What was settled from an index of its own: a status must not read thousands of old rows again and again.
COUNTS = """
SELECT (SELECT count(*) FROM clips WHERE state = 'pending') AS pending,
       (SELECT count(*) FROM clips WHERE state = 'delivered') AS delivered,
       (SELECT count(*) FROM clips WHERE state = 'tombstoned') AS tombstoned,
       (SELECT coalesce(max(n), 0) FROM clips) AS highest
"""

FOLD = """
INSERT INTO facts VALUES ('settled_through', :through) ON CONFLICT (name) DO UPDATE SET value = :through
"""


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


def newest_alarms(connection: sqlite3.Connection, limit: int) -> list[Alarm]:
    """The newest alarms, newest first."""
    rows = connection.execute("SELECT wall_ns, text FROM alarms ORDER BY id DESC LIMIT ?", (limit,))
    return [Alarm(int(row["wall_ns"]), str(row["text"])) for row in rows]


def has_untold_alarms(connection: sqlite3.Connection) -> bool:
    """True when some alarm was told to nobody yet, by any process."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM alarms").fetchone()[0]) > fact(connection, "told")


def take_untold_alarms(connection: sqlite3.Connection) -> list[Alarm]:
    """The alarms that nobody was told of yet, oldest first, ALARMS_AT_ONCE at most; they count as told from now on."""
    rows = connection.execute(
        "SELECT id, wall_ns, text FROM alarms WHERE id > ? ORDER BY id LIMIT ?",
        (fact(connection, "told"), ALARMS_AT_ONCE),
    ).fetchall()
    if rows:
        add_to_fact(connection, "told", int(rows[-1]["id"]) - fact(connection, "told"))
    return [Alarm(int(row["wall_ns"]), str(row["text"])) for row in rows]


def entomb(connection: sqlite3.Connection, n: int, reason: str, wall_ns: int) -> bool:
    """Give up on a pending clip, with an alarm; False when it was settled already. Its file goes after the commit."""
    changed = connection.execute(
        "UPDATE clips SET state = 'tombstoned', reason = ? WHERE n = ? AND state = 'pending'", (reason, n)
    ).rowcount
    if changed:
        add_alarm(connection, wall_ns, f"clip {n}: {reason}")
    return bool(changed)


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the disk that all files take, drafts counted with what they reserved."""
    row = connection.execute(
        "SELECT (SELECT coalesce(sum((size_bytes + :last) / :block), 0) FROM clips WHERE has_file = 1)"
        " + (SELECT coalesce(sum((reserved_bytes + :last) / :block), 0) FROM drafts)",
        {"block": BLOCK_BYTES, "last": BLOCK_BYTES - 1},
    ).fetchone()
    return int(row[0]) * BLOCK_BYTES


def residents(connection: sqlite3.Connection, wall: TrustedWall) -> list[Resident]:
    """Every file that eviction may look at; drafts that are being written are not among them."""
    clips = connection.execute(
        f"SELECT n, state, rank, size_bytes, {IS_EXPIRED} AS is_expired FROM clips WHERE has_file = 1", wall.instant()
    )
    found = [
        Resident(_kind(row), int(row["n"]), int(row["rank"]), occupied_bytes(int(row["size_bytes"]))) for row in clips
    ]
    partial = connection.execute(
        f"SELECT id, file_name, priority, reserved_bytes FROM drafts WHERE abandoned = {ABANDONED}"
    )
    return found + [
        Resident(
            Kind.EVIDENCE if is_evidence(row["file_name"]) else Kind.PARTIAL,
            int(row["id"]),
            Priority(row["priority"]).rank,
            occupied_bytes(int(row["reserved_bytes"])),
        )
        for row in partial
    ]


def _kind(row: sqlite3.Row) -> Kind:
    if row["state"] != ClipState.PENDING.value:
        return Kind.DELIVERED
    return Kind.EXPIRED if row["is_expired"] else Kind.PENDING


def expired(connection: sqlite3.Connection, wall: TrustedWall, limit: int) -> list[int]:
    """Numbers of pending clips past their date, oldest first."""
    rows = connection.execute(
        f"SELECT n FROM clips WHERE state = 'pending' AND {IS_EXPIRED} ORDER BY n LIMIT :limit",
        {**wall.instant(), "limit": limit},
    )
    return [int(row[0]) for row in rows]


def count(connection: sqlite3.Connection, quota_bytes: int, ledger_bytes: int) -> SpoolCounts:
    """The ledger in numbers, as of one instant."""
    row = connection.execute(COUNTS).fetchone()
    partial = connection.execute(f"SELECT count(*) FROM drafts WHERE abandoned = {ABANDONED}").fetchone()[0]
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
        shrunk=fact(connection, "shrunk"),
        ledger_bytes=ledger_bytes,
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


def shorten_settled(connection: sqlite3.Connection, keep_bytes: int = KEEP_METADATA_BYTES) -> None:
    """Cut the metadata of all but the newest settled clips down to the clip_id."""
    connection.execute(
        "UPDATE clips SET metadata = CASE WHEN json_extract(metadata, '$.clip_id') IS NULL THEN '{}'"
        "  ELSE json_object('clip_id', json_extract(metadata, '$.clip_id')) END"
        " WHERE n IN (SELECT n FROM (SELECT n, sum(length(metadata)) OVER (ORDER BY n DESC) AS newer_bytes"
        "  FROM clips WHERE state != 'pending') WHERE newer_bytes > ?)",
        (keep_bytes,),
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
    said = json.loads(metadata)
    clip_id = None if said.get("clip_id") is None else str(said["clip_id"])
    connection.execute(
        "INSERT INTO clips (n, state, priority, rank, sha256, size_bytes, file_name, has_file, sealed_wall_ns,"
        " metadata, expires_wall_ns, clip_id) VALUES (?, 'pending', ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)",
        (
            n,
            priority.value,
            priority.rank,
            sha256,
            size_bytes,
            path.name,
            wall_ns,
            metadata,
            said.get(EXPIRES_KEY),
            clip_id,
        ),
    )


def add_abandoned(connection: sqlite3.Connection, file_name: str, size_bytes: int, metadata: str | None = None) -> None:
    """Charge the spool with a file in `partial/` that nobody writes any more."""
    connection.execute(
        "INSERT INTO drafts (file_name, reserved_bytes, priority, abandoned, metadata)"
        f" VALUES (?, ?, ?, {ABANDONED}, ?) ON CONFLICT (file_name) DO UPDATE"
        f" SET reserved_bytes = excluded.reserved_bytes, abandoned = {ABANDONED}",
        (file_name, size_bytes, Priority.NORMAL.value, metadata),
    )
