"""The database under the catalogue: SQLite in one file, or PostgreSQL, through SQLAlchemy.

A committed transaction survives a power cut, or the database is not used: SQLite is opened by `open_ledger` (WAL,
synchronous=FULL); a PostgreSQL server that runs with fsync or full_page_writes off is refused, and every session
sets synchronous_commit=on, which no default of the server's can weaken.

Transactions that write begin with SQLite's write lock (BEGIN IMMEDIATE): one that reads before it writes cannot
fail half-way because another one committed in between. PostgreSQL runs at READ COMMITTED; whatever decides about a
vehicle's clips locks that vehicle's row first (`lock_vehicle`). Every failure of the database is a
`CatalogueError`, an OSError: it is answered to the vehicle as a storage problem, and nothing is acknowledged. A COMMIT
that PostgreSQL does not answer in time is one, too (`commit_deadline`).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from runtime.formats.sqlite_ledger import open_ledger
from runtime.uplink.storage import tables
from runtime.uplink.storage.accounts import Account
from runtime.uplink.storage.commit_deadline import shut_when_late
from runtime.uplink.storage.limits import SetupError
from runtime.uplink.storage.upgrading import STEPS, upgrade

#: A question that the server takes longer for fails (COMMIT: see `commit_deadline`); vehicles wait 15 s for an answer.
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 10_000
POOL_SIZE = 8
POOL_WAIT_S = 10.0
#: The key of the lock under which the schema is made; any constant that nobody else uses.
SCHEMA_LOCK = 0x5AD0_1216
#: And of the one that a receiver holds whose clips lie in a folder.
ALONE_LOCK = 0x5AD0_1217
#: Each side of a connection ends this soon after the other's machine has gone; the server's, and its locks with it.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
#: With one of these off, a committed row may be lost by a power cut.
DURABLE_SETTINGS = ("fsync", "full_page_writes")
READING = "shadowrig_reading"
START_FIRST = f"start the new receiver first, which leads it to {tables.SCHEMA_VERSION}"
#: insufficient_privilege, invalid_schema_name, invalid_password, invalid_authorization, invalid_catalog_name
LASTING_STATES = frozenset({"42501", "3F000", "28P01", "28000", "3D000"})
#: Of a connection that was refused libpq hands on the text alone. The last one is SQLite's.
LASTING_REFUSALS = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry"
    r'|(role|database) ".*" does not exist|file is not a database'
)


class CatalogueError(OSError):
    """The database could not do what was asked. Nothing of the transaction has happened, or COMMIT was not answered."""


class CatalogueSetupError(CatalogueError, SetupError):
    """It never will, configured as it is."""


class NotAloneError(CatalogueError):
    """The lock of a receiver with a folder has gone with its connection; another one may have it by now."""


class Database:
    """One catalogue's database, shared by the threads of a process. `place`: a SQLite file, or a PostgreSQL URL.

    An older schema is led to ours where `upgrades` says so: a receiver's store. Anybody else might do it under
    receivers of the older version, which go on booking as they know it.
    """

    def __init__(self, place: Path | URL | str, upgrades: bool = False) -> None:
        self.label = str(place) if isinstance(place, Path) else make_postgresql_url(place).render_as_string(True)
        self.is_shared = not isinstance(place, Path)
        self._engine = sqlite_engine(place) if isinstance(place, Path) else postgresql_engine(place)
        self._alone: Connection | None = None
        self._reader = self._engine.execution_options(**{READING: True})
        try:
            self._make_schema(upgrades)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close every connection."""
        if self._alone is not None:
            self._alone.invalidate()
            self._alone.close()
        self._engine.dispose()

    def take_alone(self) -> None:
        """Be the only receiver that does so, as long as a connection lasts; SQLite lies in a folder that is locked.

        Raises CatalogueError while another one is.
        """
        if not self.is_shared or self._alone is not None:
            return
        with self._translated():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            question = text("SELECT pg_try_advisory_lock(:key)")
            is_ours = connection.execute(question, {"key": ALONE_LOCK}).scalar_one()
        if not is_ours:
            connection.close()
            fix = "stop it; receivers that share a catalogue share a bucket"
            raise CatalogueError(f"catalogue {self.label} is in use by another receiver with a folder (fix: {fix})")
        self._alone = connection

    def raise_if_not_alone(self) -> None:
        """Look at the lock of `take_alone`, which lasts as long as its connection: no other one tells.

        Raises NotAloneError when it is gone; CatalogueError when the server did not answer, and it may still be held.
        """
        alone = self._alone
        if alone is None:
            return
        try:
            with self._translated():
                alone.execute(text("SELECT 1"))
        except CatalogueError as error:
            if alone.invalidated:
                raise NotAloneError(f"{error} (the lock of a receiver with a folder is lost: start over)") from error
            raise

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed, durably, when the block ends, and rolled back when it raises."""
        with (
            self._translated(),
            self._engine.connect() as connection,
            ExitStack() as until_committed,
            connection.begin(),
        ):
            yield connection
            until_committed.enter_context(self._commit_in_time(connection))

    @contextmanager
    def _commit_in_time(self, connection: Connection) -> Iterator[None]:
        """A block that commits. Raises CatalogueError when the server does not answer: it may have committed."""
        if not self.is_shared:
            yield
            return
        with shut_when_late(connection) as was_shut:
            try:
                yield
            except SQLAlchemyError as error:
                if not was_shut.is_set():
                    raise
                late = "COMMIT was not answered in time (fix: see whether a synchronous standby or the disk is away)"
                raise CatalogueError(f"catalogue {self.label}: {late}") from error

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
            cause = getattr(error, "orig", None) or error
            kind = CatalogueSetupError if is_lasting(cause) else CatalogueError
            raise kind(f"catalogue {self.label}: {str(cause).strip().splitlines()[0]}") from error
        except (sqlite3.Error, OverflowError, UnicodeError) as error:  # a value that the database has no room for
            kind = CatalogueSetupError if is_lasting(error) else CatalogueError
            raise kind(f"catalogue {self.label}: {error}") from error

    def insert_ignoring(self, table: Table) -> Insert:
        """INSERT that leaves a row alone that is there already."""
        if self.is_shared:
            return postgresql.insert(table).on_conflict_do_nothing()
        return sqlite.insert(table).on_conflict_do_nothing()

    def lock_vehicle(self, connection: Connection, vehicle: str) -> Account:
        """Let nobody else decide about this vehicle's clips until the transaction ends; the account as it stands."""
        connection.execute(self.insert_ignoring(tables.vehicles).values(vehicle=vehicle))
        own = select(tables.vehicles).where(tables.vehicles.c.vehicle == vehicle)
        return Account(**connection.execute(own.with_for_update()).one()._mapping)

    def _make_schema(self, upgrades: bool) -> None:
        with self.writing() as connection:
            if self.is_shared:
                check_durability(connection, self.label)
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
            elif connection.exec_driver_sql("PRAGMA user_version").scalar_one():
                raise CatalogueSetupError(
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
                if version in STEPS and not upgrades:
                    raise CatalogueSetupError(f"catalogue {self.label} has schema {version}: {START_FIRST}")
                self._upgrade(connection, int(version))

    def _upgrade(self, connection: Connection, version: int) -> None:
        reached = upgrade(connection, version, self.is_shared)
        if reached != tables.SCHEMA_VERSION:
            known = f"this software knows {tables.SCHEMA_VERSION}"
            raise CatalogueSetupError(f"catalogue {self.label} has schema {version}, {known}: update it")
        connection.execute(update(tables.schema_version).values(version=reached))


def is_lasting(cause: BaseException) -> bool:
    """True for a refusal that no waiting mends. A server whose messages are not in English is waited for."""
    return getattr(cause, "sqlstate", None) in LASTING_STATES or LASTING_REFUSALS.search(str(cause)) is not None


def make_postgresql_url(place: URL | str) -> URL:
    """The URL with our driver named. Raises CatalogueSetupError."""
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise CatalogueSetupError(f"catalogue {place!r} is no URL (fix: postgresql://user@host/database)") from error
    if url.get_backend_name() != "postgresql":
        fix = "fix: postgresql://user@host/database, or leave it out for SQLite"
        raise CatalogueSetupError(f"catalogue {url.render_as_string(True)} is not PostgreSQL ({fix})")
    return url.set(drivername="postgresql+psycopg")


def postgresql_engine(place: URL | str) -> Engine:
    """Connections that are checked before use, give up in bounded time and commit durably."""
    options = f"-c synchronous_commit=on -c statement_timeout={STATEMENT_TIMEOUT_MS}"
    options += f" -c idle_in_transaction_session_timeout={6 * STATEMENT_TIMEOUT_MS}"
    options += "".join(f" -c tcp_{name}={value}" for name, value in KEEPALIVES.items())
    try:
        return create_engine(
            make_postgresql_url(place), pool_size=POOL_SIZE, max_overflow=0, pool_timeout=POOL_WAIT_S,
            pool_pre_ping=True, isolation_level="READ COMMITTED",
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S, "options": options, "application_name": "shadowrig",
                "tcp_user_timeout": 1000 * CONNECT_TIMEOUT_S, **KEEPALIVES,
            },
        )  # fmt: skip
    except (ImportError, NoSuchModuleError) as error:
        raise CatalogueSetupError("PostgreSQL needs psycopg (fix: pip install 'shadowrig[fleet]')") from error


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
    """Raises CatalogueSetupError when the server would lose a committed row in a power cut."""
    for name in DURABLE_SETTINGS:
        if connection.exec_driver_sql(f"SHOW {name}").scalar_one() != "on":
            raise CatalogueSetupError(
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
