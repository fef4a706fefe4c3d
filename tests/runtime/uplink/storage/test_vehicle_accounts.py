"""What one vehicle may make its receivers keep: everything is charged, nothing is free, and no number is out of reach.

The same tests over a folder and object storage, SQLite and PostgreSQL. The servers are real processes.
"""

from __future__ import annotations

import random
import sqlite3

import pytest
from store_steps import CHARGED, CONTENT, NOW_NS, SOMEBODY, row, stamped, take_in

from runtime.uplink.catalogue import MAX_KEPT_REASON_LENGTH
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage import limits as storage_limits
from runtime.uplink.storage import tables
from runtime.uplink.storage.accounts import Account, account_of, recount
from runtime.uplink.storage.asking import access_log
from runtime.uplink.storage.figures import figures
from runtime.uplink.storage.limits import RefusedError, StoreLimits
from runtime.uplink.storage.removal import DAY_NS, RetentionPolicy, erase, expire
from runtime.uplink.store import ClipStore

#: One letter each, and a campaign's versions are found by its name too: the most rows for the fewest bytes.
MANY_LABELS = {"rules": [chr(0x100 + i) for i in range(64)], "campaigns": [chr(0x200 + i) + "@1" for i in range(64)]}
LONG_LABELS = {
    "rules": [f"{i:03d}" + "r" * 253 for i in range(64)],
    "campaigns": [f"{i:03d}" + "c" * 251 + "@1" for i in range(64)],
}


def accounts_are_right(store) -> None:
    with store.catalogue.database.reading() as connection:
        counted = recount(connection)
        booked = {vehicle: account_of(connection, vehicle) for vehicle in counted}
    assert {vehicle: strip(account) for vehicle, account in booked.items()} == {
        vehicle: strip(account) for vehicle, account in counted.items()
    }
    assert all(booked[vehicle].highest_n >= counted[vehicle].highest_n for vehicle in counted)


def strip(account: Account) -> tuple[int, ...]:
    return account.clips, account.clip_bytes, account.removed, account.tombstones, account.charged_bytes


def test_clips_that_were_removed_count_towards_a_vehicles_number(fleet, settled):
    """A hostile vehicle could offer new hashes of an erased time without end, a row and a log line each."""
    store = fleet.receiver(StoreLimits(vehicle_clips=3))
    database = store.catalogue.database
    erase(database, "car-1", NOW_NS, NOW_NS + 10, SOMEBODY, "request", NOW_NS)
    later = row(9, start_wall_ns=NOW_NS + 100, end_wall_ns=NOW_NS + 200)
    assert take_in(store, settled, later) is True
    shown = {"start_wall_ns": NOW_NS, "end_wall_ns": NOW_NS + 5}
    assert [store.offer(row(n, bytes([n]), **shown), NOW_NS) for n in (1, 2)] == [None, None]
    for n in (3, 4, 5):
        with pytest.raises(RefusedError, match="vehicle_quota: a vehicle may have 3 clips"):
            store.offer(row(n, bytes([n]), **shown), NOW_NS)
    assert len(store.catalogue.removed("car-1")) == 2
    (entry,) = [entry for entry in access_log(database) if entry.action == "erase on arrival"]
    assert entry.detail["clips_so_far"] == 2, "one line, however many come"
    assert store.offer(later, NOW_NS) is None, "what is settled stays so"
    assert store.offer(row(1, vehicle="car-2"), NOW_NS) == RangeSet()


def test_a_vehicle_gives_up_a_bounded_number_of_numbers(fleet):
    store = fleet.receiver(StoreLimits(vehicle_tombstones=2))
    for n in (1, 2, 1):
        store.entomb("car-1", n, "evicted", NOW_NS)
    with pytest.raises(RefusedError, match="vehicle_quota: a vehicle may give up 2 numbers"):
        store.entomb("car-1", 3, "evicted", NOW_NS)
    store.entomb("car-2", 3, "evicted", NOW_NS)
    assert store.catalogue.tombstones("car-1") == {1: "evicted", 2: "evicted"}
    accounts_are_right(store)


