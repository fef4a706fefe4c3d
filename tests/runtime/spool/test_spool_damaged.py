"""Damaged clips are kept to be looked at, partial ones that may not be sealed get a tombstone; killed anywhere."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from runtime.formats.durable_files import write_durably
from runtime.messages import Priority
from runtime.spool import ClipState, LedgerError, Spool, UnknownClipError, folder
from runtime.spool.clips import BLOCK_BYTES, occupied_bytes
from runtime.spool.ledger import Ledger
from runtime.spool.sealing import condemn, counter_taken_back

RESERVE_BYTES = 5 << 20
QUOTA_BYTES = RESERVE_BYTES + 20 * BLOCK_BYTES
REASON = "damaged on the vehicle: its hash is another"


def open_spool(directory: Path, quota_bytes: int = QUOTA_BYTES) -> Spool:
    return Spool.open(directory, quota_bytes, ledger_reserve_bytes=RESERVE_BYTES)


@pytest.fixture
def spool(tmp_path):
    with open_spool(tmp_path) as opened:
        yield opened


def seal(spool: Spool, content: bytes = b"sealed", priority: Priority = Priority.NORMAL) -> int:
    draft = spool.begin(len(content), priority)
    draft.path.write_bytes(content)
    return spool.seal(draft, {}).n


def half(spool: Spool, clip_id: str = "half") -> None:
    """Left behind by a writer that died: partial after the next recovery."""
    draft = spool.begin(100, Priority.HIGH, metadata={"clip_id": clip_id})
    draft.path.write_bytes(b"half of it")
    draft.release()
    spool.recover()


def in_partial(spool: Spool) -> set[str]:
    return {path.name for path in spool.folder.partial.iterdir()}


# -- damaged clips ---------------------------------------------------------------------------------------------------


def test_a_damaged_clip_is_set_aside_under_a_tombstone_and_still_counted(spool):
    n = seal(spool)
    before = spool.counts().bytes_used
    name = spool.clip(n).path.name
    assert spool.set_damaged_aside(n, REASON)
    clip = spool.clip(n)
    assert (clip.state, clip.reason, clip.path.exists()) == (ClipState.TOMBSTONED, REASON, False)
    assert [tombstone.n for tombstone in spool.unreported_tombstones()] == [n]
    (aside,) = spool.partial()
    assert (aside.path.name, aside.path.read_bytes()) == (f"damaged-{name}", b"sealed")
    assert REASON in aside.metadata["set_aside"]
    assert spool.counts().bytes_used == before
    assert not spool.set_damaged_aside(n, "again"), "settled already"


def test_a_clip_whose_file_is_gone_gets_its_tombstone_all_the_same(spool):
    n = seal(spool)
    spool.clip(n).path.unlink()
    assert spool.set_damaged_aside(n, REASON)
    assert (spool.clip(n).reason, in_partial(spool), spool.counts().bytes_used) == (REASON, set(), 0)
    with pytest.raises(UnknownClipError):
        spool.set_damaged_aside(9, REASON)


def test_what_is_set_aside_is_bounded_in_files_and_in_bytes(tmp_path, monkeypatch):
    with open_spool(tmp_path) as spool:
        monkeypatch.setattr(folder, "MAX_EVIDENCE", 2)
        numbers = [seal(spool) for _ in range(3)]
        names = [f"damaged-{spool.clip(n).path.name}" for n in numbers]
        for n in numbers:
            spool.set_damaged_aside(n, REASON)
        assert in_partial(spool) == set(names[1:]), "the oldest went"
    with open_spool(tmp_path, RESERVE_BYTES + 8 * BLOCK_BYTES) as spool:
        monkeypatch.setattr(folder, "EVIDENCE_SHARE", spool.quota_bytes // BLOCK_BYTES)
        n = seal(spool, bytes(100))
        spool.set_damaged_aside(n, REASON)
        assert in_partial(spool) == {f"damaged-{spool.clip(n).path.name}"}
        assert any("to be looked at" in alarm.text for alarm in spool.alarms())
        assert spool.counts().bytes_used == BLOCK_BYTES


def test_what_is_set_aside_goes_before_a_partial_clip_and_any_sealed_one(tmp_path):
    with open_spool(tmp_path, RESERVE_BYTES + 8 * BLOCK_BYTES) as spool:
        half(spool)
        n = seal(spool)
        waiting = seal(spool, priority=Priority.BACKGROUND)
        spool.set_damaged_aside(n, REASON)
        seal(spool, bytes(6 * BLOCK_BYTES))
        assert [partial.metadata.get("clip_id") for partial in spool.partial()] == ["half"]
        assert spool.clip(waiting).state is ClipState.PENDING


def test_killed_after_the_move_and_before_the_row_start_up_writes_the_tombstone(tmp_path):
    with open_spool(tmp_path) as spool:
        n = seal(spool)
        path = spool.clip(n).path
    path.rename(tmp_path / "partial" / f"damaged-{path.name}")
    with open_spool(tmp_path) as spool:
        assert spool.clip(n).reason == f"the file was found damaged, and kept as damaged-{path.name}"
        assert [partial.path.name for partial in spool.partial()] == [f"damaged-{path.name}"]
        assert spool.counts().is_gapless
        assert spool.counts().bytes_used == BLOCK_BYTES


def test_a_move_that_fails_is_taken_back_and_the_clip_still_pends(spool, monkeypatch):
    n = seal(spool)
    renamed = folder.rename_durably

    def failing(source, target):
        renamed(source, target)
        monkeypatch.undo()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(folder, "rename_durably", failing)
    with pytest.raises(OSError, match="Input/output"):
        spool.set_damaged_aside(n, REASON)
    assert spool.clip(n).state is ClipState.PENDING
    assert spool.clip(n).path.read_bytes() == b"sealed"
    assert in_partial(spool) == set()


def test_a_damaged_clip_that_a_power_cut_left_under_both_names_has_one_afterwards(spool):
    n = seal(spool)
    path = spool.clip(n).path
    os.link(path, spool.folder.partial / f"damaged-{path.name}")
    spool.set_damaged_aside(n, REASON)
    assert not path.exists()
    assert in_partial(spool) == {f"damaged-{path.name}"}
    assert spool.counts().bytes_used == BLOCK_BYTES


# -- partial clips that may not be sealed ----------------------------------------------------------------------------


def check_buried(spool: Spool, n: int) -> None:
    clip = spool.clip(n)
    assert (clip.state, clip.reason, clip.priority) == (ClipState.TOMBSTONED, "may not be", Priority.HIGH)
    assert clip.metadata == {"clip_id": "half"}
    assert spool.knows_clip("half")
    assert in_partial(spool) == set()
    counts = spool.counts()
    assert counts.is_gapless
    assert (counts.sealed, counts.partial, counts.bytes_used) == (n, 0, 0)
    assert spool.folder.highest_counted() == n
    assert seal(spool) == n + 1


def test_a_partial_clip_that_may_not_be_sealed_is_entombed_under_a_number(spool):
    half(spool)
    (partial,) = spool.partial()
    check_buried(spool, spool.entomb_partial(partial, "may not be"))
    with pytest.raises(UnknownClipError):
        spool.entomb_partial(partial, "twice")


@pytest.mark.parametrize("step", ["condemned", "counted", "removed"])
def test_killed_while_it_entombs_a_partial_clip_start_up_finishes_under_the_same_number(tmp_path, step):
    with open_spool(tmp_path) as spool:
        half(spool)
        (partial,) = spool.partial()
        with spool._ledger.transaction() as connection:
            condemn(connection, partial, "may not be")
        if step != "condemned":
            write_durably(spool.folder.counter, b"1\n")
        if step == "removed":
            partial.path.unlink()
    with open_spool(tmp_path) as spool:
        assert spool.last_recovery.tombstoned == [1]
        check_buried(spool, 1)


def test_another_process_that_opens_the_spool_leaves_a_burial_to_whoever_began_it(tmp_path, monkeypatch):
    with open_spool(tmp_path) as spool:
        half(spool)
        (partial,) = spool.partial()
        real = counter_taken_back

        def between(folder, n):
            with open_spool(tmp_path) as other:
                assert other.last_recovery.tombstoned == []
            return real(folder, n)

        monkeypatch.setattr("runtime.spool.spool.counter_taken_back", between)
        check_buried(spool, spool.entomb_partial(partial, "may not be"))


def test_a_draft_of_which_only_the_folders_sync_failed_charges_nothing(spool, monkeypatch):
    draft = spool.begin(BLOCK_BYTES)

    def failing(directory):
        raise OSError(errno.EIO, "it failed")

    with monkeypatch.context() as patched:
        patched.setattr("runtime.formats.durable_files.sync_directory", failing)
        with pytest.raises(OSError, match="it failed"):
            spool.discard(draft)
    n = seal(spool)
    assert spool.counts().bytes_used == occupied_bytes(spool.clip(n).size_bytes)


def test_a_burial_that_fails_takes_its_number_back_and_the_next_start_finishes_it(tmp_path, monkeypatch):
    with open_spool(tmp_path) as spool:
        half(spool)

        def failing(path):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("runtime.spool.sealing.remove_durably", failing)
        with pytest.raises(OSError, match="Input/output"):
            spool.entomb_partial(spool.partial()[0], "may not be")
        monkeypatch.undo()
        assert not spool.must_be_reopened
        assert (spool.counts().sealed, spool.folder.highest_counted()) == (0, 0)
    with open_spool(tmp_path) as spool:
        check_buried(spool, 1)


# -- what else start-up and sealing owe to a ledger --------------------------------------------------------------------


def test_a_clip_that_is_sealed_stays_sealed_when_tidying_the_ledger_fails(spool, monkeypatch):
    def failing(*arguments):
        raise LedgerError("database or disk is full")

    monkeypatch.setattr("runtime.spool.spool.fold_settled", failing)
    spool._seals_until_tidy = 1
    n = seal(spool)
    assert spool.clip(n).state is ClipState.PENDING
    assert spool.tidying_failures == 1


def test_a_counter_that_was_lost_is_written_anew_before_the_ledger_is_lost_too(tmp_path):
    with open_spool(tmp_path) as spool:
        for _ in range(3):
            spool.mark_delivered(seal(spool))
    (tmp_path / "counter").unlink()
    open_spool(tmp_path).close()
    for part in tmp_path.glob("ledger.sqlite*"):
        part.unlink()
    with open_spool(tmp_path) as spool:
        assert seal(spool) == 4


@pytest.mark.parametrize("is_settled", [True, False], ids=["of a settled number", "of another clip's number"])
def test_a_file_that_claims_a_number_which_is_not_its_own_is_set_aside_and_counted(tmp_path, is_settled):
    with open_spool(tmp_path) as spool:
        n = seal(spool)
        path = spool.clip(n).path
        if is_settled:
            spool.mark_delivered(n)
        else:
            path.unlink()
    stranger = path if is_settled else path.with_name(f"{n:012d}-{'0' * 16}.mcap")
    stranger.write_bytes(b"put back")
    with open_spool(tmp_path) as spool:
        assert spool.clip(n).state is (ClipState.DELIVERED if is_settled else ClipState.TOMBSTONED)
        assert in_partial(spool) == {f"stray-{stranger.name}"}
        assert list(spool.folder.clips.iterdir()) == []
        assert spool.counts().bytes_used == BLOCK_BYTES


def test_a_draft_whose_row_cannot_be_written_leaves_no_file_and_no_lock(spool, monkeypatch):
    def failing(ledger):
        ledger.connection.execute("BEGIN IMMEDIATE")
        yield ledger.connection
        ledger.connection.execute("ROLLBACK")  # as SQLite does when it cannot commit
        raise sqlite3.OperationalError("database or disk is full")

    descriptors = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(Ledger, "_transact", failing)
    with pytest.raises(LedgerError, match="full"):
        spool.begin(100)
    monkeypatch.undo()
    assert in_partial(spool) == set()
    assert len(os.listdir("/proc/self/fd")) == descriptors
