"""What every catalogue answers and forgets: questions with a log of who asked, erasure, retention, reports.

The same tests over a folder and object storage, SQLite and PostgreSQL. The servers are real processes.
"""

from __future__ import annotations

from dataclasses import astuple

import pytest
from store_steps import CONTENT, HOUR_NS, NOW_NS, SOMEBODY, everything_but, row, stamped, stored, take_in, tidy

from runtime.formats.durable_files import copy_checked
from runtime.uplink.catalogue import ClipKey
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.asking import ClipQuestion, access_log, ask, taken_out
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.storage.depot import DepotError
from runtime.uplink.storage.figures import figures
from runtime.uplink.storage.housekeeping import HousekeepingThread
from runtime.uplink.storage.limits import RefusedError
from runtime.uplink.storage.removal import DAY_NS, GIVEN_UP_NS, RetentionPolicy, erase, expire
from runtime.uplink.storage.reports import record_report, reports
from runtime.uplink.storage.rows import DELETION_GRACE_NS


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
    store.catalogue.backlog.record(offers[0].key, [])

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
    assert found(after=("car-1", 2, "")) == [3, 4]
    log = access_log(store.catalogue.database)
    assert len(log) == 13
    assert (log[2].who, log[2].action, log[2].detail["rule"], log[2].detail["answered"]) == (
        SOMEBODY, "query", "cut_in", 2,
    )  # fmt: skip


def test_an_answer_taken_in_pieces_skips_no_clip_of_a_number_that_came_twice(fleet, settled):
    store = fleet.receiver()
    for n, content in ((1, b"one"), (2, b"before"), (2, b"after the spool was lost"), (2, b"and again"), (3, b"three")):
        take_in(store, settled, row(n, content), content)
    every = [clip.key for clip in ask(store.catalogue.database, ClipQuestion(), store.directory, SOMEBODY, NOW_NS)]
    assert [key.n for key in every] == [1, 2, 2, 2, 3]
    pieces = []
    after = None
    while piece := ask(store.catalogue.database, ClipQuestion(after=after, limit=1), store.directory, SOMEBODY, NOW_NS):
        pieces += [clip.key for clip in piece]
        after = astuple(pieces[-1])
    assert pieces == every
    beyond = ask(store.catalogue.database, ClipQuestion(after=("car-1", 2, "")), store.directory, SOMEBODY, NOW_NS)
    assert [clip.key.n for clip in beyond] == [3], "without a hash a number is passed as a whole"


def test_what_goes_wrong_with_a_clip_that_was_taken_out_is_not_said_of_its_bytes(fleet, settled, tmp_path):
    store = fleet.receiver()
    take_in(store, settled, row(5))
    place = store.catalogue.database, store.depot, "car-1", 5, store.directory, SOMEBODY, NOW_NS
    with pytest.raises(FileNotFoundError), taken_out(*place) as (_, path):
        copy_checked(path, tmp_path / "no" / "such" / "folder", "")
    (clip,) = store.catalogue.clips(store.directory)
    store.depot.delete([clip.name])
    with pytest.raises(DepotError, match="its bytes are not at"), taken_out(*place):
        pass


def test_of_several_clips_with_one_number_the_hash_chooses(fleet, settled):
    store = fleet.receiver()
    place = store.catalogue.database, store.depot, "car-1", 5, store.directory, SOMEBODY, NOW_NS
    clips = {row(5, content).key.sha256: content for content in (b"first life", b"second life")}
    for content in clips.values():
        take_in(store, settled, row(5, content), content)
    with pytest.raises(LookupError, match="2 clips of car-1 with number 5 fit") as refused, taken_out(*place):
        pass
    assert all(sha256 in str(refused.value) for sha256 in clips)
    with pytest.raises(LookupError, match="no clip 5 of car-1 fits"), taken_out(*place, "0" * 64):
        pass
    assert access_log(store.catalogue.database) == [], "nobody got anything"
    for sha256, content in clips.items():
        for chosen in (sha256, sha256[:12]):
            with taken_out(*place, chosen) as (clip, path):
                assert (clip.key.sha256, path.read_bytes()) == (sha256, content)
    assert [entry.detail["sha256"] for entry in access_log(store.catalogue.database)] == [
        s for s in clips for _ in "12"
    ]


def test_a_clip_that_is_taken_out_is_logged_and_has_its_bytes(fleet, settled):
    store = fleet.receiver()
    take_in(store, settled, row(5))
    place = (store.catalogue.database, store.depot, "car-1")
    with taken_out(*place, 5, store.directory, SOMEBODY, NOW_NS) as (clip, path):
        assert (clip.key.n, path.read_bytes()) == (5, CONTENT)
    with pytest.raises(LookupError, match="no clip 6 of car-1"), taken_out(*place, 6, store.directory, "x", NOW_NS):
        pass
    assert [(entry.action, entry.detail) for entry in access_log(store.catalogue.database)] == [
        ("fetch", {"n": 5, "sha256": row(5).key.sha256})
    ]


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
    store.write(offered.key, 0, CONTENT[:5000], NOW_NS)
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


def test_an_offer_that_came_late_of_a_number_given_up_does_not_stay(fleet, settled):
    store = fleet.receiver()
    database, keep = store.catalogue.database, RetentionPolicy(partials_days=None)
    store.entomb("car-1", 5, "evicted to make room", NOW_NS)
    empty = figures(database)["charged_bytes"]
    for n in (5, 6):
        assert store.offer(row(n), NOW_NS) == RangeSet(), "it may be in earnest: a spool that began anew"
    assert expire(database, keep, "retention", NOW_NS + GIVEN_UP_NS) == 0
    assert expire(database, keep, "retention", NOW_NS + GIVEN_UP_NS + 1) == 1
    assert [partial.key.n for partial in store.catalogue.partials()] == [6], "of the other nobody said anything"
    store.drop(row(6).key, NOW_NS)
    assert figures(database)["charged_bytes"] == empty
    other = b"of a spool that began anew"
    assert take_in(store, settled, row(5, other), other, NOW_NS) is True
    assert expire(database, keep, "retention", NOW_NS + 2 * GIVEN_UP_NS) == 0
    assert stored(store) == [("car-1", 5, other)]


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
    first = store.catalogue.backlog.next(store.directory, NOW_NS)
    second = store.catalogue.backlog.next(store.directory, NOW_NS)
    assert [first.key.n, second.key.n] == [1, 2]
    assert store.catalogue.backlog.next(store.directory, NOW_NS) is None
    store.catalogue.backlog.record(first.key, ["a gap"])
    again = store.catalogue.backlog.next(store.directory, NOW_NS + HOUR_NS)
    assert again.key.n == 2, "its verifier has died"
    store.catalogue.backlog.record(second.key, [])
    assert [clip.verified for clip in store.catalogue.clips(store.directory)] == [False, True]
    found = figures(store.catalogue.database)
    assert (found["clips"], found["verified"], found["verification_failed"]) == (2, 1, 1)


def test_the_last_report_of_each_vehicle_is_kept_whichever_receiver_it_told(fleet):
    store = fleet.receiver()
    for vehicle, text in (("car-2", "early"), ("car-1", "a\\u0000b"), ("car-2", "late")):
        record_report(store.catalogue.database, vehicle, f'{{"said": "{text}"}}'.encode(), NOW_NS)
    fleet.kill(store)
    found = reports(fleet.receiver().catalogue.database)
    assert [(entry["vehicle"], entry["report"]["said"]) for entry in found] == [("car-1", "a\0b"), ("car-2", "late")]
