"""The embedded catalogue's file as a database for `PullBook`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from runtime.formats.durable_files import open_ledger

POOL_SIZE = 4


class SqliteTransactions:
    """Transactions on one SQLite file, each on a connection of its own. Failures are OSErrors."""

    def __init__(self, path: Path) -> None:
        def connect() -> sqlite3.Connection:
            connection = open_ledger(path)
            connection.row_factory = None  # SQLAlchemy makes its own rows
            return connection

        self._path = path
        self._engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=QueuePool, pool_size=POOL_SIZE)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is durable when the block ends."""
        with self._begin("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only looks."""
        with self._begin("BEGIN") as connection:
            yield connection

    @contextmanager
    def _begin(self, statement: str) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(statement)
                yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise OSError(f"catalogue {self._path}: {error}") from error
