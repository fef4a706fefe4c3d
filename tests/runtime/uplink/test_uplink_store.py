"""The receiver's files: durable before acknowledged, complete before stored, and never outside their folder."""

from __future__ import annotations

import contextlib
import os

import pytest
from clip_steps import CONTENT, DIGEST, NOW_NS, SHA256, answer, chunk, fill, row

from runtime.uplink.catalogue import COMING_NS
from runtime.uplink.ranges import RangeSet
from runtime.uplink.reception import STORAGE_DETAIL, Reception
from runtime.uplink.storage.accounts import charge_of
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.store import ClipStore, RefusedError, StoreLimits
from runtime.uplink.wire import MAX_RANGES, Commit, Done, Nack, Offer, State, encode


def restart(store: ClipStore) -> tuple[ClipStore, int]:
    store.close()
    again = ClipStore(store.directory, store.limits)
    return again, again.recover(NOW_NS)


def test_a_complete_clip_lies_under_its_vehicle_and_day(store):
    fill(store, row())
    assert store.commit(row().key, NOW_NS)
    (clip,) = store.catalogue.clips(store.directory)
    assert clip.path == store.directory / "clips" / "car-1" / "2023-11-14" / f"{1:012d}-{SHA256[:16]}-1.mcap"
    assert clip.path.read_bytes() == CONTENT
    assert store.offer(row(), NOW_NS) is None, "offered again, it is stored already"


def test_only_flushed_bytes_survive_a_crash_as_held(store):
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT[:300], NOW_NS)
    store.flush(NOW_NS)
    store.write(row().key, 300, CONTENT[300:400], NOW_NS)
    store, _ = restart(store)
    assert store.offer(row(), NOW_NS) == RangeSet([(0, 300)])
    store.close()


