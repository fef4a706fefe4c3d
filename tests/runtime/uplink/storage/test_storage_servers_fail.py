"""Servers behind a receiver that are not durable, go away or hang: nothing is acknowledged that could be lost."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import threading
from pathlib import Path

import pytest
import yaml
import zmq
from live_receiver import PATIENCE_S, VEHICLE, RunningReceiver, ask, wait_for
from storage_servers import ObjectServer
from store_steps import CONTENT, NOW_NS, row, stored

from runtime.cli import main
from runtime.config.receiver_config import load_receiver_config
from runtime.processes.receiver_process import run_receiver_process
from runtime.receiver_storage import places_of
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.keys import ensure_local_pair, load_keys
from runtime.uplink.ranges import RangeSet
from runtime.uplink.reception import STORAGE_DETAIL
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.storage import figures, object_access, object_depot
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.storage.depot import DepotError
from runtime.uplink.storage.limits import SetupError, StoreLimits
from runtime.uplink.storage.object_access import open_object_store
from runtime.uplink.storage.object_depot import ObjectDepot
from runtime.uplink.storage.opening import StoragePlaces, open_depot, open_store
from runtime.uplink.wire import Offer, encode


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
    store.write(row().key, 0, CONTENT[:5000], NOW_NS)
    store.flush(NOW_NS)
    store.write(row().key, 5000, CONTENT[5000:], NOW_NS)
    own_postgres.stop()
    answers, ((key, error),) = store.flush(NOW_NS)
    assert (answers, key) == ([], row().key), "not acknowledged"
    assert isinstance(error, CatalogueError)
    with pytest.raises(CatalogueError):
        store.offer(row(), NOW_NS)
    own_postgres.start()
    assert store.offer(row(), NOW_NS) == RangeSet([(0, 5000)])
    store.write(row().key, 5000, CONTENT[5000:], NOW_NS)
    store.flush(NOW_NS)
    assert store.commit(row().key, NOW_NS) is True
    assert stored(store) == [("car-1", 1, CONTENT)]
    store.close()


def test_a_receiver_outlives_its_database_and_tells_vehicles_nothing_of_it(
    own_postgres, object_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(figures, "SHARED_PERIOD_NS", 0)
    vehicle_keys, receiver_keys = ensure_local_pair(tmp_path / "keys", VEHICLE)
    database = own_postgres.new_database()
    places = StoragePlaces(
        tmp_path / "receiver", object_server.new_bucket(), object_server.options, catalogue_url=database
    )
    running = RunningReceiver(tmp_path / "receiver", receiver_keys, places=places)
    offer = [encode(Offer(1, bytes(32), 100, "high")), b"{}"]
    try:
        with (
            zmq.Context() as context,
            contextlib.closing(
                vehicle_socket(context, load_keys(vehicle_keys, "vehicle"), running.own.public)
            ) as socket,
        ):
            socket.connect(running.address)
            assert ask(socket, offer).state == "new"
            wait_for(lambda: running.figures.get("partial") == 1, "the figures")
            own_postgres.stop()
            wait_for(lambda: running.figures.get("dropped", {}).get("figures not read"), "an outage in the status")
            assert running.figures["partial"] == 1, "the last known"
            assert "catalogue postgresql" in running.figures["last_error"]
            refused = ask(socket, offer, 20_000)
            assert (refused.code, refused.n, refused.detail) == ("storage", 1, STORAGE_DETAIL)
            own_postgres.start()
            assert ask(socket, offer, 20_000).state == "new"
            assert running.error is None
            socket.linger = 0
    finally:
        running.end()


def test_a_receiver_waits_for_a_database_that_is_away_longer_each_time_and_then_serves(own_postgres, tmp_path, caplog):
    """It neither ends, which systemd would answer every two seconds for ever, nor looks hung."""
    url = own_postgres.new_database()
    config = receiver_config(tmp_path, catalogue=url)
    status, stop, codes = tmp_path / "clips" / "receiver.json", threading.Event(), []
    own_postgres.stop()

    def said() -> dict:
        return json.loads(status.read_text()) if status.exists() else {}

    def serve() -> None:
        codes.append(run_receiver_process(load_receiver_config(config), stop, random.Random(1)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        wait_for(lambda: said().get("attempts", 0) >= 2, "two attempts")
        assert "catalogue postgresql" in said()["waiting_for_storage"]
        waits = [float(re.search(r"in (\d+) s", record.message)[1]) for record in caplog.records]
        assert waits == sorted(waits)
        own_postgres.start()
        wait_for(lambda: said().get("address"), "the receiver to listen")
        assert "waiting_for_storage" not in said()
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert codes == [0]


def receiver_config(directory: Path, **settings: object) -> Path:
    path = directory / "receiver.yaml"
    path.write_text(yaml.safe_dump({"bind": "tcp://127.0.0.1:*", "directory": "clips", **settings}))
    return path


def ends_with_2(config: Path, capsys, *words: str) -> None:
    """What systemd never starts again (RestartPreventExitStatus)."""
    assert main(["receive", "--config", str(config)]) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words), told


def test_a_database_that_refuses_us_is_a_matter_for_a_person(postgres, tmp_path, capsys):
    url = postgres.new_database()
    ends_with_2(receiver_config(tmp_path, catalogue=f"{url}_misspelt"), capsys, 'database "', "does not exist")
    ends_with_2(receiver_config(tmp_path, catalogue=url.replace("//shadowrig@", "//nobody@")), capsys, 'role "nobody"')


def test_a_bucket_that_is_not_there_or_refuses_us_is_a_matter_for_a_person(object_server, tmp_path, capsys):
    url = object_server.new_bucket()
    options = object_server.options
    objects = {"url": "s3://misspelt/europe", "options": options}
    ends_with_2(receiver_config(tmp_path, objects=objects), capsys, "there is no such bucket")
    for wrong, text in (({"endpoint": "nonsense"}, "is 'nonsense'"), ({"no_such_option": "1"}, "no_such_option")):
        objects = {"url": url, "options": options | wrong}
        ends_with_2(receiver_config(tmp_path, objects=objects), capsys, text)
    secret = tmp_path / "bucket.yaml"
    secret.write_text("access_key_id: a\n")
    secret.chmod(0o644)
    ends_with_2(receiver_config(tmp_path, objects=objects | {"credentials": str(secret)}), capsys, "mode 0644")


def test_credentials_that_are_not_known_are_a_matter_for_a_person(tmp_path, capsys):
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'shadowrig[fleet]'")
    server = ObjectServer(INITIAL_NO_AUTH_ACTION_COUNT="1")  # moto's: from the second request on it looks at keys
    try:
        objects = {"url": server.new_bucket(), "options": server.options}
        ends_with_2(receiver_config(tmp_path, objects=objects), capsys, "PermissionDeniedError", "InvalidAccessKeyId")
    finally:
        server.end()


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "ExpiredToken"])
def test_a_refusal_that_passes_by_itself_is_waited_for(code):
    exceptions = pytest.importorskip("obstore.exceptions", reason="obstore is not installed")
    with pytest.raises(DepotError) as refused, object_access.translated("PUT"):
        raise exceptions.PermissionDeniedError(f"403 Forbidden: <Error><Code>{code}</Code></Error>")
    assert not isinstance(refused.value, SetupError), "a machine's clock may be set a minute after its start"


def test_a_file_that_is_no_catalogue_is_a_matter_for_a_person(tmp_path, capsys):
    config = receiver_config(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "catalogue.sqlite").write_bytes(b"not a database" * 1000)
    ends_with_2(config, capsys, "file is not a database")


def test_many_receivers_may_start_on_an_empty_database_at_once(own_postgres):
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

    monkeypatch.setattr(object_access, "REQUEST_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(object_access, "RETRY_TIMEOUT", timedelta(seconds=1))
    server = ObjectServer()
    store = open_store(StoragePlaces(tmp_path, server.new_bucket(), server.options), StoreLimits())
    try:
        store.offer(row(), NOW_NS)
        store.write(row().key, 0, CONTENT[:5000], NOW_NS)
        store.flush(NOW_NS)
        store.write(row().key, 5000, CONTENT[5000:], NOW_NS)
        server.stop(signal.SIGSTOP)
        answers, ((key, error),) = store.flush(NOW_NS)
        assert (answers, key) == ([], row().key)
        assert isinstance(error, DepotError)
        assert "PUT of partial/car-1" in str(error)
        server.stop(signal.SIGCONT)
        assert store.offer(row(), NOW_NS) == RangeSet([(0, 5000)])
        store.write(row().key, 5000, CONTENT[5000:], NOW_NS)
        server.end()
        answers, failures = store.flush(NOW_NS)
        assert (answers, len(failures)) == ([], 1)
    finally:
        server.end()
        store.close()


def test_a_bucket_that_swallows_everything_holds_up_the_loop_for_one_wait_however_many_clips_come(
    object_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(object_depot, "SYNC_TIMEOUT_S", 0.2)
    store = open_store(StoragePlaces(tmp_path, object_server.new_bucket(), object_server.options), StoreLimits())
    hole, began = threading.Event(), []
    put = store.depot._put_segment

    def swallowed(*run: object) -> object:
        began.append(run)
        hole.wait(PATIENCE_S)
        return put(*run)

    monkeypatch.setattr(store.depot, "_put_segment", swallowed)
    offered = [row(vehicle=f"car-{number}") for number in range(3 * object_depot.UPLOADERS)]
    for each in offered:
        store.offer(each, NOW_NS)
        store.write(each.key, 0, CONTENT[:100], NOW_NS)
    answers, failures = store.flush(NOW_NS)
    assert (answers, len(failures)) == ([], len(offered))
    assert {str(error) for _, error in failures} == {"1 of 1 segments were not PUT in 0.2 s"}
    assert len(began) == object_depot.UPLOADERS, "what nobody waits for any more is not begun"
    hole.set()
    monkeypatch.setattr(object_depot, "SYNC_TIMEOUT_S", PATIENCE_S)
    assert store.offer(offered[0], NOW_NS) == RangeSet()
    store.write(offered[0].key, 0, CONTENT[:100], NOW_NS)
    assert store.flush(NOW_NS) == ([(offered[0].key, RangeSet([(0, 100)]))], [])
    store.close()


@pytest.mark.parametrize(
    ("url", "options", "secret", "client"),
    [
        ("gs://clips/europe", {"skip_signature": True}, "", "GCSStore"),
        ("az://clips/europe", {"account_name": "fleet"}, "account_key: Zm9yIGEgdGVzdA==", "AzureStore"),
        ("s3://clips/europe", {"region": "eu-central-1"}, "access_key_id: a\nsecret_access_key: b", "S3Store"),
    ],
)
def test_every_kind_of_object_storage_is_opened_from_a_receivers_configuration(tmp_path, url, options, secret, client):
    """No request is sent: real buckets are tried by `check`, at the receiver's start."""
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'shadowrig[fleet]'")
    objects = {"url": url, "options": options}
    if secret:
        (tmp_path / "secret.yaml").write_text(secret)
        (tmp_path / "secret.yaml").chmod(0o600)
        objects["credentials"] = "secret.yaml"
    config = load_receiver_config(receiver_config(tmp_path, objects=objects))
    depot = open_depot(places_of(config))
    assert client in repr(depot._store)
    depot.close()


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
    with pytest.raises(DepotError, match="mode 0644: chmod 600 it"):
        open_depot(places)
    secret.chmod(0o600)
    depot = open_depot(places)
    assert isinstance(depot, ObjectDepot)
    depot.close()
