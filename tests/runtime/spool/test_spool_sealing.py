"""Sealing, delivering and entombing: what becomes of one clip."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.messages import Priority
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.spool import ClipDraft, ClipState, SealError, Spool, SpooledClip, UnknownClipError
from runtime.spool.accounts import insert_clip
from runtime.spool.deliveries import FIND

QUOTA_BYTES = 64 << 20


@pytest.fixture
def spool(tmp_path: Path):
    with Spool.open(tmp_path / "spool", QUOTA_BYTES, clock=ManualClock(wall_offset_ns=7)) as opened:
        yield opened


def seal(spool: Spool, content: bytes = b"clip", priority: Priority = Priority.NORMAL, **metadata) -> SpooledClip:
    draft = spool.begin(len(content), priority)
    draft.path.write_bytes(content)
    return spool.seal(draft, metadata)


def test_a_sealed_clip_is_named_by_number_and_hash(spool):
    clip = seal(spool, b"frames", rule="takeover")
    digest = hashlib.sha256(b"frames").hexdigest()
    assert clip.path.name == f"000000000001-{digest[:16]}.mcap"
    assert clip.path.read_bytes() == b"frames"
    assert (clip.sha256, clip.size_bytes, clip.sealed_wall_ns) == (digest, 6, 7)
    assert spool.clip(1) == clip
    assert spool.clip(1).metadata == {"rule": "takeover"}


def test_numbers_have_no_gaps_and_survive_reopening(tmp_path):
    for n in range(1, 4):
        with Spool.open(tmp_path, QUOTA_BYTES) as spool:
            assert seal(spool, os.urandom(8)).n == n


def test_the_most_urgent_clip_is_delivered_first_and_the_oldest_of_its_class(spool):
    for priority in (Priority.LOW, Priority.NORMAL, Priority.SAFETY, Priority.NORMAL):
        seal(spool, os.urandom(4), priority)
    assert [clip.n for clip in spool.pending()] == [3, 2, 4, 1]
    assert [clip.n for clip in spool.pending(limit=2)] == [3, 2]
    assert [clip.n for clip in spool.pending(limit=2, without={3, 2})] == [4, 1]
    assert spool.pending(without=range(10_000)) == []


def test_a_delivered_clip_leaves_the_disk_and_stays_in_the_ledger(spool):
    clip = seal(spool)
    assert spool.mark_delivered(clip.n)
    assert not clip.path.exists()
    assert not spool.mark_delivered(clip.n), "a second DONE changes nothing"
    assert spool.clip(clip.n).state is ClipState.DELIVERED
    counts = spool.counts()
    assert (counts.sealed, counts.delivered, counts.pending, counts.bytes_used) == (1, 1, 0, 0)


def test_a_tombstone_keeps_its_reason_until_the_receiver_knows(spool):
    clip = seal(spool)
    assert spool.tombstone(clip.n, "exclusion zone")
    assert not clip.path.exists()
    assert [(t.n, t.reason) for t in spool.unreported_tombstones()] == [(1, "exclusion zone")]
    spool.mark_tombstone_reported(1)
    assert spool.unreported_tombstones() == []
    assert "clip 1: exclusion zone" in [alarm.text for alarm in spool.alarms()]


def test_a_clip_is_found_by_its_id_whatever_became_of_it_and_the_newest_of_two(spool):
    seal(spool, b"a", clip_id="twice")
    for content in (b"b", b"c"):
        seal(spool, content)
    last = seal(spool, b"d", clip_id="twice")
    assert spool.find("twice") == last
    assert (spool.find("never"), spool.knows_clip("never")) == (None, False)
    spool.mark_delivered(last.n)
    found = spool.find("twice")
    assert found is not None
    assert (found.n, found.state) == (last.n, ClipState.DELIVERED)


def test_looking_for_a_clip_does_not_scan_the_ledger(spool):
    connection = sqlite3.connect(spool.folder.ledger)
    (plan,) = connection.execute("EXPLAIN QUERY PLAN " + FIND, ("one",)).fetchall()
    connection.close()
    assert "USING INDEX clips_by_id" in plan[3]


def test_all_that_is_pending_is_listed_where_no_limit_is_given(spool):
    with spool._ledger.transaction() as connection:
        for n in range(1, 1502):
            insert_clip(connection, n, Path(f"{n}.mcap"), "", 1, Priority.LOW, "{}", 0)
    assert (len(spool.pending()), len(spool.pending(limit=None))) == (1000, 1501)
    assert len(SpoolClipSink(spool).kept()) == 1501


def test_delivered_is_final_but_a_late_done_beats_a_tombstone(spool):
    first, second = seal(spool, b"a"), seal(spool, b"b")
    spool.mark_delivered(first.n)
    assert not spool.tombstone(first.n, "too late")
    spool.tombstone(second.n, "evicted")
    assert spool.mark_delivered(second.n)
    assert spool.counts().delivered == 2


def test_an_unknown_number_is_an_error(spool):
    with pytest.raises(UnknownClipError, match="number 9"):
        spool.mark_delivered(9)
    with pytest.raises(UnknownClipError):
        spool.tombstone(9, "reason")


def test_metadata_that_cannot_travel_is_refused_and_the_draft_survives(spool):
    draft = spool.begin(10)
    draft.path.write_bytes(b"x")
    with pytest.raises(ValueError, match="metadata is"):
        spool.seal(draft, {"manifest": "m" * 70_000})
    assert spool.seal(draft, {}).n == 1


def test_an_empty_draft_is_not_a_clip(spool):
    draft = spool.begin(10)
    with pytest.raises(ValueError, match="empty"):
        spool.seal(draft, {})
    spool.discard(draft)
    assert not draft.path.exists()
    assert spool.counts().bytes_used == 0


def test_a_failed_fsync_gives_no_number_and_keeps_the_draft_as_partial(spool, monkeypatch):
    draft = spool.begin(10)
    draft.path.write_bytes(b"frames")

    def failing(draft: ClipDraft) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("runtime.spool.spool.sync_draft", failing)
    with pytest.raises(SealError, match="Input/output error"):
        spool.seal(draft, {})
    monkeypatch.undo()
    assert spool.counts().sealed == 0
    assert [partial.path for partial in spool.recover() and spool.partial()] == [draft.path]
    assert seal(spool, b"again").n == 1


def test_old_settled_rows_become_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.spool.spool.KEEP_SETTLED_ROWS", 2)
    with Spool.open(tmp_path, QUOTA_BYTES) as spool:
        for n in range(1, 7):
            seal(spool, os.urandom(4))
            if n != 5:
                spool.mark_delivered(n)
        spool.recover()
        with pytest.raises(UnknownClipError):
            spool.clip(4)
        counts = spool.counts()
        assert (counts.sealed, counts.delivered, counts.pending) == (6, 5, 1)
        assert counts.is_gapless
        assert seal(spool).n == 7
