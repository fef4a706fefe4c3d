"""A storm of clips on a spool that is far too small for them, and what `du` says of its folder after each step.

Clips of random size and priority are begun, written as the recorder writes them, sealed, some delivered; recorders die
with a draft, clips outgrow what they reserved, some have to shrink. The folder is looked at after every draft that was
begun, after its room was taken, and after every seal: whole blocks (`st_blocks`) of every file in it, the ledger, its
write-ahead log and the lock included, and what recorder and uploader leave there beside the spool. Seeded.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from runtime.formats.pull_files import PullAnswer, PullFolder, PullRequest
from runtime.formats.selection_file import SELECTION_FILE
from runtime.messages import Priority
from runtime.spool import ClipDraft, ClipShape, QuotaExceededError, ShrinkRequiredError, Spool

#: Attempts for one admission, refusals included, before something is wrong with the storm.
MOST_ATTEMPTS = 50
LARGEST_COPY_BYTES = 200_000


def occupied(directory: Path) -> int:
    """What du says. A file may go while we look: another name of the same walk has its bytes, or nobody."""
    total = 0
    for at, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(Path(at) / name).st_blocks * 512
            except FileNotFoundError:  # SQLite's own side files come and go
                continue
    return total


class AdmissionStorm:
    """Random clips of all priorities; deliveries, deaths, outgrown reservations."""

    def __init__(
        self,
        directory: Path,
        quota_bytes: int,
        reserve_bytes: int,
        draw_bytes: Callable[[random.Random], int],
        seed: int = 7,
    ) -> None:
        self.random = random.Random(seed)
        self.directory = directory
        self.quota_bytes = quota_bytes
        self._reserve_bytes = reserve_bytes
        self._draw_bytes = draw_bytes
        self.spool = self.open()
        self._pulls = PullFolder(directory)
        self.pulled = 0
        self.admitted = self.refused = self.shrunk = self.outgrown = self.died = 0
        self.looks = self.times_over = self.highest_bytes = 0
        self.admission_s: list[float] = []

    def open(self) -> Spool:
        """The spool as a new start finds it."""
        return Spool.open(self.directory, self.quota_bytes, ledger_reserve_bytes=self._reserve_bytes)

    def rage(self, admissions: int) -> None:
        """Go on until so many drafts were admitted; what was refused does not count."""
        attempts = 0
        while self.admitted < admissions:
            self.round()
            attempts += 1
            assert attempts < MOST_ATTEMPTS * admissions, f"only {self.admitted} of {attempts} clips were admitted"

    def round(self) -> None:
        """One clip, from its request to what becomes of it."""
        if self.random.random() < 0.3:
            self._pull()
            self._copy_budgets()
        priority = self.random.choice(list(Priority))
        draft = self._admit(self._draw_bytes(self.random), priority, ClipShape(("front", "rear", "left"), 30.0))
        if draft is None:
            return
        self.admitted += 1
        self._look()
        if self.random.random() < 0.02:  # the recorder dies
            self.died += 1
            draft.release()
            self.spool.recover()
        elif self._write(draft, 1.4 if self.random.random() < 0.05 else 1.0):
            clip = self.spool.seal(draft, {"clip_id": f"clip-{self.random.random()}", "notes": "x" * 2000})
            self._look()
            if self.random.random() < 0.3:
                self._deliver(clip.n)

    def _pull(self) -> None:
        """The uploader leaves a request, the recorder its answer, and the receiver has it."""
        self.pulled += 1
        request = PullRequest(f"pull-{self.pulled}", (), 1, 2)
        self._pulls.ask(request)
        self._pulls.answer(PullAnswer(request.id, "refused", "history has nothing of it"))
        self._pulls.mark_reported(request.id)

    def _copy_budgets(self) -> None:
        """As `SelectionCopy` does, looked at while the new copy lies beside the old."""
        draft = self.directory / f".{SELECTION_FILE}.1.new"
        draft.write_bytes(bytes(self.random.randint(1, LARGEST_COPY_BYTES)))
        self._look()
        draft.rename(self.directory / SELECTION_FILE)

    def _deliver(self, n: int) -> None:
        """As the uploader does: the receiver has the clip, and is told which will never come."""
        self.spool.mark_delivered(n)
        for tombstone in self.spool.unreported_tombstones():
            self.spool.mark_tombstone_reported(tombstone.n)

    def _write(self, draft: ClipDraft, factor: float) -> bool:
        try:
            with self.spool.write_into(draft) as stream:
                self._look()
                for _ in range(4):
                    stream.write(bytes(int(draft.reserved_bytes * factor) // 4 + 1))
        except QuotaExceededError:
            self.outgrown += 1
            self._look()
            self.spool.discard(draft)
            return False
        return True

    def _admit(self, size: int, priority: Priority, shape: ClipShape) -> ClipDraft | None:
        for _ in range(8):
            began_s = time.perf_counter()
            try:
                draft = self.spool.begin(max(1, size), priority, shape)
            except ShrinkRequiredError as limit:
                self.shrunk += 1
                share = len(limit.shape.cameras) * limit.shape.seconds / (len(shape.cameras) * shape.seconds)
                size, shape = int(size * share), limit.shape
            except QuotaExceededError:
                self.refused += 1
                return None
            else:
                self.admission_s.append(time.perf_counter() - began_s)
                return draft
        raise AssertionError("shrinking never ends")

    def _look(self) -> None:
        held = occupied(self.directory)
        self.looks += 1
        self.times_over += held > self.quota_bytes
        self.highest_bytes = max(self.highest_bytes, held)
