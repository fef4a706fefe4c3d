"""The folder, ledger and all, never takes more of the disk than the quota: ten thousand admissions, or a sample."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.messages import Priority
from runtime.spool import ClipDraft, ClipShape, ClipState, QuotaExceededError, ShrinkRequiredError, Spool

ADMISSIONS = 10_000
SAMPLE = 400
MEASURED_EVERY = 10
RESERVE_BYTES = 4 << 20
QUOTA_BYTES = RESERVE_BYTES + (1 << 20)
LARGEST_BYTES = 60_000


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: this is about counting, and a disk would make it slow."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="admissions-", dir=place) as created:
        yield Path(created)


def occupied(directory: Path) -> int:
    """What du says."""
    return sum(os.lstat(Path(at) / name).st_blocks * 512 for at, _, names in os.walk(directory) for name in names)


class Storm:
    """Random clips of all priorities; deliveries, deaths, outgrown reservations. Seeded."""

    def __init__(self, directory: Path) -> None:
        self.random = random.Random(7)
        self.directory = directory
        self.spool = self.open()
        self.shrunk = self.refused = self.outgrown = 0

    def open(self) -> Spool:
        return Spool.open(self.directory, QUOTA_BYTES, ledger_reserve_bytes=RESERVE_BYTES)

    def round(self) -> None:
        priority, size = self.random.choice(list(Priority)), self.random.randint(1, LARGEST_BYTES)
        draft = self.admit(size, priority, ClipShape(("front", "rear", "left"), 30.0))
        if draft is None:
            return
        if self.random.random() < 0.02:  # the recorder dies
            draft.release()
            self.spool.recover()
            return
        factor = 1.4 if self.random.random() < 0.05 else 1.0
        try:
            with self.spool.write_into(draft) as stream:
                for _ in range(4):
                    stream.write(bytes(int(draft.reserved_bytes * factor) // 4 + 1))
        except QuotaExceededError:
            self.outgrown += 1
            self.spool.discard(draft)
            return
        clip = self.spool.seal(draft, {"clip_id": f"clip-{self.random.random()}", "notes": "x" * 2000})
        if self.random.random() < 0.3:
            self.spool.mark_delivered(clip.n)

    def admit(self, size: int, priority: Priority, shape: ClipShape) -> ClipDraft | None:
        for _ in range(8):
            try:
                return self.spool.begin(max(1, size), priority, shape)
            except ShrinkRequiredError as limit:
                self.shrunk += 1
                share = len(limit.shape.cameras) * limit.shape.seconds / (len(shape.cameras) * shape.seconds)
                size, shape = int(size * share), limit.shape
            except QuotaExceededError:
                self.refused += 1
                return None
        raise AssertionError("shrinking never ends")


def test_the_disk_is_never_over_quota_in_a_storm_of_admissions(folder):
    run_storm(folder, SAMPLE)


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_the_disk_is_never_over_quota_in_ten_thousand_admissions(folder):
    run_storm(folder, ADMISSIONS)


def run_storm(folder: Path, admissions: int) -> None:
    storm = Storm(folder)
    for number in range(admissions):
        storm.round()
        if number % MEASURED_EVERY == 0:
            assert occupied(folder) <= QUOTA_BYTES, f"after {number + 1} admissions"
    counts = storm.spool.counts()
    assert counts.is_gapless
    assert counts.sealed > admissions // 4
    assert counts.evicted > admissions // 10
    assert min(storm.refused, storm.shrunk, storm.outgrown) > admissions // 400, "the storm was no storm"
    check_by_numbers(storm.spool)
    storm.spool.close()
    with storm.open() as reopened:
        assert reopened.counts().sealed == counts.sealed
        assert occupied(folder) <= QUOTA_BYTES


def check_by_numbers(spool: Spool) -> None:
    """{1..n} = delivered + tombstoned + pending, number by number where rows are kept."""
    counts = spool.counts()
    pending = {clip.n for clip in spool.pending(100_000)}
    files = {int(path.name[:12]) for path in spool.folder.clips.iterdir()}
    assert pending == files
    kept = range(max(1, counts.sealed - 5000), counts.sealed + 1)
    assert {n for n in kept if spool.clip(n).state is ClipState.PENDING} == pending & set(kept)
