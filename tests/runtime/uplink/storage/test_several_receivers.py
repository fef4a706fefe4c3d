"""Several receivers over one bucket and one catalogue: what one began another goes on with, and all is there once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from store_steps import (
    CHARGED,
    CONTENT,
    HOUR_NS,
    NOW_NS,
    SOMEBODY,
    everything_but,
    hold,
    row,
    stamped,
    stored,
    take_in,
    tidy,
)

from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.depot import DepotError
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.housekeeping import STRAY_AGE_NS, HousekeepingThread
from runtime.uplink.storage.limits import RefusedError, StoreLimits
from runtime.uplink.storage.removal import DAY_NS, RetentionPolicy, erase
from runtime.uplink.storage.rows import DELETION_GRACE_NS


def two(fleet) -> list:
    return [fleet.receiver(), fleet.receiver()]


def at_once(act: Callable[..., None], given: list[tuple]) -> None:
    """The same in several threads, until all are done."""
    threads = [threading.Thread(target=act, args=arguments) for arguments in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def killed(*_: object) -> None:
    """What a SIGKILL in the place of this call would do to its caller."""
    raise KeyboardInterrupt


def nothing_is_left_but_clips(store, wall_ns: int = NOW_NS + 2 * DELETION_GRACE_NS) -> bool:
    tidy(store, wall_ns)
    return everything_but(store, {clip.name for clip in store.catalogue.clips(store.directory)}) == []


def test_another_receiver_goes_on_at_the_byte_where_one_was_killed(shared_fleet, settled):
    first, second = two(shared_fleet)
    hold(first, row(), CONTENT[:4000])
    first.write(row().key, 4000, CONTENT[4000:5000], NOW_NS)
    shared_fleet.kill(first)
    assert second.offer(row(), NOW_NS) == RangeSet([(0, 4000)])
    second.write(row().key, 4000, CONTENT[4000:], NOW_NS)
    second.flush(NOW_NS)
    assert settled(second, second.commit(row().key, NOW_NS)) is True
    assert stored(second) == [("car-1", 1, CONTENT)]
    assert nothing_is_left_but_clips(second)


def test_a_commit_may_come_to_a_receiver_that_never_saw_the_clip(shared_fleet, settled):
    first, second = two(shared_fleet)
    hold(first, row())
    assert second.missing(row().key) is None
    assert settled(second, second.commit(row().key, NOW_NS)) is True
    assert first.missing(row().key) is None
    assert settled(first, first.commit(row().key, NOW_NS)) is True, "DONE, whoever is asked"
    assert len(stored(first)) == 1


def test_chunks_at_two_receivers_add_up(shared_fleet, settled):
    """A vehicle that comes back over another receiver while the first still has its bytes in hand."""
    first, second = two(shared_fleet)
    first.offer(row(), NOW_NS)
    first.write(row().key, 0, CONTENT[:6000], NOW_NS)
    assert second.offer(row(), NOW_NS) == RangeSet()
    second.write(row().key, 3000, CONTENT[3000:], NOW_NS)
    second.flush(NOW_NS)
    ((_, held),), _ = first.flush(NOW_NS)
    assert held == RangeSet([(0, len(CONTENT))])
    assert settled(first, first.commit(row().key, NOW_NS)) is True
    assert stored(first) == [("car-1", 1, CONTENT)]
    assert nothing_is_left_but_clips(first)


def test_two_receivers_that_finish_the_same_clip_at_once_store_it_once(shared_fleet, monkeypatch):
    """Both have put the bytes before either commits its row: the hardest order there is."""
    first, second = two(shared_fleet)
    hold(first, row())
    both_have_written = threading.Barrier(2, timeout=30)
    outcomes: list[object] = []

    def finish(store) -> None:
        put, partial = store.depot.finish, store.catalogue.partial(row().key)

        def waiting(*arguments: object) -> bool:
            is_right = put(*arguments)
            both_have_written.wait()
            return is_right

        monkeypatch.setattr(store.depot, "finish", waiting)
        outcomes.append(store.finisher.finish(partial, NOW_NS))

    at_once(finish, [(first,), (second,)])
    assert outcomes == [True, True], "both may say DONE"
    assert stored(first) == [("car-1", 1, CONTENT)]
    assert nothing_is_left_but_clips(first), "and no deletion of one takes away what the other stored"
    assert stored(second) == [("car-1", 1, CONTENT)]


def test_killed_between_bytes_and_row_another_receiver_stores_the_clip(shared_fleet, settled, monkeypatch):
    first, second = two(shared_fleet)
    hold(first, row())

    monkeypatch.setattr(first.catalogue, "store", killed)
    with pytest.raises(KeyboardInterrupt):
        first.finisher.finish(first.catalogue.partial(row().key), NOW_NS)
    shared_fleet.kill(first)
    next_day = NOW_NS + DAY_NS
    assert second.offer(row(), next_day) == RangeSet([(0, len(CONTENT))])
    assert settled(second, second.commit(row().key, next_day)) is True
    (clip,) = second.catalogue.clips(second.directory)
    assert "2023-11-14" in clip.name, "the first receiver's plan holds: its bytes are not left somewhere else"
    assert nothing_is_left_but_clips(second, next_day + 2 * DELETION_GRACE_NS)


def test_a_clip_that_is_erased_while_it_is_being_finished_is_not_stored_and_its_bytes_go(shared_fleet, monkeypatch):
    store, other = two(shared_fleet)
    offered = stamped(1, 0)
    hold(store, offered)
    put = store.depot.finish

    def erased_meanwhile(*arguments: object) -> bool:
        erase(other.catalogue.database, "car-1", NOW_NS, NOW_NS + HOUR_NS, SOMEBODY, "request", NOW_NS)
        tidy(other, NOW_NS)
        return put(*arguments)

    partial = store.catalogue.partial(offered.key)
    segments = store.catalogue.segments(partial.id)
    monkeypatch.setattr(store.depot, "finish", erased_meanwhile)
    assert store.finisher.finish(partial, NOW_NS) is True, "the segments are gone, and it need not come again"
    assert stored(store) == []
    assert segments
    assert nothing_is_left_but_clips(store)


def test_bytes_put_after_an_erasure_are_deleted_an_hour_later(shared_fleet, monkeypatch):
    """The receiver had read everything before the erasure, and dies after its PUT: nobody else would find the bytes."""
    store, other = two(shared_fleet)
    offered = stamped(1, 0)
    hold(store, offered)
    put = store.depot.finish

    def erased_after(*arguments: object) -> bool:
        erase(other.catalogue.database, "car-1", NOW_NS, NOW_NS + HOUR_NS, SOMEBODY, "request", NOW_NS)
        is_right = put(*arguments)
        tidy(other, NOW_NS)
        put_again = put.__self__._store
        import obstore

        obstore.put(put_again, str(arguments[2]), CONTENT)
        raise KeyboardInterrupt if is_right else AssertionError

    monkeypatch.setattr(store.depot, "finish", erased_after)
    with pytest.raises(KeyboardInterrupt):
        store.finisher.finish(store.catalogue.partial(offered.key), NOW_NS)
    shared_fleet.kill(store)
    assert everything_but(other, set()) != []
    assert nothing_is_left_but_clips(other, NOW_NS + DELETION_GRACE_NS)
    assert everything_but(other, set()) == []


def test_a_partial_that_was_taken_away_is_not_acknowledged(shared_fleet):
    """Another receiver let it give way while this one had bytes of it in hand."""
    limits = StoreLimits(vehicle_partials=1)
    first, second = shared_fleet.receiver(limits), shared_fleet.receiver(limits)
    first.offer(row(1), NOW_NS)
    first.write(row(1).key, 0, CONTENT, NOW_NS)
    second.offer(row(2), NOW_NS + 1)
    answers, ((key, error),) = first.flush(NOW_NS + 2)
    assert (answers, key, error.code) == ([], row(1).key, "unknown_clip")
    assert nothing_is_left_but_clips(first)


def test_two_receivers_cannot_be_played_off_against_a_quota(shared_fleet):
    limits = StoreLimits(vehicle_quota_bytes=3 * CHARGED)
    stores = [shared_fleet.receiver(limits) for _ in range(3)]
    taken: list[int] = []
    refused: list[str] = []
    start = threading.Barrier(len(stores), timeout=30)

    def offer_many(store, numbers: range) -> None:
        start.wait()
        for n in numbers:
            try:
                store.offer(row(n), NOW_NS)
                taken.append(n)
            except RefusedError as error:
                refused.append(error.code)

    at_once(offer_many, [(store, range(10 * i, 10 * i + 4)) for i, store in enumerate(stores)])
    assert len(taken) == 3
    assert refused == ["vehicle_quota"] * 9


def test_segments_of_a_receiver_that_died_before_its_row_are_found_and_deleted(shared_fleet, monkeypatch):
    first, second = two(shared_fleet)
    hold(first, row(), CONTENT[:100])
    first.write(row().key, 100, CONTENT[100:200], NOW_NS)

    monkeypatch.setattr(first.catalogue, "save_ranges", killed)
    with pytest.raises(KeyboardInterrupt):
        first.flush(NOW_NS)
    shared_fleet.kill(first)
    assert len(everything_but(second, set())) == 2
    housekeeping = HousekeepingThread(second, RetentionPolicy(partials_days=None), None)
    far_in_the_future = 4_000_000_000 * 1_000_000_000  # the server's clock dates the objects
    housekeeping.turn(far_in_the_future + STRAY_AGE_NS)
    assert housekeeping.strays == 1
    assert second.offer(row(), NOW_NS) == RangeSet([(0, 100)]), "what was acknowledged is still held"


def test_bytes_that_vanished_from_the_bucket_have_to_come_again(shared_fleet, settled):
    store = shared_fleet.receiver()
    hold(store, row())
    store.depot.delete(everything_but(store, set()))
    outcome = settled(store, store.commit(row().key, NOW_NS))
    assert isinstance(outcome, RefusedError)
    assert outcome.code == "unknown_clip", "on which the vehicle offers it again"
    assert take_in(store, settled, row()) is True
    assert stored(store) == [("car-1", 1, CONTENT)]


def test_a_store_that_reads_back_other_bytes_is_not_believed(shared_fleet, settled, monkeypatch):
    store = shared_fleet.receiver()
    hold(store, row())
    monkeypatch.setattr(store.depot, "is_finished", lambda *_: False)
    outcome = settled(store, store.commit(row().key, NOW_NS))
    assert isinstance(outcome, DepotError)
    assert "reads back with another hash" in str(outcome)
    monkeypatch.undo()
    assert settled(store, store.commit(row().key, NOW_NS)) is True


def test_a_folder_takes_one_receiver_only_and_says_what_to_do(tmp_path):
    first = FolderDepot(tmp_path)
    with pytest.raises(DepotError, match="in use by another receiver"):
        FolderDepot(tmp_path)
    first.close()
    FolderDepot(tmp_path).close()
