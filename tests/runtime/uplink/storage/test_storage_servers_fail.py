"""Servers behind a receiver that are not durable, go away or hang: nothing is acknowledged that could be lost."""

from __future__ import annotations

import signal

import pytest
from storage_servers import ObjectServer, PostgresServer
from store_steps import CONTENT, NOW_NS, row, stored

from runtime.uplink.catalogue import Catalogue
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage import object_depot
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.storage.depot import DepotError
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.object_depot import ObjectDepot, open_object_store
from runtime.uplink.storage.opening import StoragePlaces, open_depot, open_store


@pytest.fixture
def own_postgres(request: pytest.FixtureRequest):
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'shadowrig[fleet]'")
    server = PostgresServer(*getattr(request, "param", ()))
    yield server
    server.end()


@pytest.mark.parametrize("own_postgres", [("fsync=off",)], indirect=True)
def test_a_server_that_would_lose_rows_in_a_power_cut_is_refused(own_postgres):
    url = own_postgres.new_database()
    with pytest.raises(CatalogueError, match="fsync=off, a power cut would lose clips"):
        Catalogue(url)


@pytest.mark.parametrize("own_postgres", [("synchronous_commit=off",)], indirect=True)
def test_a_server_that_answers_before_it_writes_is_told_to_write_first(own_postgres):
    catalogue = Catalogue(own_postgres.new_database())
    with catalogue.database.reading() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
    catalogue.close()


def test_a_database_that_goes_away_and_comes_back_loses_nothing(own_postgres, tmp_path):
    store = open_store(StoragePlaces(tmp_path, catalogue_url=own_postgres.new_database()), StoreLimits())
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT[:5000])
    store.flush(NOW_NS)
    store.write(row().key, 5000, CONTENT[5000:])
    own_postgres.stop()
    answers, ((key, error),) = store.flush(NOW_NS)
    assert (answers, key) == ([], row().key), "not acknowledged"
    assert isinstance(error, CatalogueError)
    with pytest.raises(CatalogueError):
        store.offer(row(), NOW_NS)
    own_postgres.start()
    assert store.offer(row(), NOW_NS) == RangeSet([(0, 5000)])
    store.write(row().key, 5000, CONTENT[5000:])
    store.flush(NOW_NS)
    assert store.commit(row().key, NOW_NS) is True
    assert stored(store) == [("car-1", 1, CONTENT)]
    store.close()


def test_many_receivers_may_start_on_an_empty_database_at_once(own_postgres):
    import threading

    url = own_postgres.new_database()
    problems: list[Exception] = []

    def start() -> None:
        try:
            Catalogue(url).close()
        except OSError as error:
            problems.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


def test_a_bucket_that_hangs_or_dies_is_a_storage_problem_and_what_it_had_is_still_held(tmp_path, monkeypatch):
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'shadowrig[fleet]'")
    from datetime import timedelta

    monkeypatch.setattr(object_depot, "REQUEST_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(object_depot, "RETRY_TIMEOUT", timedelta(seconds=1))
    server = ObjectServer()
    store = open_store(StoragePlaces(tmp_path, server.new_bucket(), server.options), StoreLimits())
    try:
        store.offer(row(), NOW_NS)
        store.write(row().key, 0, CONTENT[:5000])
        store.flush(NOW_NS)
        store.write(row().key, 5000, CONTENT[5000:])
        server.stop(signal.SIGSTOP)
        answers, ((key, error),) = store.flush(NOW_NS)
        assert (answers, key) == ([], row().key)
        assert isinstance(error, DepotError)
        assert "PUT of partial/car-1" in str(error)
        server.stop(signal.SIGCONT)
        assert store.offer(row(), NOW_NS) == RangeSet([(0, 5000)])
        store.write(row().key, 5000, CONTENT[5000:])
        server.end()
        answers, failures = store.flush(NOW_NS)
        assert (answers, len(failures)) == ([], 1)
    finally:
        server.end()
        store.close()


def test_google_and_azure_are_opened_by_their_urls(tmp_path):
    """As far as that goes without an account: the client is made, its options are checked, nothing is sent."""
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'shadowrig[fleet]'")
    assert "GCSStore" in repr(open_object_store("gs://clips/europe", {"skip_signature": True}))
    azure = {"account_name": "fleet", "skip_signature": True}
    assert "AzureStore" in repr(open_object_store("az://clips/europe", azure))
    with pytest.raises(DepotError, match="no object storage"):
        open_object_store("ftp://clips", {})
    with pytest.raises(DepotError, match="opening s3://clips"):
        open_object_store("s3://clips", {"no_such_option": "1"})


def test_secrets_that_others_may_read_are_refused(tmp_path):
    secret = tmp_path / "bucket.yaml"
    secret.write_text("access_key_id: a\nsecret_access_key: b\n")
    secret.chmod(0o644)
    places = StoragePlaces(tmp_path, "s3://clips", {"region": "us-east-1"}, secret)
    with pytest.raises(DepotError, match="mode 0644: others may read it"):
        open_depot(places)
    secret.chmod(0o600)
    depot = open_depot(places)
    assert isinstance(depot, ObjectDepot)
    depot.close()
