"""The database under the catalogue: SQLite in one file, or PostgreSQL, through SQLAlchemy.

A committed transaction survives a power cut, or the database is not used: SQLite is opened by `open_ledger` (WAL,
synchronous=FULL); a PostgreSQL server that runs with fsync or full_page_writes off is refused, and every session
sets synchronous_commit=on, which no default of the server's can weaken.

Transactions that write begin with SQLite's write lock (BEGIN IMMEDIATE): one that reads before it writes cannot
fail half-way because another one committed in between. PostgreSQL runs at READ COMMITTED; whatever decides about a
vehicle's clips locks that vehicle's row first (`lock_vehicle`). Every failure of the database is a
`CatalogueError`, an OSError: it is answered to the vehicle as a storage problem, and nothing is acknowledged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from runtime.formats.durable_files import open_ledger
from runtime.uplink.storage import tables
from runtime.uplink.storage.upgrading import upgrade

#: A question that the server does not answer in this time fails; vehicles wait 15 s for an answer.
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 10_000
POOL_SIZE = 8
POOL_WAIT_S = 10.0
#: The key of the lock under which the schema is made; any constant that nobody else uses.
SCHEMA_LOCK = 0x5AD0_1216
#: With one of these off, a committed row may be lost by a power cut.
DURABLE_SETTINGS = ("fsync", "full_page_writes")
READING = "shadowrig_reading"


class CatalogueError(OSError):
    """The database could not do what was asked; nothing of the transaction has happened."""


class Database:
    """One catalogue's database, shared by the threads of a process. `place`: a SQLite file, or a PostgreSQL URL."""

    def __init__(self, place: Path | URL | str) -> None:
        self.label = str(place) if isinstance(place, Path) else make_postgresql_url(place).render_as_string(True)
        self.is_shared = not isinstance(place, Path)
        self._engine = sqlite_engine(place) if isinstance(place, Path) else postgresql_engine(place)
        self._reader = self._engine.execution_options(**{READING: True})
        try:
            self._make_schema()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed, durably, when the block ends, and rolled back when it raises."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only looks."""
        with self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise CatalogueError(f"catalogue {self.label}: {reason}") from error
        except (sqlite3.Error, OverflowError, UnicodeError) as error:  # a value that the database has no room for
            raise CatalogueError(f"catalogue {self.label}: {error}") from error

    def insert_ignoring(self, table: Table) -> Insert:
        """INSERT that leaves a row alone that is there already."""
        if self.is_shared:
            return postgresql.insert(table).on_conflict_do_nothing()
        return sqlite.insert(table).on_conflict_do_nothing()

    def lock_vehicle(self, connection: Connection, vehicle: str) -> None:
        """Let nobody else decide about this vehicle's clips until the transaction ends."""
        connection.execute(self.insert_ignoring(tables.vehicles).values(vehicle=vehicle))
        own = select(tables.vehicles).where(tables.vehicles.c.vehicle == vehicle)
        connection.execute(own.with_for_update()).all()

    def _make_schema(self) -> None:
        with self.writing() as connection:
            if self.is_shared:
                check_durability(connection, self.label)
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
            elif connection.exec_driver_sql("PRAGMA user_version").scalar_one():
                raise CatalogueError(
                    f"catalogue {self.label} has the schema of a trial version of Shadowrig:"
                    " start with an empty directory, and let the vehicles deliver what they still hold"
                )
            tables.schema_version.create(connection, checkfirst=True)
            version = connection.execute(select(tables.schema_version.c.version)).scalar()
            if version is None:
                tables.metadata.create_all(connection)
                for statement in append_only(self.is_shared):
                    connection.exec_driver_sql(statement)
                connection.execute(tables.schema_version.insert().values(version=tables.SCHEMA_VERSION))
            elif version != tables.SCHEMA_VERSION:
                self._upgrade(connection, int(version))

    def _upgrade(self, connection: Connection, version: int) -> None:
        reached = upgrade(connection, version, self.is_shared)
        if reached != tables.SCHEMA_VERSION:
            known = f"this software knows {tables.SCHEMA_VERSION}"
            raise CatalogueError(f"catalogue {self.label} has schema {version}, {known}: update it")
        connection.execute(update(tables.schema_version).values(version=reached))


def make_postgresql_url(place: URL | str) -> URL:
    """The URL with our driver named. Raises CatalogueError."""
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise CatalogueError(f"catalogue {place!r} is no URL (fix: postgresql://user@host/database)") from error
    if url.get_backend_name() != "postgresql":
        fix = "fix: postgresql://user@host/database, or leave it out for SQLite"
        raise CatalogueError(f"catalogue {url.render_as_string(True)} is not PostgreSQL ({fix})")
    return url.set(drivername="postgresql+psycopg")


def postgresql_engine(place: URL | str) -> Engine:
    """Connections that are checked before use, give up in bounded time and commit durably."""
    options = f"-c synchronous_commit=on -c statement_timeout={STATEMENT_TIMEOUT_MS}"
    options += f" -c idle_in_transaction_session_timeout={6 * STATEMENT_TIMEOUT_MS}"
    try:
        return create_engine(
            make_postgresql_url(place), pool_size=POOL_SIZE, max_overflow=0, pool_timeout=POOL_WAIT_S,
            pool_pre_ping=True, isolation_level="READ COMMITTED",
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S, "options": options, "application_name": "shadowrig",
                "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
                "tcp_user_timeout": 1000 * CONNECT_TIMEOUT_S,
            },
        )  # fmt: skip
    except (ImportError, NoSuchModuleError) as error:
        raise CatalogueError("PostgreSQL needs psycopg (fix: pip install 'shadowrig[fleet]')") from error


def sqlite_engine(path: Path) -> Engine:
    """Connections of `open_ledger`; transactions are begun by us (see SQLAlchemy's chapter on pysqlite)."""

    def connect() -> sqlite3.Connection:
        connection = open_ledger(path)
        connection.row_factory = None  # SQLAlchemy makes its own rows
        return connection

    engine = create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=QueuePool, pool_size=POOL_SIZE, max_overflow=0,
        pool_timeout=POOL_WAIT_S,
    )  # fmt: skip

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        is_reading = connection.get_execution_options().get(READING, False)
        connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")

    return engine


def check_durability(connection: Connection, label: str) -> None:
    """Raises CatalogueError when the server would lose a committed row in a power cut."""
    for name in DURABLE_SETTINGS:
        if connection.exec_driver_sql(f"SHOW {name}").scalar_one() != "on":
            raise CatalogueError(
                f"catalogue {label}: the server runs with {name}=off, a power cut would lose clips that vehicles have"
                f" deleted (fix: set {name}=on in postgresql.conf)"
            )


def append_only(is_postgresql: bool) -> tuple[str, ...]:
    """Statements after which rows of the access log can be neither changed nor deleted."""
    if not is_postgresql:
        refuse = "BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END"
        return tuple(
            f"CREATE TRIGGER access_log_no_{verb} BEFORE {verb} ON access_log {refuse}" for verb in ("update", "delete")
        )
    return (
        "CREATE FUNCTION access_log_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the access log is append-only'; END $$",
        "CREATE TRIGGER access_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON access_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION access_log_refuse()",
    )
