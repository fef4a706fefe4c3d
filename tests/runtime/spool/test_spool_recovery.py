"""Start-up after every way to die: folder and ledger agree again, and every number is accounted for."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from runtime.messages import Priority
from runtime.spool import ClipState, RecoveryReport, SealError, Spool, SpoolError
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
        with pytest.raises(SealError, match="call recover"):
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
        assert any("disappeared" in alarm for alarm in spool.alarms())


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
