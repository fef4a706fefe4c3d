"""What every store of a receiver promises: durable before acknowledged, whole before stored, once, and gone for good.

The same tests over a folder and object storage, SQLite and PostgreSQL. The servers are real processes.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from runtime.uplink.catalogue import ClipKey, PartialRow
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.asking import ClipQuestion, access_log, ask, taken_out
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.storage.housekeeping import HousekeepingThread
from runtime.uplink.storage.limits import RefusedError, StoreLimits
from runtime.uplink.storage.removal import DAY_NS, RetentionPolicy, empty_deletions, erase, expire
from runtime.uplink.storage.reports import record_report, reports
from runtime.uplink.storage.rows import DELETION_GRACE_NS

CONTENT = bytes(range(256)) * 40
NOW_NS = 1_700_000_000 * 1_000_000_000  # 2023-11-14 UTC
HOUR_NS = 3600 * 1_000_000_000
SOMEBODY = "somebody@office"


def row(n: int = 1, content: bytes = CONTENT, vehicle: str = "car-1", **metadata: object) -> PartialRow:
    key = ClipKey(vehicle, n, hashlib.sha256(content).hexdigest())
    priority = str(metadata.get("priority", "normal"))
    return PartialRow(key, len(content), priority, json.dumps(metadata), (), None)


def take_in(store, settled, offered: PartialRow, content: bytes = CONTENT, wall_ns: int = NOW_NS) -> object:
    """Offer, write, flush and commit."""
    store.offer(offered, wall_ns)
    store.write(offered.key, 0, content)
    store.flush(wall_ns)
    return settled(store, store.commit(offered.key, wall_ns))


def stored(store) -> list[tuple[str, int, bytes]]:
    """Every stored clip with its bytes."""
    found = []
    for clip in store.catalogue.clips(store.directory):
        with store.depot.local_copy(clip.name) as path:
            found.append((clip.key.vehicle, clip.key.n, path.read_bytes()))
    return found


def everything_but(store, names: set[str]) -> list[str]:
    """What lies in the depot beside these names; a catalogue and the lock are no clips."""
    if store.depot.is_exclusive:
        files = (path for part in ("partial", "clips") for path in (store.directory / part).rglob("*"))
        found = {str(path.relative_to(store.directory)) for path in files if path.is_file()}
    else:
        import obstore

        found = {entry["path"] for page in obstore.list(store.depot._store) for entry in page}
    return sorted(found - names)


def tidy(store, wall_ns: int) -> None:
    while empty_deletions(store.catalogue.database, store.depot, wall_ns):
        pass


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
    store.write(row().key, 0, CONTENT[:300])
    ((key, held),), failures = store.flush(NOW_NS)
    assert (key, held, failures) == (row().key, RangeSet([(0, 300)]), [])
    store.write(row().key, 300, CONTENT[300:400])
    fleet.kill(store)
    store = fleet.receiver()
    store.recover(NOW_NS)
    assert store.offer(row(), NOW_NS) == RangeSet([(0, 300)])


def test_chunks_in_any_order_and_twice_make_the_same_clip(fleet, settled):
    store = fleet.receiver()
    store.offer(row(), NOW_NS)
    for offset in (4096, 0, 8192, 4096, 2048, 6144, 0):
        store.write(row().key, offset, CONTENT[offset : offset + 2048])
        if offset == 8192:
            store.flush(NOW_NS)
    store.flush(NOW_NS)
    assert store.missing(row().key) is None
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
    store.write(row().key, 0, CONTENT)
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
    store.write(row().key, 0, CONTENT)
    store.flush(NOW_NS)
    fleet.kill(store)
    store = fleet.receiver()
    store.recover(NOW_NS + DAY_NS)
    HousekeepingThread(store, RetentionPolicy(), None).turn(NOW_NS + DAY_NS)
    assert stored(store) == [("car-1", 1, CONTENT)]


def test_quota_counts_what_is_stored_and_what_is_under_way(fleet, settled):
    store = fleet.receiver(StoreLimits(vehicle_quota_bytes=2 * len(CONTENT)))
    take_in(store, settled, row(1))
    store.offer(row(2), NOW_NS)
    with pytest.raises(RefusedError, match="vehicle_quota"):
        store.offer(row(3), NOW_NS)
    assert store.offer(row(3, vehicle="car-2"), NOW_NS) == RangeSet()


def test_a_refused_offer_costs_no_other_clip_its_place(fleet):
    store = fleet.receiver(StoreLimits(vehicle_partials=2, vehicle_quota_bytes=2 * len(CONTENT)))
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
        store.write(row(n).key, 0, CONTENT[:100])
        store.flush(NOW_NS + n)
    assert [partial.key.n for partial in store.catalogue.partials()] == [2, 3]
    tidy(store, NOW_NS + 3)
    assert not [name for name in everything_but(store, set()) if "000000000001" in name]
    with pytest.raises(RefusedError, match="unknown_clip"):
        store.write(row(1).key, 0, CONTENT)


def test_a_tombstone_drops_what_there_is_of_the_clip(fleet):
    store = fleet.receiver()
    store.offer(row(7), NOW_NS)
    store.entomb("car-1", 7, "evicted", NOW_NS)
    assert store.catalogue.tombstones("car-1") == {7: "evicted"}
    assert store.catalogue.partials() == []


def test_a_catalogue_that_fails_acknowledges_nothing(fleet, monkeypatch):
    store = fleet.receiver()
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT)

    def failing(*_: object) -> None:
        raise CatalogueError("the server is gone")

    monkeypatch.setattr(store.catalogue, "save_ranges", failing)
    answers, ((key, error),) = store.flush(NOW_NS)
    assert (answers, key, str(error)) == ([], row().key, "the server is gone")
    monkeypatch.undo()
    assert store.offer(row(), NOW_NS) == RangeSet()


# -- asking ------------------------------------------------------------------------------------------------------------


def stamped(n: int, start_hour: int, **metadata: object) -> PartialRow:
    start_ns = NOW_NS + start_hour * HOUR_NS
    return row(n, start_wall_ns=start_ns, end_wall_ns=start_ns + 10_000_000_000, **metadata)


def test_clips_are_found_by_vehicle_rule_time_priority_campaign_and_model(fleet, settled):
    store = fleet.receiver()
    offers = [
        stamped(1, 0, rules=["hard_brake", "cut_in"], model="hydra", priority="safety"),
        stamped(2, 1, rules=["cut_in"], campaigns=["night@3"], model="yolox"),
        stamped(3, 2, rules=[], campaigns=["night@4"], kind="pull"),
        row(4, rules="not a list", model=7, start_wall_ns="noon", kind="\0\ud800", campaigns=["\ud800", "\0"]),
    ]
    for offered in offers:
        assert take_in(store, settled, offered) is True
    store.catalogue.record_verification(offers[0].key, [])

    def found(**question: object) -> list[int]:
        answered = ask(store.catalogue.database, ClipQuestion(**question), store.directory, SOMEBODY, NOW_NS)
        return [clip.key.n for clip in answered]

    assert found() == [1, 2, 3, 4]
    assert found(vehicle="car-2") == []
    assert found(rule="cut_in") == [1, 2]
    assert found(rule="cut_in", priority="safety") == [1]
    assert found(campaign="night") == [2, 3]
    assert found(campaign="night@3") == [2]
    assert found(model="yolox") == [2]
    assert found(kind="pull") == [3]
    assert found(verified=True) == [1]
    assert found(from_wall_ns=NOW_NS + HOUR_NS) == [2, 3]
    assert found(from_wall_ns=NOW_NS + 5_000_000_000, to_wall_ns=NOW_NS + HOUR_NS) == [1, 2]
    assert found(limit=2) == [1, 2]
    assert found(after=("car-1", 2)) == [3, 4]
    log = access_log(store.catalogue.database)
    assert len(log) == 13
    assert (log[2].who, log[2].action, log[2].detail["rule"], log[2].detail["answered"]) == (
        SOMEBODY, "query", "cut_in", 2,
    )  # fmt: skip


def test_a_clip_that_is_taken_out_is_logged_and_has_its_bytes(fleet, settled):
    store = fleet.receiver()
    take_in(store, settled, row(5))
    place = (store.catalogue.database, store.depot, "car-1")
    with taken_out(*place, 5, store.directory, SOMEBODY, NOW_NS) as (clip, path):
        assert (clip.key.n, path.read_bytes()) == (5, CONTENT)
    with pytest.raises(LookupError, match="no clip 6 of car-1"), taken_out(*place, 6, store.directory, "x", NOW_NS):
        pass
    assert [(entry.action, entry.detail) for entry in access_log(store.catalogue.database)] == [("fetch", {"n": 5})]


@pytest.mark.parametrize("statement", ["UPDATE access_log SET who = 'nobody'", "DELETE FROM access_log"])
def test_the_access_log_cannot_be_changed(fleet, statement):
    database = fleet.receiver().catalogue.database
    ask(database, ClipQuestion(), fleet.directory, SOMEBODY, NOW_NS)
    with pytest.raises(CatalogueError, match="append-only"), database.writing() as connection:
        connection.exec_driver_sql(statement)
    assert [entry.who for entry in access_log(database)] == [SOMEBODY]


# -- removal -----------------------------------------------------------------------------------------------------------


def test_erasing_takes_what_may_show_the_time_and_nothing_else(fleet, settled):
    store = fleet.receiver()
    for offered in (stamped(1, 0), stamped(2, 1), stamped(3, 2), row(4)):
        take_in(store, settled, offered, wall_ns=NOW_NS + 3 * HOUR_NS)
    take_in(store, settled, stamped(2, 1).__class__(
        ClipKey("car-2", 2, row().key.sha256), len(CONTENT), "normal", stamped(2, 1).metadata, (), None
    ), wall_ns=NOW_NS + 3 * HOUR_NS)  # fmt: skip
    store.offer(stamped(5, 1), NOW_NS + 3 * HOUR_NS)
    when = NOW_NS + 4 * HOUR_NS
    outcome = erase(
        store.catalogue.database, "car-1", NOW_NS + HOUR_NS, NOW_NS + HOUR_NS + 1, SOMEBODY, "request 4711", when
    )
    assert (outcome.clips, outcome.partials, outcome.unknown_time) == (2, 1, 1), "clip 4 may show it: it goes too"
    assert [(vehicle, n) for vehicle, n, _ in stored(store)] == [("car-1", 1), ("car-1", 3), ("car-2", 2)]
    tidy(store, when + DELETION_GRACE_NS)
    assert everything_but(store, {clip.name for clip in store.catalogue.clips(store.directory)}) == []
    assert store.catalogue.removed("car-1") == {2: "erased", 4: "erased", 5: "erased"}
    (entry,) = access_log(store.catalogue.database)
    assert (entry.who, entry.action, entry.vehicle, entry.detail["clips"]) == (SOMEBODY, "erase", "car-1", [2, 4])
    assert entry.detail["reason"] == "request 4711"


def test_what_is_erased_never_comes_back_and_the_vehicle_lets_go_of_it(fleet, settled):
    store = fleet.receiver()
    take_in(store, settled, stamped(1, 1))
    erase(store.catalogue.database, "car-1", NOW_NS + HOUR_NS, NOW_NS + HOUR_NS, SOMEBODY, "request", NOW_NS + DAY_NS)
    assert store.offer(stamped(1, 1), NOW_NS + DAY_NS) is None, "its DONE was lost: it is done with"
    assert store.offer(stamped(2, 1), NOW_NS + DAY_NS) is None, "it was on the vehicle still when the order came"
    assert store.offer(stamped(3, 2), NOW_NS + DAY_NS) == RangeSet(), "another hour of the same vehicle is welcome"
    with pytest.raises(RefusedError, match="erased_time"):
        store.offer(row(4), NOW_NS + DAY_NS)
    assert [entry.action for entry in access_log(store.catalogue.database)] == ["erase", "erase on arrival"]


def test_a_clip_that_is_erased_while_a_receiver_writes_it_is_not_stored(fleet, settled):
    store = fleet.receiver()
    offered = stamped(1, 0)
    store.offer(offered, NOW_NS)
    store.write(offered.key, 0, CONTENT[:5000])
    erase(store.catalogue.database, "car-1", NOW_NS, NOW_NS + HOUR_NS, SOMEBODY, "request", NOW_NS)
    tidy(store, NOW_NS)
    answers, failures = store.flush(NOW_NS)
    assert (answers, failures) == ([(offered.key, RangeSet([(0, len(CONTENT))]))], []), "it need not send the rest"
    assert settled(store, store.commit(offered.key, NOW_NS)) is True, "DONE: the vehicle lets go of it"
    assert stored(store) == []
    tidy(store, NOW_NS + DELETION_GRACE_NS)
    assert everything_but(store, set()) == []


def test_retention_follows_priority_and_is_logged(fleet, settled):
    store = fleet.receiver()
    for n, priority in ((1, "safety"), (2, "normal"), (3, "background")):
        take_in(store, settled, row(n, priority=priority))
    take_in(store, settled, row(4), wall_ns=NOW_NS + 9 * DAY_NS)
    store.offer(row(5), NOW_NS)
    policy = RetentionPolicy(clips_days=8, by_priority={"safety": None, "background": 1}, partials_days=5)
    database = store.catalogue.database
    assert expire(database, policy, "retention", NOW_NS + 2 * DAY_NS) == 1
    assert [n for _, n, _ in stored(store)] == [1, 2, 4]
    assert expire(database, policy, "retention", NOW_NS + 10 * DAY_NS) == 2
    assert [n for _, n, _ in stored(store)] == [1, 4]
    assert store.catalogue.removed("car-1") == {2: "expired", 3: "expired"}
    assert [entry.action for entry in access_log(database)] == ["expire", "expire", "expire unfinished"]
    assert store.offer(row(2), NOW_NS + 10 * DAY_NS) is None, "expired is not wanted again"
    assert store.offer(row(5), NOW_NS + 10 * DAY_NS) == RangeSet(), "what never came in whole is"


def test_a_removal_that_was_cut_short_goes_on(fleet, settled, monkeypatch):
    store = fleet.receiver()
    take_in(store, settled, stamped(1, 0))
    tidy(store, NOW_NS)
    (clip,) = store.catalogue.clips(store.directory)
    erase(store.catalogue.database, "car-1", NOW_NS, NOW_NS, SOMEBODY, "request", NOW_NS)
    assert everything_but(store, set()) == [clip.name], "killed here: rows are gone, bytes are not"
    fleet.kill(store)
    store = fleet.receiver()
    store.recover(NOW_NS)
    HousekeepingThread(store, RetentionPolicy(), None).turn(NOW_NS)
    assert everything_but(store, set()) == []


def test_verifiers_share_the_backlog(fleet, settled):
    store = fleet.receiver()
    for n in (1, 2):
        take_in(store, settled, row(n), wall_ns=NOW_NS + n)
    first = store.catalogue.next_unverified(store.directory, NOW_NS)
    second = store.catalogue.next_unverified(store.directory, NOW_NS)
    assert [first.key.n, second.key.n] == [1, 2]
    assert store.catalogue.next_unverified(store.directory, NOW_NS) is None
    store.catalogue.record_verification(first.key, ["a gap"])
    again = store.catalogue.next_unverified(store.directory, NOW_NS + HOUR_NS)
    assert again.key.n == 2, "its verifier has died"
    store.catalogue.record_verification(second.key, [])
    assert [clip.verified for clip in store.catalogue.clips(store.directory)] == [False, True]
    figures = store.catalogue.figures()
    assert (figures["clips"], figures["verified"], figures["verification_failed"]) == (2, 1, 1)


def test_the_last_report_of_each_vehicle_is_kept_whichever_receiver_it_told(fleet):
    store = fleet.receiver()
    for vehicle, text in (("car-2", "early"), ("car-1", "a\\u0000b"), ("car-2", "late")):
        record_report(store.catalogue.database, vehicle, f'{{"said": "{text}"}}'.encode(), NOW_NS)
    fleet.kill(store)
    found = reports(fleet.receiver().catalogue.database)
    assert [(entry["vehicle"], entry["report"]["said"]) for entry in found] == [("car-1", "a\0b"), ("car-2", "late")]
