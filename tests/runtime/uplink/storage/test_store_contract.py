"""What every store of a receiver promises: durable before acknowledged, whole before stored, once, and gone for good.

The same tests over a folder and object storage, SQLite and PostgreSQL. The servers are real processes.
"""

from __future__ import annotations

import pytest
from store_steps import CHARGED, CONTENT, NOW_NS, everything_but, row, stored, take_in, tidy

from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.storage.housekeeping import HousekeepingThread
from runtime.uplink.storage.limits import RefusedError, StoreLimits
from runtime.uplink.storage.removal import DAY_NS, RetentionPolicy
from runtime.uplink.storage.rows import DELETION_GRACE_NS


def test_a_clip_is_stored_whole_once_and_needs_not_come_again(fleet, settled):
    store = fleet.receiver()
    assert take_in(store, settled, row()) is True
    assert stored(store) == [("car-1", 1, CONTENT)]
    assert store.offer(row(), NOW_NS) is None
    assert store.is_stored(row().key)
    tidy(store, NOW_NS)
    (clip,) = store.catalogue.clips(store.directory)
    assert everything_but(store, {clip.name}) == [], "nothing is left of how it came"


def test_only_flushed_bytes_are_held_after_a_kill(fleet):
    store = fleet.receiver()
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT[:300], NOW_NS)
    ((key, held),), failures = store.flush(NOW_NS)
    assert (key, held, failures) == (row().key, RangeSet([(0, 300)]), [])
    store.write(row().key, 300, CONTENT[300:400], NOW_NS)
    fleet.kill(store)
    store = fleet.receiver()
    store.recover(NOW_NS)
    assert store.offer(row(), NOW_NS) == RangeSet([(0, 300)])


def test_chunks_in_any_order_and_twice_make_the_same_clip(fleet, settled):
    store = fleet.receiver()
    store.offer(row(), NOW_NS)
    for offset in (4096, 0, 8192, 4096, 2048, 6144, 0):
        store.write(row().key, offset, CONTENT[offset : offset + 2048], NOW_NS)
        if offset == 8192:
            store.flush(NOW_NS)
    store.flush(NOW_NS)
    assert store.missing(row().key) is None
    assert settled(store, store.commit(row().key, NOW_NS)) is True
    assert stored(store) == [("car-1", 1, CONTENT)]


def test_chunks_that_overlap_what_is_here_are_kept_only_as_far_as_they_are_new(fleet, settled):
    """Else a vehicle fills a bucket far beyond its quota with chunks that bring one new byte each."""
    store = fleet.receiver()
    store.offer(row(), NOW_NS)
    assert store.write(row().key, 0, CONTENT[:4000], NOW_NS) == 4000
    for offset in range(1, 40):
        assert store.write(row().key, offset, CONTENT[offset : offset + 4000], NOW_NS) == 1
        if offset % 10 == 0:
            store.flush(NOW_NS)
    assert store.write(row().key, 6000, CONTENT[6000:10_000], NOW_NS) == 4000
    assert store.dirty_bytes == 9 + 4000
    store.flush(NOW_NS)
    assert store.write(row().key, 3000, CONTENT[3000:7000], NOW_NS) == 6000 - 4039, "a hole, not both its sides"
    store.flush(NOW_NS)
    assert store.write(row().key, 100, CONTENT[100:9000], NOW_NS) == 0
    partial = store.catalogue.partial(row().key)
    kept = sum(segment.end - segment.start for segment in store.catalogue.segments(partial.id))
    assert (partial.ranges, kept) == (((0, 10_000),), 10_000 if fleet.is_shared else 0)
    assert store.write(row().key, 9000, CONTENT[9000:], NOW_NS) == len(CONTENT) - 10_000, "a shifted grid of chunks"
    store.flush(NOW_NS)
    assert settled(store, store.commit(row().key, NOW_NS)) is True
    assert stored(store) == [("car-1", 1, CONTENT)]


def test_what_has_the_wrong_hash_is_never_stored_and_leaves_nothing(fleet, settled):
    store = fleet.receiver()
    assert take_in(store, settled, row(), bytes(len(CONTENT))) is False
    assert stored(store) == []
    assert store.catalogue.partials() == []
    tidy(store, NOW_NS)
    assert everything_but(store, set()) == []
    assert take_in(store, settled, row()) is True, "the right bytes are welcome"
    tidy(store, NOW_NS + DELETION_GRACE_NS)
    assert stored(store) == [("car-1", 1, CONTENT)], "deletions of the first attempt cannot touch the second"


