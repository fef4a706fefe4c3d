"""The lock of a receiver with a folder goes with one connection to the database: it is looked at, and taken again."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest
import yaml
from live_receiver import wait_for
from store_steps import NOW_NS

from runtime.clock import SystemClock
from runtime.config.receiver_config import load_receiver_config
from runtime.processes.receiver_process import run_receiver_process
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage.database import CatalogueError, Database, NotAloneError
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.housekeeping import HousekeepingThread
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.removal import RetentionPolicy
from runtime.uplink.store import ClipStore

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'shadowrig[fleet]'")

PATIENCE_S = 30.0
HOLDERS = "FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = %s)"


def end_holder(url: str) -> int:
    """What a restart of the database does to the connection that holds the lock; how many there were."""
    name = url.rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as connection:
        return len(connection.execute(f"SELECT pg_terminate_backend(pid) {HOLDERS}".encode(), (name,)).fetchall())


def holders(url: str) -> list[int]:
    with psycopg.connect(url, autocommit=True) as connection:
        return [row[0] for row in connection.execute(f"SELECT pid {HOLDERS}".encode(), (url.rpartition("/")[2],))]


def test_a_lock_that_is_lost_is_noticed_and_nothing_more_is_tidied(postgres, tmp_path):
    url = postgres.new_database()
    store = ClipStore(tmp_path, StoreLimits(), FolderDepot(tmp_path), Catalogue(url))
    store.recover(NOW_NS)
    housekeeping = HousekeepingThread(store, RetentionPolicy(), SystemClock())
    housekeeping.turn(NOW_NS)
    housekeeping.raise_if_dead()
    assert end_holder(url) == 1
    copy = Database(url)
    copy.take_alone()  # which nothing keeps it from any more
    housekeeping.turn(NOW_NS)
    with pytest.raises(NotAloneError, match="start over"):
        housekeeping.raise_if_dead()
    store.close()
    again = Database(url)
    with pytest.raises(CatalogueError, match="in use by another receiver"):
        again.take_alone()
    copy.close()
    wait_for(lambda: not holders(url), "the server to let the lock go")
    again.take_alone()
    again.raise_if_not_alone()
    again.close()


def test_a_receiver_with_a_folder_starts_over_and_takes_the_lock_again(postgres, tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.uplink.storage.housekeeping.DELETE_PERIOD_S", 0.1)
    url = postgres.new_database()
    config = tmp_path / "receiver.yaml"
    config.write_text(yaml.safe_dump({"bind": "tcp://127.0.0.1:*", "directory": "clips", "catalogue": url}))
    stop, codes, status = threading.Event(), [], Path(tmp_path / "clips/receiver.json")

    def serve() -> None:
        codes.append(run_receiver_process(load_receiver_config(config), stop, random.Random(1)))

    def said(name: str) -> object:
        return json.loads(status.read_text()).get(name) if status.exists() else None

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        wait_for(lambda: said("address"), "the receiver to listen")
        (before,) = holders(url)
        assert end_holder(url) == 1
        wait_for(lambda: "start over" in str(said("waiting_for_storage")), "the loss in the status")
        wait_for(lambda: said("address") and holders(url), "the receiver to listen again")
        assert holders(url) != [before]
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert codes == [0]
