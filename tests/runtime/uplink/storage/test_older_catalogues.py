"""A catalogue of an older version: a receiver leads it to the present one, and nobody else touches it."""

from __future__ import annotations

import random
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import event

from runtime.backoff import Backoff
from runtime.cli import main
from runtime.clock import SystemClock
from runtime.config import load_receiver_config
from runtime.processes.receiver_process import ReceiverWork
from runtime.processes.shell import ProcessShell
from runtime.uplink.keys import EnrolledVehicles, ensure_keys
from runtime.uplink.storage import tables
from runtime.uplink.storage.accounts import recount
from runtime.uplink.storage.database import CatalogueSetupError, Database
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.opening import StoragePlaces, open_catalogue, open_store

SCHEMA_2 = Path(__file__).parent / "catalogue_schema_2.sql"
START_FIRST = "has schema 2: start the new receiver first"


@pytest.fixture
def older(tmp_path) -> Path:
    """A receiver's directory with such a catalogue."""
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as connection:
        connection.executescript(SCHEMA_2.read_text())
    return tmp_path


def dump_of(directory: Path) -> list[str]:
    with sqlite3.connect(directory / "catalogue.sqlite") as connection:
        return list(connection.iterdump())


def indexes_of(directory: Path) -> set[str]:
    with sqlite3.connect(directory / "catalogue.sqlite") as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}


def test_an_upgraded_catalogue_has_the_indexes_of_a_new_one(older, tmp_path_factory):
    """One more would be kept up to date for nothing with every clip."""
    new = tmp_path_factory.mktemp("new")
    for directory in (older, new):
        open_store(StoragePlaces(directory), StoreLimits()).close()
    assert indexes_of(older) == indexes_of(new)
    assert "clips_by_size" not in indexes_of(new), "nobody asks by size"


def test_who_only_asks_leaves_an_older_catalogue_to_the_receiver(older):
    """Receivers of the older version may be running, and book what they know."""
    before = dump_of(older)
    with pytest.raises(CatalogueSetupError, match=START_FIRST):
        open_catalogue(StoragePlaces(older))
    assert dump_of(older) == before
    open_store(StoragePlaces(older), StoreLimits()).close()
    catalogue = open_catalogue(StoragePlaces(older))
    with catalogue.database.reading() as connection:
        assert connection.execute(tables.schema_version.select()).scalar_one() == tables.SCHEMA_VERSION
    catalogue.close()


def test_a_recount_never_holds_all_rows_of_postgresql(postgres):
    """A receiver may have 2 GiB, and a catalogue a million clips with their metadata."""
    database, cursors = Database(postgres.new_database()), []

    @event.listens_for(database._engine, "after_cursor_execute")
    def note(connection, cursor, *rest) -> None:
        cursors.append(type(cursor).__name__)

    with database.writing() as connection:
        assert recount(connection) == {}
    database.close()
    assert cursors == ["ServerCursor"] * 4, "clips, partials, removed and given-up numbers"


@pytest.fixture
def config_path(older, tmp_path_factory) -> Path:
    """The configuration of the receiver there."""
    path = tmp_path_factory.mktemp("config") / "receiver.yaml"
    path.write_text(f"bind: tcp://127.0.0.1:*\ndirectory: {older}\nkeys: {path.parent / 'keys'}\n")
    return path


@pytest.mark.parametrize("command", [["catalogue", "query"], ["catalogue", "log"], ["pull", "--list"]])
def test_commands_beside_older_receivers_say_what_to_do(older, config_path, capsys, command):
    before = dump_of(older)
    assert main([*command, "--config", str(config_path)]) == 1
    assert START_FIRST in capsys.readouterr().err
    assert dump_of(older) == before


@pytest.fixture
def work(config_path) -> ReceiverWork:
    """What the receiver's process does, from its start on."""
    config = load_receiver_config(config_path)
    clock = SystemClock()
    return ReceiverWork(
        config,
        ensure_keys(config.keys_directory, "receiver"),
        EnrolledVehicles(config.keys_directory),
        clock,
        ProcessShell("receiver", config.directory, clock, 30.0),
        Backoff(1.0, 60.0, random.Random(1)),
    )


def test_the_receivers_process_upgrades_before_anything_else_asks_its_catalogue(older, work):
    stop = threading.Event()
    stop.set()  # it starts, and leaves
    work.receive(stop)
    open_catalogue(StoragePlaces(older)).close()


def test_a_receiver_whose_folder_another_one_holds_upgrades_nothing(older, work):
    """It may be an older one that runs on."""
    holder, before = FolderDepot(older), dump_of(older)
    with pytest.raises(OSError, match="in use by another receiver"):
        work.receive(threading.Event())
    assert dump_of(older) == before
    holder.close()
