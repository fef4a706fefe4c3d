"""A COMMIT that is not answered holds up the receiver's loop for a bounded time, and what came of it is found later.

The server is real, and waits as it does in production: for a synchronous standby that is away.
"""

from __future__ import annotations

import itertools
import threading

import pytest
from live_receiver import PATIENCE_S
from sqlalchemy import Executable, text
from store_steps import CONTENT, NOW_NS, hold, row, stored

from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage import commit_deadline, tables
from runtime.uplink.storage.database import CatalogueError, Database
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.opening import StoragePlaces, open_store


@pytest.fixture(autouse=True)
def short_deadline(monkeypatch):
    monkeypatch.setattr(commit_deadline, "COMMIT_TIMEOUT_S", 0.3)


def set_standby(server, name: str | None) -> None:
    import psycopg

    with psycopg.connect(server.url(), autocommit=True, connect_timeout=5) as connection:
        connection.execute(
            f"ALTER SYSTEM SET synchronous_standby_names = '{name}'" if name else "ALTER SYSTEM RESET ALL"
        )
        connection.execute("SELECT pg_reload_conf()")


def refused_by(catalogue: Catalogue) -> list[Exception]:
    """What an offer raises as soon as the server has read its settings. In a thread: it might wait for ever."""
    refused: list[Exception] = []

    def offer() -> None:
        for n in itertools.count(1):
            try:
                catalogue.admit(row(n, vehicle=f"probe-{n}"), StoreLimits(), NOW_NS)
            except CatalogueError as error:
                refused.append(error)
                return

    offering = threading.Thread(target=offer)
    offering.start()
    offering.join(PATIENCE_S)
    assert not offering.is_alive(), "its loop would hang"
    return refused


def test_a_commit_that_waits_for_a_standby_that_is_away_is_given_up_and_may_stand_later(
    own_postgres, tmp_path, monkeypatch
):
    """It must not be cancelled: the server would commit without the standby and answer success."""
    store = open_store(StoragePlaces(tmp_path, catalogue_url=own_postgres.new_database()), StoreLimits())
    try:
        hold(store, row())
        put, refused = store.depot.finish, []

        def standby_goes_away(*arguments: object) -> bool:
            set_standby(own_postgres, "nobody")
            refused.extend(refused_by(store.catalogue))
            return put(*arguments)

        monkeypatch.setattr(store.depot, "finish", standby_goes_away)
        with pytest.raises(CatalogueError, match="COMMIT was not answered in time"):  # no DONE
            store.commit(row().key, NOW_NS)
        assert "COMMIT was not answered in time" in str(refused[0])
        assert stored(store) == [], "reading goes on, and sees nothing that the standby may not have"
        set_standby(own_postgres, None)
        monkeypatch.undo()  # of the short deadline, too: the server takes a moment to read its settings
        assert store.commit(row().key, NOW_NS) is True
        assert stored(store) == [("car-1", 1, CONTENT)], "once, whichever COMMIT stored it"
        assert store.catalogue.partial(row().key) is None
    finally:
        store.close()


def test_a_commit_that_is_answered_leaves_its_connection_alone(postgres):
    database = Database(postgres.new_database())
    with database.writing() as connection:
        first = connection.connection.driver_connection
    ended = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    with database.writing() as connection:
        assert connection.connection.driver_connection is first
    database.close()
    assert ended == []


def write(database: Database, *statements: Executable) -> None:
    with database.writing() as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_commit_that_the_database_refuses_leaves_nothing_and_the_next_one_works(kind, tmp_path, request):
    """A foreign key that is looked at only then."""
    is_sqlite = kind == "sqlite"
    database = Database(tmp_path / "catalogue" if is_sqlite else request.getfixturevalue("postgres").new_database())
    later = "PRAGMA defer_foreign_keys=ON" if is_sqlite else "SELECT 1"
    if not is_sqlite:
        key = "segments_partial_fkey"
        write(database, text(f"ALTER TABLE segments ALTER CONSTRAINT {key} DEFERRABLE INITIALLY DEFERRED"))
    segment = tables.segments.insert().values(name="a", partial=1, start=0, end=1)
    with pytest.raises(CatalogueError, match=r"(?i)foreign key"):
        write(database, text(later), segment)
    with database.writing() as connection:
        assert connection.execute(tables.segments.select()).all() == []
    database.close()