def test_killed_between_bytes_and_row_the_clip_is_stored_once_without_a_byte_sent_again(fleet, settled, monkeypatch):
    store = fleet.receiver()
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT, NOW_NS)
    store.flush(NOW_NS)

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(store.catalogue, "store", killed)
    with pytest.raises(KeyboardInterrupt):
        store.finisher.finish(store.catalogue.partial(row().key), NOW_NS)
    monkeypatch.undo()
    assert stored(store) == [], "without its row it is not stored"
    fleet.kill(store)
    store = fleet.receiver()
    store.recover(NOW_NS + DAY_NS)
    held = store.offer(row(), NOW_NS + DAY_NS)
    if held is not None:
        assert held == RangeSet([(0, len(CONTENT))])
        assert settled(store, store.commit(row().key, NOW_NS + DAY_NS)) is True
    assert stored(store) == [("car-1", 1, CONTENT)]
    tidy(store, NOW_NS + 2 * DAY_NS)
    (clip,) = store.catalogue.clips(store.directory)
    assert everything_but(store, {clip.name}) == []


def test_a_complete_clip_whose_vehicle_never_came_back_is_stored_all_the_same(fleet):
    store = fleet.receiver()
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT, NOW_NS)
    store.flush(NOW_NS)
    fleet.kill(store)
    store = fleet.receiver()
    store.recover(NOW_NS + DAY_NS)
    HousekeepingThread(store, RetentionPolicy(), None).turn(NOW_NS + DAY_NS)
    assert stored(store) == [("car-1", 1, CONTENT)]


def test_quota_counts_what_is_stored_and_what_is_under_way(fleet, settled):
    store = fleet.receiver(StoreLimits(vehicle_quota_bytes=2 * CHARGED))
    take_in(store, settled, row(1))
    store.offer(row(2), NOW_NS)
    with pytest.raises(RefusedError, match="vehicle_quota"):
        store.offer(row(3), NOW_NS)
    assert store.offer(row(3, vehicle="car-2"), NOW_NS) == RangeSet()


def test_a_refused_offer_costs_no_other_clip_its_place(fleet):
    store = fleet.receiver(StoreLimits(vehicle_partials=2, vehicle_quota_bytes=2 * CHARGED))
    store.offer(row(1), NOW_NS)
    store.offer(row(2), NOW_NS + 1)
    large = row(3, CONTENT * 3)
    with pytest.raises(RefusedError):
        store.offer(large, NOW_NS + 2)
    assert [partial.key.n for partial in store.catalogue.partials()] == [1, 2]


def test_the_longest_untouched_partial_gives_way_with_its_bytes(fleet):
    store = fleet.receiver(StoreLimits(vehicle_partials=2))
    for n in (1, 2, 3):
        store.offer(row(n), NOW_NS + n)
        store.write(row(n).key, 0, CONTENT[:100], NOW_NS)
        store.flush(NOW_NS + n)
    assert [partial.key.n for partial in store.catalogue.partials()] == [2, 3]
    tidy(store, NOW_NS + 3)
    assert not [name for name in everything_but(store, set()) if "000000000001" in name]
    with pytest.raises(RefusedError, match="unknown_clip"):
        store.write(row(1).key, 0, CONTENT, NOW_NS)


def test_a_tombstone_drops_what_there_is_of_the_clip(fleet):
    store = fleet.receiver()
    store.offer(row(7), NOW_NS)
    store.entomb("car-1", 7, "evicted", NOW_NS)
    assert store.catalogue.tombstones("car-1") == {7: "evicted"}
    assert store.catalogue.partials() == []


def test_a_catalogue_that_fails_acknowledges_nothing(fleet, monkeypatch):
    store = fleet.receiver()
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT, NOW_NS)

    def failing(*_: object) -> None:
        raise CatalogueError("the server is gone")

    monkeypatch.setattr(store.catalogue, "save_ranges", failing)
    answers, ((key, error),) = store.flush(NOW_NS)
    assert (answers, key, str(error)) == ([], row().key, "the server is gone")
    monkeypatch.undo()
    assert store.offer(row(), NOW_NS) == RangeSet()