def test_an_account_equals_a_recount_whatever_happened(fleet, settled):
    store = fleet.receiver(StoreLimits(vehicle_partials=3))
    rng = random.Random(5)
    for n in range(1, 15):
        vehicle = rng.choice(["car-1", "car-2"])
        at = {"start_wall_ns": NOW_NS + n, "end_wall_ns": NOW_NS + n + 1}
        offered = row(n, CONTENT[: rng.randint(1, 5000)], vehicle, **(MANY_LABELS if n % 4 == 1 else {}), **at)
        content = CONTENT[: offered.size_bytes]
        what = n % 6
        if what <= 2:
            assert take_in(store, settled, offered, content) is True
        elif what == 3:
            take_in(store, settled, offered, bytes(offered.size_bytes))  # the wrong bytes
        elif what == 4:
            store.offer(offered, NOW_NS + n)  # never finished
        else:
            store.entomb(vehicle, n, "evicted", NOW_NS)
    accounts_are_right(store)
    database = store.catalogue.database
    erase(database, "car-1", NOW_NS + 4, NOW_NS + 8, SOMEBODY, "request", NOW_NS)
    accounts_are_right(store)
    expire(database, RetentionPolicy(clips_days=1, partials_days=1), SOMEBODY, NOW_NS + 3 * DAY_NS)
    accounts_are_right(store)
    found = figures(database)
    assert (found["clips"], found["bytes"], found["partial"]) == (0, 0, 0)
    assert found["removed"] == sum(len(store.catalogue.removed(vehicle)) for vehicle in ("car-1", "car-2"))


def test_a_number_far_beyond_the_highest_known_is_refused_and_a_new_vehicle_may_begin_anywhere(fleet):
    store = fleet.receiver(StoreLimits(numbers_ahead=10))
    store.offer(row(500), NOW_NS)
    for n in (511, 2**53 - 1):
        with pytest.raises(RefusedError, match=r"vehicle_quota: number .* is more than 10 beyond 500"):
            store.offer(row(n), NOW_NS)
        with pytest.raises(RefusedError, match="vehicle_quota"):
            store.entomb("car-1", n, "evicted", NOW_NS)
    store.entomb("car-1", 510, "evicted", NOW_NS)
    assert store.offer(row(520), NOW_NS) == RangeSet(), "what lies between was told of"
    assert store.offer(row(1), NOW_NS) == RangeSet()
    assert store.offer(row(520, vehicle="car-2"), NOW_NS) == RangeSet()


def test_a_tombstones_reason_is_kept_short(fleet):
    store = fleet.receiver()
    store.entomb("car-1", 1, "x" * 512, NOW_NS)
    assert store.catalogue.tombstones("car-1") == {1: "x" * MAX_KEPT_REASON_LENGTH}


def test_a_full_quota_refuses_clips_and_still_hears_what_was_given_up(fleet):
    store = fleet.receiver(StoreLimits(vehicle_quota_bytes=2 * CHARGED))
    store.offer(row(1), NOW_NS)
    store.entomb("car-1", 9, "evicted", NOW_NS)
    with pytest.raises(RefusedError, match=r"vehicle_quota: .* bytes are taken"):
        store.offer(row(2), NOW_NS)
    store.entomb("car-1", 8, "evicted", NOW_NS)
    accounts_are_right(store)


def test_two_receivers_that_expire_the_same_clips_book_them_once(shared_fleet, settled, monkeypatch):
    first, second = shared_fleet.receiver(), shared_fleet.receiver()
    take_in(first, settled, row(1))
    policy, later = RetentionPolicy(clips_days=1), NOW_NS + 3 * DAY_NS
    lock = first.catalogue.database.lock_vehicle

    def overtaken(*arguments):
        monkeypatch.undo()
        return lock(*arguments)

    if first.catalogue.database.is_shared:  # SQLite's writers wait for each other from the start
        expired = []
        monkeypatch.setattr(
            first.catalogue.database, "lock_vehicle",
            lambda *a: (expired.append(expire(second.catalogue.database, policy, SOMEBODY, later)), overtaken(*a))[1],
        )  # fmt: skip
        expire(first.catalogue.database, policy, SOMEBODY, later)
    else:
        for store in (first, second):
            expire(store.catalogue.database, policy, SOMEBODY, later)
    accounts_are_right(first)
    assert [entry.action for entry in access_log(first.catalogue.database)] == ["expire"]


