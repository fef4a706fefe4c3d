"""What is removed while a receiver is just adding to it, or about to put it whole into a bucket: none of it stays."""

from __future__ import annotations

import threading

import pytest
from live_receiver import PATIENCE_S, wait_for
from store_steps import CONTENT, HOUR_NS, NOW_NS, SOMEBODY, everything_but, hold, row, stamped, stored, take_in, tidy

from runtime.uplink import catalogue
from runtime.uplink.storage import removal, rows
from runtime.uplink.storage.finishing import final_name
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.removal import RetentionPolicy, erase, expire
from runtime.uplink.storage.rows import DELETION_GRACE_NS

#: SQLite has one writer: nothing happens between the reads and the writes of its transactions.
ON_POSTGRESQL = pytest.mark.parametrize("shared_fleet", [("objects", "postgresql")], indirect=True, ids=["postgresql"])


def erased(store) -> None:
    erase(store.catalogue.database, "car-1", NOW_NS, NOW_NS + HOUR_NS, SOMEBODY, "request", NOW_NS)


def expired(store) -> None:
    expire(store.catalogue.database, RetentionPolicy(partials_days=1.0), SOMEBODY, NOW_NS + 48 * HOUR_NS)


def gave_way(store) -> None:
    store.offer(row(2), NOW_NS)


def nothing_is_left(store) -> bool:
    tidy(store, NOW_NS + 49 * HOUR_NS + DELETION_GRACE_NS)
    return everything_but(store, set()) == []


@ON_POSTGRESQL
@pytest.mark.parametrize("remove", [erased, expired, gave_way])
def test_what_is_put_whole_by_a_plan_made_during_its_removal_is_deleted(shared_fleet, monkeypatch, remove):
    """The receiver dies after its PUT, so that nobody but the removal can know of the object."""
    limits = StoreLimits(vehicle_partials=1)
    receiver, other = shared_fleet.receiver(limits), shared_fleet.receiver(limits)
    hold(receiver, stamped(1, 0))
    partial, read = receiver.catalogue.partial(stamped(1, 0).key), rows.partials_of
    planned: list[str] = []

    def then_put(connection, vehicle):
        found = read(connection, vehicle)
        if not planned:
            planned.append(receiver.catalogue.plan_final_path(partial.id, final_name(partial, NOW_NS)))
            assert receiver.depot.finish(partial, receiver.catalogue.segments(partial.id), planned[0])
        return found

    for place in (removal, catalogue):
        monkeypatch.setattr(place, "partials_of", then_put)
    remove(other)
    shared_fleet.kill(receiver)
    assert planned[0] in everything_but(other, set())
    assert nothing_is_left(other)


def test_a_clip_stored_elsewhere_before_a_slow_put_of_it_ends_leaves_nothing_behind(shared_fleet, settled, monkeypatch):
    """The partial gave way, its deletions are over, and the clip came again: nobody else knows of the slow bytes."""
    import obstore

    limits = StoreLimits(vehicle_partials=1)
    slow, other = shared_fleet.receiver(limits), shared_fleet.receiver(limits)
    offered = stamped(1, 0)
    hold(slow, offered)
    put, later_ns = slow.depot.finish, NOW_NS + 2 * DELETION_GRACE_NS

    def put_slowly(partial, segments, name: str) -> bool:
        is_right = put(partial, segments, name)
        gave_way(other)
        tidy(other, later_ns)
        assert name not in everything_but(other, set())
        assert take_in(other, settled, offered, wall_ns=later_ns) is True
        obstore.put(slow.depot._store, name, CONTENT)
        return is_right

    monkeypatch.setattr(slow.depot, "finish", put_slowly)
    assert slow.finisher.finish(slow.catalogue.partial(offered.key), later_ns) is True, "it is stored"
    tidy(other, later_ns + DELETION_GRACE_NS)
    (clip,) = other.catalogue.clips(other.directory)
    assert everything_but(other, {clip.name}) == []
    assert stored(other) == [("car-1", 1, CONTENT)]


@ON_POSTGRESQL
def test_a_segment_committed_during_an_erasure_is_deleted(shared_fleet, monkeypatch):
    receiver, other = shared_fleet.receiver(), shared_fleet.receiver()
    hold(receiver, stamped(1, 0), CONTENT[:5000])
    receiver.write(stamped(1, 0).key, 5000, CONTENT[5000:], NOW_NS)
    leave, flushed = rows.leave_for_deletion, []
    flushing = threading.Thread(target=lambda: flushed.append(receiver.flush(NOW_NS)))

    def flush_meanwhile(*arguments: object) -> None:
        """The names of its segments have been read."""
        monkeypatch.setattr(rows, "leave_for_deletion", leave)
        flushing.start()
        wait_for(lambda: flushed or is_waiting_for_a_lock(other.catalogue.database.label), "the flush to get anywhere")
        leave(*arguments)

    monkeypatch.setattr(rows, "leave_for_deletion", flush_meanwhile)
    erased(other)
    flushing.join(PATIENCE_S)
    assert not flushing.is_alive()
    assert nothing_is_left(other)


def is_waiting_for_a_lock(url: str) -> bool:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=5) as connection:
        question = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.execute(question).fetchone()[0])
