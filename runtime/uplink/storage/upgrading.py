"""Catalogues of older versions of this software: each step leads from one schema to the next, in one transaction.

A receiver of an older version that still runs knows nothing of what was added: stop all of them before the first newer
one starts. It alone does this; whoever only asks is refused till then (`Database`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

from sqlalchemy import Connection, delete, insert

from runtime.uplink.storage import tables
from runtime.uplink.storage.accounts import recount

#: What schema 3 added: accounts of vehicles, how many segments a partial has, what came of an erased time, how often a
#: verifier has begun to look at a clip; and whose bytes it describes, and when it last let clips expire.
ADDED_IN_3 = {
    "vehicles": ("clips", "clip_bytes", "removed", "tombstones", "charged_bytes", "highest_n"),
    "partials": ("segment_count",),
    "erasures": ("arrived",),
    "clips": ("verify_attempts",),
}


def from_2(connection: Connection, is_postgresql: bool) -> None:
    """Schema 2 had no accounts: offers counted rows. It looked at clips in the order of their arrival."""
    if is_postgresql:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # it may have a million clips
    for table, columns in ADDED_IN_3.items():
        for column in columns:
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} BIGINT NOT NULL DEFAULT 0")
    connection.exec_driver_sql(
        "UPDATE partials SET segment_count = (SELECT count(*) FROM segments WHERE segments.partial = partials.id)"
    )
    tables.CLIPS_THAT_FAILED.create(connection)
    connection.execute(delete(tables.vehicles))
    accounts = [asdict(account) for account in recount(connection).values()]
    if accounts:
        connection.execute(insert(tables.vehicles), accounts)
    connection.exec_driver_sql("DROP INDEX clips_by_size")  # of offers that added up sizes
    connection.exec_driver_sql("DROP INDEX clips_to_verify")
    tables.CLIPS_TO_VERIFY.create(connection)
    for added in (tables.depot_identity, tables.retention_turns):
        added.create(connection, checkfirst=True)


STEPS: Mapping[int, Callable[[Connection, bool], None]] = {2: from_2}


def upgrade(connection: Connection, version: int, is_postgresql: bool) -> int:
    """Lead the catalogue as far as this software knows; the schema it has then."""
    while version in STEPS:
        STEPS[version](connection, is_postgresql)
        version += 1
    return version
