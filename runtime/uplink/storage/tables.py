"""The catalogue's tables, for SQLite and PostgreSQL alike. Times are nanoseconds, byte counts are bytes.

`clips` is what vehicles were told with DONE; `partials` and `segments` what they were told with ACK. The columns of
`clips` after `problems` are taken out of the metadata (`clip_facts`) to be asked for; an unknown time is NULL.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

#: `upgrading` leads older ones here.
SCHEMA_VERSION = 3

#: SQLite gives ids automatically to INTEGER keys only, and both spell the same 64 bits.
Identity = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()


def counted(name: str) -> Column[int]:
    """A count that begins at nothing."""
    return Column(name, BigInteger, nullable=False, server_default="0")


schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

#: One row a vehicle, locked by whatever changes what it may store: receivers take turns, vehicle by vehicle. The
#: counts are its account (`storage.accounts`).
vehicles = Table(
    "vehicles",
    metadata,
    Column("vehicle", Text, primary_key=True),
    counted("clips"),
    counted("clip_bytes"),
    counted("removed"),
    counted("tombstones"),
    counted("charged_bytes"),
    counted("highest_n"),
)

clips = Table(
    "clips",
    metadata,
    Column("vehicle", Text, primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("sha256", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("priority", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("received_wall_ns", BigInteger, nullable=False),
    Column("verified", Integer),
    Column("problems", Text, nullable=False, server_default=""),
    Column("verifying_until_wall_ns", BigInteger, nullable=False, server_default="0"),
    Column("verify_attempts", BigInteger, nullable=False, server_default="0"),  # counted before each look
    Column("start_wall_ns", BigInteger),
    Column("end_wall_ns", BigInteger),
    Column("kind", Text),
    Column("model", Text),
    Column("software_version", Text),
)
Index("clips_by_time", clips.c.start_wall_ns)
Index("clips_by_arrival", clips.c.received_wall_ns)
#: Vehicles take turns.
CLIPS_TO_VERIFY = Index(
    "clips_to_verify_by_vehicle",
    clips.c.vehicle,
    clips.c.received_wall_ns,
    clips.c.n,
    sqlite_where=clips.c.verified.is_(None),
    postgresql_where=clips.c.verified.is_(None),
)
CLIPS_THAT_FAILED = Index(
    "clips_that_failed",
    clips.c.received_wall_ns,
    sqlite_where=clips.c.verified == 0,
    postgresql_where=clips.c.verified == 0,
)

#: Rules and campaigns of a clip (`kind`: "rule" or "campaign"); one clip may hold many of each.
labels = Table(
    "clip_labels",
    metadata,
    Column("vehicle", Text, primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("sha256", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    ForeignKeyConstraint(["vehicle", "n", "sha256"], ["clips.vehicle", "clips.n", "clips.sha256"], ondelete="CASCADE"),
)
Index("labels_by_name", labels.c.kind, labels.c.name)

partials = Table(
    "partials",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("vehicle", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("priority", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("ranges", Text, nullable=False),
    Column("final_path", Text),
    Column("touched_wall_ns", BigInteger, nullable=False),
    counted("segment_count"),
    UniqueConstraint("vehicle", "n", "sha256"),
    sqlite_autoincrement=True,  # an id is never given twice
)

segments = Table(
    "segments",
    metadata,
    Column("name", Text, primary_key=True),
    Column("partial", Identity, ForeignKey("partials.id", ondelete="CASCADE"), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
)
Index("segments_of_partial", segments.c.partial)

tombstones = Table(
    "tombstones",
    metadata,
    Column("vehicle", Text, primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
)

#: Clips that were stored or offered once and are gone on purpose. Nothing of what they showed is kept.
removed = Table(
    "removed",
    metadata,
    Column("vehicle", Text, primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("sha256", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
)

#: Orders to forget a vehicle's time; they stand for what is still on the vehicle: `arrived` clips of it came since.
erasures = Table(
    "erasures",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("vehicle", Text, nullable=False, index=True),
    Column("from_wall_ns", BigInteger, nullable=False),
    Column("to_wall_ns", BigInteger, nullable=False),
    Column("ordered_wall_ns", BigInteger, nullable=False),
    counted("arrived"),
    sqlite_autoincrement=True,
)

#: Names of bytes that no row wants any more, and when they are to be deleted; some twice (see `storage.rows`).
deletions = Table(
    "deletions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("due_wall_ns", BigInteger, primary_key=True, autoincrement=False),
)
Index("deletions_by_time", deletions.c.due_wall_ns)

#: One row: the depot whose bytes these rows describe (`storage.belonging`).
depot_identity = Table(
    "depot_identity",
    metadata,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("identity", Text, nullable=False),
    Column("is_agreed", Integer, nullable=False),
)

#: One row, while one receiver has the catalogue: when it let clips expire (`storage.retention_clock`).
retention_turns = Table(
    "retention_turns",
    metadata,
    Column("wall_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("doubted", Integer, nullable=False),
)

#: What vehicles said of their campaigns last, where receivers share the catalogue.
campaign_reports = Table(
    "campaign_reports",
    metadata,
    Column("vehicle", Text, primary_key=True),
    Column("received_wall_ns", BigInteger, nullable=False),
    Column("report", Text, nullable=False),
)

#: Who looked at, took out or erased what. Rows are only ever added (a trigger holds that).
access_log = Table(
    "access_log",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("wall_ns", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("vehicle", Text),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("access_by_time", access_log.c.wall_ns)

#: What the fleet asked vehicles to send, and what they answered (`pull_book`).
pulls = Table(
    "pulls",
    metadata,
    Column("id", Text, primary_key=True),
    Column("vehicle", Text, nullable=False),
    Column("cameras", Text, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("end_ns", BigInteger, nullable=False),
    Column("clock", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("asked_wall_ns", BigInteger, nullable=False),
    Column("expires_wall_ns", BigInteger, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("n", BigInteger, nullable=False, server_default="0"),
    Column("answered_wall_ns", BigInteger),
)
Index("pulls_by_vehicle", pulls.c.vehicle, pulls.c.state)
