"""The ledger's tables (`ledger` tells of them), and how one of an older version is brought up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from runtime.spool.clips import LedgerError, SpoolError

SCHEMA_VERSION = 5

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
    metadata TEXT NOT NULL,
    expires_wall_ns INTEGER,
    sealed_boot_id TEXT,
    sealed_ns INTEGER,
    clip_id TEXT
);
CREATE INDEX clips_waiting ON clips (rank, n) WHERE state = 'pending';
CREATE INDEX clips_with_files ON clips (n) WHERE has_file = 1;
CREATE INDEX clips_by_id ON clips (clip_id) WHERE clip_id IS NOT NULL;
CREATE INDEX clips_to_report ON clips (n) WHERE state = 'tombstoned' AND reported = 0;
CREATE INDEX clips_delivered ON clips (state) WHERE state = 'delivered';
CREATE INDEX clips_tombstoned ON clips (reported, state) WHERE state = 'tombstoned';
CREATE TABLE drafts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file_name TEXT NOT NULL UNIQUE,
    reserved_bytes INTEGER NOT NULL,
    priority TEXT NOT NULL,
    abandoned INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    metadata TEXT,
    boot_id TEXT,
    begun_ns INTEGER,
    as_old_as_boot_id TEXT,
    as_old_as_ns INTEGER,
    as_old_as_wall_ns INTEGER
);
CREATE TABLE alarms (id INTEGER PRIMARY KEY AUTOINCREMENT, wall_ns INTEGER NOT NULL, text TEXT NOT NULL);
"""

#: What brings a ledger of schema version i + 1 to version i + 2.
MIGRATIONS = (
    ("ALTER TABLE clips ADD COLUMN expires_wall_ns INTEGER", "ALTER TABLE drafts ADD COLUMN boot_id TEXT"),
    (
        "ALTER TABLE clips ADD COLUMN sealed_boot_id TEXT",
        "ALTER TABLE clips ADD COLUMN sealed_ns INTEGER",
        "ALTER TABLE drafts ADD COLUMN begun_ns INTEGER",
        "ALTER TABLE clips ADD COLUMN clip_id TEXT",
        "UPDATE clips SET clip_id = CAST(json_extract(metadata, '$.clip_id') AS TEXT)",
        "CREATE INDEX clips_by_id ON clips (clip_id) WHERE clip_id IS NOT NULL",
    ),
    (
        "ALTER TABLE drafts ADD COLUMN as_old_as_boot_id TEXT",
        "ALTER TABLE drafts ADD COLUMN as_old_as_ns INTEGER",
        "ALTER TABLE drafts ADD COLUMN as_old_as_wall_ns INTEGER",
    ),
    (
        "CREATE INDEX IF NOT EXISTS clips_delivered ON clips (state) WHERE state = 'delivered'",
        "CREATE INDEX IF NOT EXISTS clips_tombstoned ON clips (reported, state) WHERE state = 'tombstoned'",
    ),
)


def prepare_schema(connection: sqlite3.Connection, path: Path, may_create: bool = True) -> bool:
    """Create the tables of a new ledger; True when it was new.

    Raises sqlite3.DatabaseError when it is damaged, LedgerError when it is new and must not be.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise SpoolError(f"{path} has schema {version}, this software knows up to {SCHEMA_VERSION}: update it")
        if version == 0 and not may_create:
            raise LedgerError(f"{path} holds no ledger")
        if version == 0:
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement)
        for statements in MIGRATIONS[version - 1 :] if version else ():
            for statement in statements:
                connection.execute(statement)
        if version < SCHEMA_VERSION:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return version == 0