@pytest.mark.parametrize("renamed", [False, True])
def test_killed_around_the_rename_a_clip_is_stored_once(store, monkeypatch, renamed):
    fill(store, row())
    if renamed:
        monkeypatch.setattr(store.catalogue, "store", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    else:
        folder = "runtime.uplink.storage.folder_depot"
        monkeypatch.setattr(f"{folder}.rename_durably", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.commit(row().key, NOW_NS)
    monkeypatch.undo()
    store, completed = restart(store)
    assert completed == int(renamed)
    if not renamed:
        assert store.offer(row(), NOW_NS) == RangeSet([(0, len(CONTENT))]), "not a byte has to come again"
        assert store.commit(row().key, NOW_NS)
    (clip,) = store.catalogue.clips(store.directory)
    assert clip.path.read_bytes() == CONTENT
    assert list((store.directory / "partial").iterdir()) == []
    store.close()


def test_a_failed_fdatasync_drops_the_partial_and_says_so(store, monkeypatch):
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT, NOW_NS)

    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    answers, failures = store.flush(NOW_NS)
    monkeypatch.undo()
    assert answers == []
    assert [key for key, _ in failures] == [row().key]
    assert store.offer(row(), NOW_NS) == RangeSet(), "all of it has to come again"


def test_files_without_rows_and_rows_without_files_are_cleared_at_start(store):
    fill(store, row(1))
    fill(store, row(2))
    (lost,) = (store.directory / "partial").glob("*-000000000002-*")
    lost.unlink()
    stray = store.directory / "partial" / "stray.part"
    stray.write_bytes(b"x")
    store, _ = restart(store)
    assert [partial.key.n for partial in store.catalogue.partials()] == [1]
    assert not stray.exists()
    store.close()


def test_a_vehicle_cannot_exceed_its_quota_and_others_are_unaffected(tmp_path):
    store = ClipStore(tmp_path, StoreLimits(vehicle_quota_bytes=2 * charge_of(len(CONTENT), "{}")))
    store.offer(row(1), NOW_NS)
    store.offer(row(2), NOW_NS)
    with pytest.raises(RefusedError, match="vehicle_quota"):
        store.offer(row(3), NOW_NS)
    assert store.offer(row(3, vehicle="car-2"), NOW_NS) == RangeSet()
    store.close()


def test_a_vehicle_holds_few_partials_the_longest_untouched_gives_way(tmp_path):
    store = ClipStore(tmp_path, StoreLimits(vehicle_partials=2))
    for n in (1, 2, 3):
        store.offer(row(n), NOW_NS + n)
    assert [partial.key.n for partial in store.catalogue.partials()] == [2, 3]
    store.close()


def test_clips_that_were_let_in_together_leave_the_reserve_of_the_disk_alone(tmp_path):
    """Each fits, all of them do not: the catalogue on the same disk would have no room to let anything go."""
    disk = {"free": 5000}
    limits = StoreLimits(disk_reserve_bytes=300)
    store = ClipStore(tmp_path, limits, FolderDepot(tmp_path, lambda directory: disk["free"]))
    for n in (1, 2):
        store.offer(row(n), NOW_NS)
    disk["free"] = 1500  # something else has filled it
    store.write(row(1).key, 0, CONTENT, NOW_NS)
    disk["free"] -= len(CONTENT)
    with pytest.raises(RefusedError, match="receiver_full"):
        store.write(row(2).key, 0, CONTENT, NOW_NS)
    ((key, _),), failures = store.flush(NOW_NS)
    assert (key, failures) == (row(1).key, [])
    disk["free"] += 10_000
    store.write(row(2).key, 0, CONTENT, NOW_NS)
    store.flush(NOW_NS)
    assert store.commit(row(2).key, NOW_NS), "what it had stays"
    store.close()


def test_ten_vehicles_are_promised_no_more_than_the_disk_has_together(tmp_path):
    """All of them let in, all would stand still before the reserve, and nobody's clip would ever be whole."""
    disk = {"free": 3 * len(CONTENT)}
    store = ClipStore(tmp_path, StoreLimits(disk_reserve_bytes=300), FolderDepot(tmp_path, lambda _: disk["free"]))
    vehicles = [f"car-{number}" for number in range(10)]
    let_in = []
    for vehicle in vehicles:
        with contextlib.suppress(RefusedError):
            store.offer(row(vehicle=vehicle), NOW_NS)
            let_in.append(vehicle)
    assert let_in == vehicles[:2]
    for vehicle in let_in:
        store.write(row(vehicle=vehicle).key, 0, CONTENT, NOW_NS)
        disk["free"] -= len(CONTENT)
    store.flush(NOW_NS)
    assert all(store.commit(row(vehicle=vehicle).key, NOW_NS) for vehicle in let_in)
    disk["free"] += len(CONTENT)
    assert store.offer(row(vehicle=vehicles[2]), NOW_NS) == RangeSet(), "what has come is not kept free twice"
    with pytest.raises(RefusedError, match="receiver_full"):
        store.offer(row(vehicle=vehicles[3]), NOW_NS)
    much_later = NOW_NS + 2 * COMING_NS
    store.figures(much_later)  # which a receiver asks for all the time
    assert store.offer(row(vehicle=vehicles[3]), much_later) == RangeSet(), "who sends nothing takes no room"
    store.close()


def test_too_many_holes_are_refused(store):
    store.offer(row(), NOW_NS)
    for hole in range(MAX_RANGES):
        store.write(row().key, 2 * hole, b"x", NOW_NS)
    with pytest.raises(RefusedError, match="too_fragmented"):
        store.write(row().key, 2 * MAX_RANGES, b"x", NOW_NS)


# -- through the protocol --------------------------------------------------------------------------------------------


def test_a_chunk_with_a_flipped_bit_is_refused_by_its_offset(reception):
    damaged = bytes([CONTENT[0] ^ 1]) + CONTENT[1:100]
    refused = answer(reception, chunk(0, damaged, hashed=CONTENT[:100]))
    assert (refused.code, refused.n, refused.offset) == ("bad_chunk_hash", 1, 0)
    assert reception.flush(NOW_NS) == [], "nothing to acknowledge"


def test_duplicate_and_reordered_chunks_make_the_same_clip(reception, store):
    for offset in (512, 0, 512, 256, 0, 768):
        assert reception.handle("car-1", chunk(offset, CONTENT[offset : offset + 256]), NOW_NS) == []
    ((_, ack, _),) = reception.flush(NOW_NS)
    assert ack.ranges == ((0, len(CONTENT)),)
    assert answer(reception, [encode(Commit(1, DIGEST)), b""]) == Done(1, DIGEST)
    assert answer(reception, [encode(Commit(1, DIGEST)), b""]) == Done(1, DIGEST), "again: the same"
    assert answer(reception, chunk(0, CONTENT[:256])) == Done(1, DIGEST), "a late chunk changes nothing"
    assert len(store.catalogue.clips(store.directory)) == 1


def test_chunks_that_are_right_one_by_one_but_not_the_clip_are_never_stored(reception, store):
    other = bytes(len(CONTENT))
    reception.handle("car-1", chunk(0, other), NOW_NS)
    replies = [message for _, message, _ in reception.handle("car-1", [encode(Commit(1, DIGEST)), b""], NOW_NS)]
    assert isinstance(replies[-1], Nack)
    assert replies[-1].code == "bad_file_hash"
    assert store.catalogue.clips(store.directory) == []


def test_a_commit_with_bytes_missing_names_what_is_held(reception):
    reception.handle("car-1", chunk(0, CONTENT[:256]), NOW_NS)
    reception.flush(NOW_NS)
    assert answer(reception, [encode(Commit(1, DIGEST)), b""]) == State(1, DIGEST, "partial", ((0, 256),))


def test_a_chunk_beyond_the_offered_size_is_refused(reception):
    assert answer(reception, chunk(len(CONTENT), b"more")).code == "malformed"


def test_another_vehicle_cannot_touch_or_finish_a_clip(reception):
    reception.handle("car-1", chunk(0, CONTENT), NOW_NS)
    reception.flush(NOW_NS)
    assert answer(reception, chunk(0, CONTENT), "car-2").code == "unknown_clip"
    assert answer(reception, [encode(Commit(1, DIGEST)), b""], "car-2").code == "unknown_clip"


@pytest.mark.parametrize("metadata", [b"[1]", b"{", b"\xff\xfe", b'{"a":' * 5000, b'"' + bytes(70_000) + b'"'])
def test_metadata_that_is_no_json_object_is_refused(reception, metadata):
    assert answer(reception, [encode(Offer(2, DIGEST, 10, "low")), metadata]).code == "malformed"


def test_a_disk_that_fills_while_writing_is_answered_not_fatal(reception, store, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runtime.uplink.storage.folder_depot.write_fully", full)
    assert answer(reception, chunk(0, CONTENT)).code == "storage"
    monkeypatch.undo()
    assert answer(reception, chunk(0, CONTENT)).code == "unknown_clip", "the vehicle has to offer it again"


def test_what_failed_is_told_to_the_operator_and_not_to_the_vehicle(store, monkeypatch, caplog):
    reception = Reception(store, 8 << 20)
    secret = "catalogue postgresql://fleet@10.1.2.3/clips: connection refused"
    for name in ("admit", "has", "save_ranges"):
        monkeypatch.setattr(store.catalogue, name, lambda *a: (_ for _ in ()).throw(OSError(secret)))
    offer = [encode(Offer(1, bytes.fromhex(SHA256), len(CONTENT), "normal")), b"{}"]
    for seconds in (0, 1, 70):
        ((_, nack, _),) = reception.handle("car-1", offer, NOW_NS + seconds * 1_000_000_000)
        assert (nack.code, nack.detail) == ("storage", STORAGE_DETAIL)
    assert (reception.troubles.count, reception.troubles.last) == (3, secret)
    assert [record.args for record in caplog.records] == [(1, secret), (3, secret)], "once a minute"


def test_a_flush_that_fails_names_no_path_to_the_vehicle(store, monkeypatch):
    reception = Reception(store, 8 << 20)
    store.offer(row(), NOW_NS)
    store.write(row().key, 0, CONTENT, NOW_NS)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "error", "/srv/clips")))
    ((_, nack, _),) = reception.flush(NOW_NS)
    monkeypatch.undo()
    assert (nack.code, nack.detail, nack.n) == ("storage", STORAGE_DETAIL, 1)
    assert "/srv/clips" in reception.troubles.last
