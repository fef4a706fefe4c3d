"""What fails for one clip keeps no other from being stored, let go or erased."""

from __future__ import annotations

import pytest
from store_steps import CONTENT, HOUR_NS, NOW_NS, SOMEBODY, everything_but, hold, row, stamped, stored, take_in

from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage import object_depot
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.storage.depot import DepotError
from runtime.uplink.storage.finishing import ABANDONED_NS, RETRY_FIRST_NS
from runtime.uplink.storage.housekeeping import TIDY_PERIOD_NS, HousekeepingThread
from runtime.uplink.storage.removal import PUT_OFF_NS, RetentionPolicy, empty_deletions, erase

LATER_NS = NOW_NS + 2 * ABANDONED_NS
TURN_NS = 2_000_000_000


def failing_for(what: object, real):
    """The real thing, which fails whenever it is asked about `what`."""

    def act(first: object, *rest: object) -> object:
        if first == what or what in (getattr(first, "key", None), *(first if isinstance(first, list) else ())):
            act.count += 1
            raise DepotError("Input/output error")
        return real(first, *rest)

    act.count = 0
    return act


def test_a_catalogue_that_fails_between_bytes_and_row_costs_no_byte_again(fleet, settled, monkeypatch):
    store = fleet.receiver()
    hold(store, row())
    real = store.catalogue.store

    def fail_once(*arguments: object) -> bool:
        monkeypatch.setattr(store.catalogue, "store", real)
        raise CatalogueError("database is locked")

    monkeypatch.setattr(store.catalogue, "store", fail_once)
    if fleet.is_shared:
        assert isinstance(settled(store, store.commit(row().key, NOW_NS)), CatalogueError)
    else:
        with pytest.raises(CatalogueError):
            store.commit(row().key, NOW_NS)
    assert store.offer(row(), NOW_NS) == RangeSet([(0, len(CONTENT))]), "all of it is held"
    assert settled(store, store.commit(row().key, NOW_NS)) is True
    while empty_deletions(store.catalogue.database, store.depot, NOW_NS + 2 * HOUR_NS):
        pass
    assert stored(store) == [("car-1", 1, CONTENT)], "and nothing deletes what is stored"


def test_a_clip_that_cannot_be_finished_holds_up_no_erasure_and_is_tried_less_and_less(
    shared_fleet, settled, monkeypatch
):
    store = shared_fleet.receiver()
    take_in(store, settled, stamped(1, 0))
    bad, good = row(2, vehicle="car-2"), row(3, vehicle="car-3")
    hold(store, bad)
    hold(store, good)
    finish = failing_for(bad.key, store.depot.finish)
    monkeypatch.setattr(store.depot, "finish", finish)
    erase(store.catalogue.database, "car-1", NOW_NS, NOW_NS + HOUR_NS, SOMEBODY, "request", LATER_NS)
    housekeeping = HousekeepingThread(store, RetentionPolicy(), None)
    for turn in range(5):
        housekeeping.turn(LATER_NS + turn * TURN_NS)
    assert finish.count == 1
    assert [number for _, number, _ in stored(store)] == [3], "the others are finished"
    assert not any("car-1" in name for name in everything_but(store, set())), "and what was erased is gone"
    assert "Input/output error" in housekeeping.figures["last_trouble"]
    housekeeping.turn(LATER_NS + TIDY_PERIOD_NS)
    assert finish.count == 1
    housekeeping.turn(LATER_NS + RETRY_FIRST_NS + TIDY_PERIOD_NS)
    assert finish.count == 2
    housekeeping.turn(LATER_NS + 2 * RETRY_FIRST_NS + TIDY_PERIOD_NS)
    assert finish.count == 2, "twice as long each time"
    monkeypatch.undo()
    housekeeping.turn(LATER_NS + 24 * HOUR_NS)
    assert sorted(number for _, number, _ in stored(store)) == [2, 3]


def test_bytes_that_cannot_be_deleted_hold_up_no_others_and_are_tried_until_it_succeeds(fleet, settled, monkeypatch):
    store = fleet.receiver()
    for n in (1, 2, 3):
        take_in(store, settled, stamped(n, 0))
    while empty_deletions(store.catalogue.database, store.depot, NOW_NS + 2 * HOUR_NS):
        pass
    names = [clip.name for clip in store.catalogue.clips(store.directory)]
    erase(store.catalogue.database, "car-1", NOW_NS, NOW_NS + HOUR_NS, SOMEBODY, "request", LATER_NS)
    monkeypatch.setattr(store.depot, "delete", failing_for(names[0], store.depot.delete))
    housekeeping = HousekeepingThread(store, RetentionPolicy(), None)
    housekeeping.turn(LATER_NS)
    assert everything_but(store, set()) == names[:1]
    assert housekeeping.troubles.count == 1
    monkeypatch.undo()
    housekeeping.turn(LATER_NS + PUT_OFF_NS)
    assert everything_but(store, set()) == []


def test_strays_are_asked_for_a_page_at_a_time_and_what_is_wanted_stays(shared_fleet, monkeypatch):
    monkeypatch.setattr(object_depot, "NAMES_AT_ONCE", 2)
    store = shared_fleet.receiver()
    hold(store, row(), CONTENT[:100])
    partial = store.catalogue.partial(row().key)
    for start in range(5):
        store.depot._put_segment(partial, start, b"lost")
    asked, real = [], store.catalogue.wanted_segments

    def wanted(names: list[str]) -> set[str]:
        asked.append(len(names))
        return real(names)

    monkeypatch.setattr(store.catalogue, "wanted_segments", wanted)
    housekeeping = HousekeepingThread(store, RetentionPolicy(partials_days=None), None)
    housekeeping.turn(4_100_000_000 * 1_000_000_000)  # the server's clock dates the objects
    assert (sum(asked), max(asked), housekeeping.strays) == (6, 2, 5)
    assert everything_but(store, set()) == [store.catalogue.segments(partial.id)[0].name]


def test_one_file_that_cannot_be_read_does_not_keep_a_receiver_from_starting(folder_fleet, settled, monkeypatch):
    store = folder_fleet.receiver()
    for n in (1, 2):
        hold(store, row(n))
        planned = f"clips/car-1/2023-11-14/{n}.mcap"
        partial = store.catalogue.partial(row(n).key)
        store.catalogue.plan_final_path(partial.id, planned)
        assert store.depot.finish(partial, (), planned)
    folder_fleet.kill(store)
    store = folder_fleet.receiver()
    monkeypatch.setattr(store.depot, "is_finished", failing_for(row(1).key, store.depot.is_finished))
    assert store.recover(NOW_NS) == 1, "the other one is stored"
    assert store.finisher.troubles.last == "Input/output error"
    monkeypatch.undo()
    assert store.offer(row(1), NOW_NS) == RangeSet([(0, len(CONTENT))])
    assert settled(store, store.commit(row(1).key, NOW_NS)) is True, "and this one as soon as it can be read"


def test_a_clip_that_is_stored_is_answered_so_although_something_else_cannot_be_deleted(fleet, settled, monkeypatch):
    store = fleet.receiver()
    take_in(store, settled, stamped(1, 0))
    erase(store.catalogue.database, "car-1", NOW_NS, NOW_NS + HOUR_NS, SOMEBODY, "request", NOW_NS)

    def fail(names: object) -> None:
        raise DepotError("Input/output error")

    monkeypatch.setattr(store.depot, "delete", fail)
    assert take_in(store, settled, stamped(2, 2)) is True
