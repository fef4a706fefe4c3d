"""Start-up after every way to die: folder and ledger agree again, and every number is accounted for."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from runtime.messages import Priority
from runtime.spool import ClipState, LedgerError, RecoveryReport, SealError, Spool, SpoolError
from runtime.spool.clips import BLOCK_BYTES

QUOTA_BYTES = 64 << 20


def open_spool(directory: Path) -> Spool:
    return Spool.open(directory, QUOTA_BYTES)


def seal(spool: Spool, content: bytes, priority: Priority = Priority.NORMAL, **metadata) -> Path:
    draft = spool.begin(len(content), priority)
    draft.path.write_bytes(content)
    return spool.seal(draft, metadata).path


def test_after_a_clean_stop_there_is_nothing_to_recover(tmp_path):
    with open_spool(tmp_path) as spool:
        seal(spool, b"a")
    report = open_spool(tmp_path).last_recovery
    assert report == RecoveryReport()


def test_killed_between_rename_and_row_the_clip_is_adopted_with_its_metadata(tmp_path, monkeypatch):
    with open_spool(tmp_path) as spool:
        seal(spool, b"first")

        def killed(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr("runtime.spool.sealing.insert_clip", killed)
        with pytest.raises(KeyboardInterrupt):
            seal(spool, b"second", Priority.SAFETY, rule="hard_braking")
        monkeypatch.undo()
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.adopted == [2]
        clip = spool.clip(2)
        assert (clip.priority, clip.metadata, clip.path.read_bytes()) == (
            Priority.SAFETY,
            {"rule": "hard_braking"},
            b"second",
        )
        assert spool.partial() == []
        assert spool.counts().is_gapless


def failing(*arguments):
    raise OSError(28, "No space left on device")


def test_a_seal_that_fails_after_its_rename_is_taken_back_and_its_number_given_to_the_next(tmp_path, monkeypatch):
    with open_spool(tmp_path) as spool:
        monkeypatch.setattr("runtime.spool.sealing.insert_clip", failing)
        with pytest.raises(SealError, match="No space left"):
            seal(spool, b"first")
        monkeypatch.undo()
        assert list((tmp_path / "clips").iterdir()) == []
        assert (tmp_path / "counter").read_text() == "0\n"
        assert seal(spool, b"second").name.startswith("000000000001-")
        assert spool.counts().tombstoned == 0


def test_a_number_whose_file_lacks_a_row_is_not_given_out_again(tmp_path, monkeypatch):
    with open_spool(tmp_path) as spool:
        monkeypatch.setattr("runtime.spool.sealing.insert_clip", failing)
        monkeypatch.setattr("runtime.spool.sealing.remove_durably", failing)
        with pytest.raises(SealError):
            seal(spool, b"first")
        monkeypatch.undo()
        with pytest.raises(SealError, match="start the process again"):
            seal(spool, b"second")
        assert spool.must_be_reopened, "the recorder leaves, and its next start recovers"
        assert spool.recover().adopted == [1]
        assert not spool.must_be_reopened
        assert seal(spool, b"third").name.startswith("000000000002-")


@pytest.mark.parametrize("settle", ["mark_delivered", "tombstone"])
def test_an_unlink_cut_short_is_finished(tmp_path, monkeypatch, settle):
    with open_spool(tmp_path) as spool:
        path = seal(spool, b"first")
        monkeypatch.setattr("runtime.spool.deliveries.unlink_clip", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            spool.mark_delivered(1) if settle == "mark_delivered" else spool.tombstone(1, "expired")
        monkeypatch.undo()
        assert path.exists()
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.unlinked == [1]
        assert not path.exists()
        assert spool.counts().bytes_used == 0


def test_a_row_without_a_file_becomes_a_tombstone_and_an_alarm(tmp_path):
    with open_spool(tmp_path) as spool:
        seal(spool, b"first").unlink()
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.tombstoned == [1]
        assert spool.clip(1).state is ClipState.TOMBSTONED
        assert any("disappeared" in alarm.text for alarm in spool.alarms())


def test_a_draft_whose_writer_died_is_listed_as_partial_with_its_real_size(tmp_path):
    with open_spool(tmp_path) as spool:
        draft = spool.begin(1 << 20)
        draft.path.write_bytes(bytes(100))
        assert spool.recover().partial == [], "its writer lives"
        draft.release()
    with open_spool(tmp_path) as spool:
        (partial,) = spool.partial()
        assert (partial.path, partial.size_bytes) == (draft.path, 100)
        assert spool.counts().bytes_used == BLOCK_BYTES
        resumed = spool.resume(partial)
        assert spool.partial() == []
        spool.discard(resumed)
        assert not draft.path.exists()


@pytest.mark.parametrize("damage", ["deleted", "garbage", "cut off"])
def test_a_lost_ledger_is_rebuilt_and_its_counter_does_not_go_back(tmp_path, damage):
    with open_spool(tmp_path) as spool:
        for content in (b"a", b"b", b"c", b"d"):
            seal(spool, content)
        spool.mark_delivered(2)
        spool.mark_delivered(4)
    ledger = tmp_path / "ledger.sqlite"
    if damage == "deleted":
        ledger.unlink()
    else:
        ledger.write_bytes(os.urandom(8192) if damage == "garbage" else ledger.read_bytes()[:5000])
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.ledger_rebuilt
        assert spool.last_recovery.adopted == [1, 3]
        assert spool.last_recovery.tombstoned == [2, 4]
        assert seal(spool, b"e").name.startswith("000000000005-")
        assert spool.counts().is_gapless
        assert spool.counts().alarms >= 2
    assert bool(list(tmp_path.glob("ledger.corrupt-*"))) == (damage != "deleted"), "evidence is kept"


def test_another_process_that_holds_the_old_ledger_follows_to_the_new_one(tmp_path):
    uploader = open_spool(tmp_path)
    with open_spool(tmp_path) as recorder:
        seal(recorder, b"a")
    assert len(uploader.pending()) == 1
    for part in tmp_path.glob("ledger.sqlite*"):
        part.rename(tmp_path / f"gone-{part.name}")
    with open_spool(tmp_path) as recorder:
        seal(recorder, b"b")
        assert [clip.n for clip in uploader.pending()] == [1, 2]
        uploader.mark_delivered(1)
        assert recorder.clip(1).state is ClipState.DELIVERED
    uploader.close()


@pytest.mark.parametrize("left_behind", ["nothing", "an empty file"])
def test_a_ledger_deleted_under_a_running_recorder_ends_it_and_no_number_is_given_out_twice(tmp_path, left_behind):
    recorder = open_spool(tmp_path)
    paths = [seal(recorder, content) for content in (b"a", b"b")]
    recorder.mark_delivered(1)
    for part in tmp_path.glob("ledger.sqlite*"):
        part.unlink()
    if left_behind == "an empty file":
        (tmp_path / "ledger.sqlite").touch()
    for _ in range(2):
        with pytest.raises(LedgerError, match="start again, that rebuilds it"):
            seal(recorder, b"c")
    assert recorder.must_be_reopened, "the recorder leaves"
    assert (tmp_path / "counter").read_text() == "2\n"
    with open_spool(tmp_path) as rebuilt:
        assert (rebuilt.clip(1).state, rebuilt.clip(2).path) == (ClipState.TOMBSTONED, paths[1])
        assert seal(rebuilt, b"c").name.startswith("000000000003-")
        assert [clip.n for clip in recorder.pending()] == [2, 3], "whoever still runs follows to the rebuilt one"
        assert not recorder.must_be_reopened
    recorder.close()


def test_a_ledger_that_is_behind_the_counter_gives_out_no_number(tmp_path):
    """An empty ledger whose start was killed before it recovered, under a recorder that runs."""
    with open_spool(tmp_path) as spool:
        for content in (b"a", b"b"):
            seal(spool, content)
        spool.mark_delivered(1)
        with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
            connection.execute("DELETE FROM clips")
        connection.close()
        with pytest.raises(SealError, match="`counter` is at 2, the ledger says that 1 is next"):
            seal(spool, b"c")
        assert spool.must_be_reopened
        assert (tmp_path / "counter").read_text() == "2\n"
    with open_spool(tmp_path) as spool:
        assert seal(spool, b"d").name.startswith("000000000003-")


def test_a_file_that_is_not_what_its_name_says_is_set_aside(tmp_path):
    with open_spool(tmp_path) as spool:
        seal(spool, b"a")
    stray = tmp_path / "clips" / f"{2:012d}-{'0' * 16}.mcap"
    stray.write_bytes(b"not what was sealed")
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.tombstoned == [2]
        assert [partial.path.name for partial in spool.partial()] == [f"damaged-{stray.name}"]
        assert not stray.exists()
        assert spool.counts().is_gapless


def test_two_files_with_one_number_stop_the_start(tmp_path):
    with open_spool(tmp_path) as spool:
        path = seal(spool, b"a")
    path.with_name(f"{1:012d}-{'f' * 16}.mcap").write_bytes(b"b")
    with pytest.raises(SpoolError, match="claim the same number"):
        open_spool(tmp_path)


def test_a_ledger_of_newer_software_is_left_alone(tmp_path):
    open_spool(tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SpoolError, match="schema 99"):
        open_spool(tmp_path)


def test_a_seal_cut_short_before_its_rename_is_completed_not_lost(tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with open_spool(tmp_path) as spool:
        monkeypatch.setattr("runtime.spool.sealing.rename_durably", killed)
        draft = spool.begin(10, Priority.HIGH)
        draft.path.write_bytes(b"durable")
        with pytest.raises(KeyboardInterrupt):
            spool.seal(draft, {"clip_id": "cut short"})
        monkeypatch.undo()
        draft.release()  # as the kernel does when a process dies
        assert (tmp_path / "counter").read_text() == "1\n"
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.completed == [1]
        clip = spool.clip(1)
        assert (clip.priority, clip.metadata, clip.path.read_bytes()) == (
            Priority.HIGH,
            {"clip_id": "cut short"},
            b"durable",
        )
        assert spool.last_recovery.tombstoned == []


def test_rows_lost_with_the_write_ahead_log_leave_their_numbers_as_tombstones(tmp_path):
    spool = open_spool(tmp_path)
    spool.close()
    saved = (tmp_path / "ledger.sqlite").read_bytes()
    spool = open_spool(tmp_path)
    for content in (b"a", b"b", b"c"):
        seal(spool, content)
    spool.mark_delivered(3)
    spool.mark_delivered(2)
    spool.close()
    (tmp_path / "ledger.sqlite").write_bytes(saved)
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.adopted == [1]
        assert spool.last_recovery.tombstoned == [2, 3]
        assert seal(spool, b"d").name.startswith("000000000004-"), "the counter never goes back"


def test_a_ledger_lost_late_in_a_long_life_counts_what_it_cannot_name(tmp_path):
    with open_spool(tmp_path) as spool:
        seal(spool, b"a")
    for part in tmp_path.glob("ledger.sqlite*"):
        part.unlink()
    (tmp_path / "counter").write_text("1000000\n")
    next((tmp_path / "clips").iterdir()).unlink()
    with open_spool(tmp_path) as spool:
        counts = spool.counts()
        assert (counts.sealed, counts.tombstoned) == (1_000_000, 1_000_000)
        assert counts.ledger_bytes < 2 << 20
        assert seal(spool, b"b").name.startswith("000001000001-")


def test_a_file_from_another_spool_stops_the_start_instead_of_a_million_tombstones(tmp_path):
    with open_spool(tmp_path) as spool:
        seal(spool, b"a")
    digest = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "clips" / f"{10**9:012d}-{digest[:16]}.mcap").write_bytes(b"x")
    with pytest.raises(SpoolError, match="does not belong to this spool"):
        open_spool(tmp_path)


def test_a_file_under_both_names_of_a_torn_rename_is_one_clip(tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with open_spool(tmp_path) as spool:
        monkeypatch.setattr("runtime.spool.sealing.insert_clip", killed)
        with pytest.raises(KeyboardInterrupt):
            seal(spool, b"once")
        monkeypatch.undo()
    (sealed,) = (tmp_path / "clips").iterdir()
    os.link(sealed, tmp_path / "partial" / "draft-000000000001.mcap")
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.adopted == [1]
        assert spool.partial() == []
        assert spool.counts().bytes_used == BLOCK_BYTES


def test_leftovers_of_cut_writes_are_cleared(tmp_path):
    open_spool(tmp_path).close()
    leftovers = [tmp_path / ".counter.12345.new", tmp_path / "ledger.fresh"]
    for leftover in leftovers:
        leftover.write_bytes(b"x")
    open_spool(tmp_path).close()
    assert not any(leftover.exists() for leftover in leftovers)


def test_only_the_last_damaged_ledger_is_kept_and_it_counts_against_the_quota(tmp_path):
    for _ in range(3):
        open_spool(tmp_path).close()
        (tmp_path / "ledger.sqlite").write_bytes(os.urandom(1 << 20))
    with open_spool(tmp_path) as spool:
        assert len(list(tmp_path.glob("ledger.corrupt-*"))) == 1
        assert spool.counts().ledger_bytes > 1 << 20


def test_a_partial_clip_is_known_by_what_begin_was_told_and_cannot_be_sealed_in_place(tmp_path):
    with open_spool(tmp_path) as spool:
        draft = spool.begin(100, Priority.HIGH, metadata={"clip_id": "half"})
        with spool.write_into(draft) as stream:
            stream.write(b"half")
            stream.sync()
        draft.release()
    with open_spool(tmp_path) as spool:
        (partial,) = spool.partial()
        assert partial.metadata == {"clip_id": "half"}
        assert partial.path.read_bytes().startswith(b"half")
        resumed = spool.resume(partial)
        with pytest.raises(ValueError, match="copy what is readable"):
            spool.seal(resumed, {})
        spool.discard(resumed)


NEWER_COLUMNS = {
    "clips": ["expires_wall_ns", "sealed_boot_id", "sealed_ns", "clip_id"],
    "drafts": ["boot_id", "begun_ns", "as_old_as_boot_id", "as_old_as_ns", "as_old_as_wall_ns"],
}


def test_a_ledger_of_the_first_version_is_brought_up_to_date(tmp_path):
    with open_spool(tmp_path) as spool:
        seal(spool, b"a", rule="old", clip_id="of old")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("DROP INDEX clips_by_id")
        for table, columns in NEWER_COLUMNS.items():
            for column in columns:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with open_spool(tmp_path) as spool:
        assert spool.find("of old") == spool.clip(1)
        assert spool.clip(1).metadata == {"rule": "old", "clip_id": "of old"}
        seal(spool, b"b", expires_wall_ns=1)
        assert spool.expire() == [2]
