"""The folder, ledger and all, never takes more of the disk than the quota: ten thousand admissions, or a sample."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from admission_storm import AdmissionStorm, occupied

from runtime.formats import pull_files
from runtime.formats.pull_files import MAX_REPORTED
from runtime.formats.selection_file import MAX_COPY_BYTES, SELECTION_FILE
from runtime.spool import ClipState, QuotaExceededError, Spool
from runtime.spool.spool import LEDGER_RESERVE_BYTES

ADMISSIONS = 10_000
SAMPLE = 250
QUOTA_BYTES = LEDGER_RESERVE_BYTES + (5 << 19)
LARGEST_BYTES = 150_000
#: Of pulls, so that ten thousand admissions leave room for clips.
REPORTED = 100


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: this is about counting, and a disk would make it slow."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="admissions-", dir=place) as created:
        yield Path(created)


@pytest.fixture(autouse=True)
def _few_pulls_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_files, "MAX_REPORTED", REPORTED)


def test_the_disk_is_never_over_quota_in_a_storm_of_admissions(folder):
    run_storm(folder, SAMPLE)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
def test_the_disk_is_never_over_quota_in_ten_thousand_admissions(
    folder: Path, sweep_size: Callable[[int], int]
) -> None:
    storm = run_storm(folder, max(SAMPLE, sweep_size(ADMISSIONS)))
    print(f"{storm.admitted} admissions, highest fill {100 * storm.highest_bytes / QUOTA_BYTES:.1f} %")


def draw_bytes(rng: random.Random) -> int:
    return rng.randint(1, LARGEST_BYTES)


def run_storm(folder: Path, admissions: int) -> AdmissionStorm:
    storm = AdmissionStorm(folder, QUOTA_BYTES, LEDGER_RESERVE_BYTES, draw_bytes)
    storm.rage(admissions)
    assert storm.admitted == admissions
    assert storm.looks >= 2 * admissions, "after each begin, and after what became of it"
    assert storm.times_over == 0, f"{storm.highest_bytes} bytes of {QUOTA_BYTES} were taken"
    assert storm.highest_bytes > QUOTA_BYTES - LEDGER_RESERVE_BYTES, "the storm filled nothing"
    assert storm.spool.counts().ledger_bytes <= LEDGER_RESERVE_BYTES
    counts = storm.spool.counts()
    assert counts.is_gapless
    assert counts.sealed == admissions - storm.died - storm.outgrown
    assert counts.evicted > admissions // 4
    assert storm.pulled > admissions // 4
    assert min(storm.refused, storm.shrunk, storm.outgrown, storm.died) > admissions // 400, "the storm was no storm"
    check_by_numbers(storm.spool)
    storm.spool.close()
    with storm.open() as reopened:
        assert reopened.counts().sealed == counts.sealed
        assert occupied(folder) <= QUOTA_BYTES
    return storm


def test_clips_leave_room_for_as_many_small_files_of_others_as_there_may_be(folder, monkeypatch):
    monkeypatch.setattr(pull_files, "MAX_REPORTED", MAX_REPORTED)
    quota_bytes = LEDGER_RESERVE_BYTES + (10 << 20)
    copy = folder / SELECTION_FILE
    reported = folder / "pulls" / "reported"
    reported.mkdir(parents=True)
    for number in range(MAX_REPORTED):
        (reported / f"{number}.json").write_bytes(b"{}")
    copy.write_bytes(bytes(MAX_COPY_BYTES))
    with Spool.open(folder, quota_bytes) as spool:
        admitted = fill_with_drafts(spool)
    copy.with_name(f".{SELECTION_FILE}.1.new").write_bytes(bytes(MAX_COPY_BYTES))
    assert admitted > 10
    assert occupied(folder) <= quota_bytes


def test_a_folder_over_the_quota_does_not_go_unseen(folder):
    storm = AdmissionStorm(folder, QUOTA_BYTES, LEDGER_RESERVE_BYTES, draw_bytes)
    storm.rage(3)
    assert storm.times_over == 0
    (folder / "clips" / "foreign").write_bytes(bytes(QUOTA_BYTES))
    storm.rage(4)
    assert storm.times_over >= 1


def fill_with_drafts(spool: Spool) -> int:
    """How many were admitted and written, until there was no room for one more."""
    for admitted in range(1000):
        try:
            draft = spool.begin(100_000)
        except QuotaExceededError:
            return admitted
        with spool.write_into(draft) as stream:
            stream.write(bytes(100_000))
    raise AssertionError("there is always room")


def check_by_numbers(spool: Spool) -> None:
    """{1..n} = delivered + tombstoned + pending, number by number where rows are kept."""
    counts = spool.counts()
    pending = {clip.n for clip in spool.pending(100_000)}
    files = {int(path.name[:12]) for path in spool.folder.clips.iterdir()}
    assert pending == files
    kept = range(max(1, counts.sealed - 5000), counts.sealed + 1)
    assert {n for n in kept if spool.clip(n).state is ClipState.PENDING} == pending & set(kept)