def test_a_catalogue_of_schema_2_gets_its_accounts(fleet, settled):
    store = fleet.receiver()
    take_in(store, settled, stamped(1, 0, **MANY_LABELS))
    store.offer(row(2), NOW_NS)
    store.write(row(2).key, 0, CONTENT[:100], NOW_NS)
    store.flush(NOW_NS)
    store.entomb("car-2", 3, "evicted", NOW_NS)
    with store.catalogue.database.writing() as connection:
        for index in ("clips_that_failed", "clips_to_verify_by_vehicle"):
            connection.exec_driver_sql(f"DROP INDEX {index}")
        connection.exec_driver_sql("CREATE INDEX clips_to_verify ON clips (received_wall_ns, n)")
        connection.exec_driver_sql("CREATE INDEX clips_by_size ON clips (vehicle, size_bytes)")
        for table, columns in {
            "vehicles": ("clips", "clip_bytes", "removed", "tombstones", "charged_bytes", "highest_n"),
            "partials": ("segment_count",), "erasures": ("arrived",), "clips": ("verify_attempts",),
        }.items():  # fmt: skip
            for column in columns:
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute(tables.schema_version.update().values(version=2))
    before = store.catalogue.database.label
    fleet.kill(store)
    store = fleet.receiver()
    assert store.catalogue.database.label == before
    accounts_are_right(store)
    assert figures(store.catalogue.database)["clips"] == 1
    assert store.catalogue.partial(row(2).key).segment_count == len(store.catalogue.segments(2))
    assert store.offer(row(2), NOW_NS) == RangeSet([(0, 100)]), "and everything goes on"
    assert settled(store, store.commit(row(2).key, NOW_NS) if store.missing(row(2).key) is None else True) is True


def test_crumbs_without_end_do_not_become_objects_without_end(shared_fleet, monkeypatch):
    monkeypatch.setattr(storage_limits, "SEGMENTS_AT_LEAST", 2)
    store = shared_fleet.receiver()
    store.offer(row(), NOW_NS)
    for at in range(3):
        store.write(row().key, at, CONTENT[at : at + 1], NOW_NS)
        store.flush(NOW_NS)
    with pytest.raises(RefusedError, match="too_fragmented: 3 pieces"):
        store.write(row().key, 3, CONTENT[3:4], NOW_NS)
    assert store.catalogue.partials() == []
    assert store.offer(row(), NOW_NS) == RangeSet(), "it may begin again"


def test_crumbs_that_touch_nothing_are_refused_and_an_honest_vehicles_small_chunks_are_not(shared_fleet):
    """Each would be an object of its own, hundreds of them a second."""
    store = shared_fleet.receiver()
    store.offer(row(), NOW_NS)
    size, small = len(CONTENT), 100
    for offset in (2, 1000, size - 2):
        with pytest.raises(RefusedError, match="1 bytes that touch nothing"):
            store.write(row().key, offset, CONTENT[offset : offset + 1], NOW_NS)
    for offset in (0, small, 5000, size - small):  # from the start, going on, large enough, the end
        end = offset + (200 if offset == 5000 else small)
        store.write(row().key, offset, CONTENT[offset:end], NOW_NS)
    store.write(row().key, 5000 - small, CONTENT[5000 - small : 5000], NOW_NS)  # up to what is held
    store.flush(NOW_NS)
    assert len(store.catalogue.segments(1)) == 3


def test_what_the_catalogue_holds_of_a_hostile_vehicle_is_never_more_than_it_is_charged(tmp_path, settled):
    """Used pages are measured: 1-byte clips with the most labels, tombstones, clips of an erased time."""
    store = ClipStore(tmp_path, StoreLimits())
    path = tmp_path / "catalogue.sqlite"
    erase(store.catalogue.database, "car-1", NOW_NS, NOW_NS + 10, SOMEBODY, "request", NOW_NS)

    def grows_by(act) -> tuple[int, int]:
        sizes, charges = [], []
        for then in (lambda: None, act):
            then()
            with sqlite3.connect(path) as connection:
                asked = ("page_count", "freelist_count", "page_size")
                pages, free, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked)
            sizes.append((pages - free) * page_bytes)
            with store.catalogue.database.reading() as connection:
                charges.append(account_of(connection, "car-1").charged_bytes)
        return sizes[1] - sizes[0], charges[1] - charges[0]

    def tiny(n: int, labels: dict):
        return row(n, bytes([n]), start_wall_ns=NOW_NS + 20, end_wall_ns=NOW_NS + 30, **labels)

    shown = {"start_wall_ns": NOW_NS, "end_wall_ns": NOW_NS + 5}
    acts = {
        "tiny clips": lambda: [take_in(store, settled, tiny(n, MANY_LABELS), bytes([n])) for n in range(6)],
        "long names": lambda: [take_in(store, settled, tiny(n, LONG_LABELS), bytes([n])) for n in range(6, 12)],
        "tombstones": lambda: [store.entomb("car-1", 1000 + n, "é" * 512, NOW_NS) for n in range(50)],
        "erased time": lambda: [store.offer(row(n, str(n).encode(), **shown), NOW_NS) for n in range(2000, 2050)],
    }
    for what, act in acts.items():
        held, charged = grows_by(act)
        assert 0 < held <= charged, f"{what}: {held} bytes of rows, {charged} charged"
    store.close()
