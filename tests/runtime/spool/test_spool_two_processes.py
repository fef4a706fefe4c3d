"""Recorder and uploader on one spool: neither loses what the other commits, whatever happens to the ledger between."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from runtime.messages import Priority
from runtime.spool import ClipState, LedgerError, Spool
from runtime.spool.gate import Gate

QUOTA_BYTES = 64 << 20


def seal(spool: Spool, content: bytes) -> int:
    draft = spool.begin(len(content))
    draft.path.write_bytes(content)
    return spool.seal(draft, {}).n


def test_a_commit_never_falls_into_a_ledger_that_is_being_replaced(tmp_path):
    """Threads with a connection each, as two processes have; one keeps moving the ledger to a fresh file."""
    recorder, uploader = Spool.open(tmp_path, QUOTA_BYTES), Spool.open(tmp_path, QUOTA_BYTES)
    clips = [seal(recorder, os.urandom(8)) for _ in range(10)]
    moved = threading.Event()

    def move() -> None:
        while not moved.is_set():
            recorder._ledger.move_to_fresh_file()

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for n in clips:
            assert uploader.mark_delivered(n)
    finally:
        moved.set()
        mover.join()
    assert recorder.counts().delivered == len(clips)
    assert all(uploader.clip(n).state is ClipState.DELIVERED for n in clips)
    recorder.close()
    uploader.close()
    with Spool.open(tmp_path, QUOTA_BYTES) as reopened:
        assert reopened.counts().delivered == len(clips)
        assert not reopened.last_recovery.ledger_rebuilt


def test_whoever_recovers_is_alone(tmp_path):
    first, second = Gate(tmp_path / "lock"), Gate(tmp_path / "lock")
    entered = threading.Event()

    def enter() -> None:
        with second.shared():
            entered.set()

    with first.exclusive(), first.shared():
        other = threading.Thread(target=enter)
        other.start()
        assert not entered.wait(0.05)
    other.join()
    assert entered.is_set()
    first.close()
    second.close()


def test_a_clip_evicted_while_it_is_read_for_upload_frees_its_room_and_is_counted_once(tmp_path):
    uploader = Spool.open(tmp_path, (8 << 20) + 8192, ledger_reserve_bytes=8 << 20)
    recorder = Spool.open(tmp_path, (8 << 20) + 8192, ledger_reserve_bytes=8 << 20)
    n = seal(recorder, bytes(8000))
    (clip,) = uploader.pending()
    with clip.path.open("rb") as being_sent:
        being_sent.read(4000)
        draft = recorder.begin(8000, Priority.HIGH)
        assert not clip.path.exists()
        assert uploader.clip(n).state is ClipState.TOMBSTONED
    assert not uploader.tombstone(n, "damaged on the vehicle"), "the uploader learns that it is settled already"
    assert [tombstone.n for tombstone in uploader.unreported_tombstones()] == [n]
    draft.path.write_bytes(bytes(8000))
    assert recorder.seal(draft, {}).n == 2
    assert uploader.mark_delivered(n), "a DONE for its last bytes, already on their way, still counts"
    counts = recorder.counts()
    assert (counts.sealed, counts.pending, counts.delivered, counts.tombstoned) == (2, 1, 1, 0)
    recorder.close()
    uploader.close()


def test_what_sqlite_cannot_do_is_an_operating_system_error_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.formats.sqlite_ledger.BUSY_TIMEOUT_S", 0.05)
    with Spool.open(tmp_path, QUOTA_BYTES) as spool:
        n = seal(spool, b"a")
        other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"ledger\.sqlite: database is locked"):
            spool.begin(10)
        with pytest.raises(OSError, match="locked"):
            spool.mark_delivered(n)
        other.execute("ROLLBACK")
        other.close()
        assert list((Path(tmp_path) / "partial").iterdir()) == []
        assert spool.clip(n).state is ClipState.PENDING
        assert spool.begin(10)
