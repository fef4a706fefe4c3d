"""What the power-cut tests record: `python power_cut_process.py ACTION FOLDER ARGUMENT...`.

Runs under `power_cut_log.c`. Each step is noted in the log before it begins and after it is done, with what it did, so
that whoever looks at a crash state knows which promises had been made by then.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.clock import ManualClock
from runtime.messages import Priority
from runtime.spool import Spool, SpooledClip
from runtime.spool.clips import is_evidence
from runtime.uplink.catalogue import ClipKey, PartialRow
from runtime.uplink.store import ClipStore, StoreLimits

CLIP_BLOCKS = 6
QUOTA_BYTES = (8 << 20) + CLIP_BLOCKS * 4096
WALL_NS = 1_700_000_000 * 1_000_000_000
VEHICLE = "car-1"
SIZES = (3000, 1, 9000, 700)


def content_of(number: int, size: int) -> bytes:
    """The same bytes for the same clip, in the process that writes and in the test that checks."""
    return random.Random(number).randbytes(size)


def mark(phase: str, step: str, **facts: Any) -> None:
    """A note in the operation log."""
    note = json.dumps({"phase": phase, "step": step, **facts})
    ctypes.CDLL(None).operation_log_mark(note.encode())


def noted(step: str, action: Callable[[], dict[str, Any]]) -> None:
    """Do one step between two notes."""
    mark("begin", step)
    mark("end", step, **action())


class SpoolSteps:
    """A recorder and an uploader in turn, on a spool that is too small."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock(wall_offset_ns=WALL_NS)
        self.spool = self.open()
        self.written = 0

    def open(self) -> Spool:
        return Spool.open(self.directory, QUOTA_BYTES, clock=self.clock)

    def states(self) -> dict[int, str]:
        last = self.spool.counts().sealed
        return {n: self.spool.clip(n).state.value for n in range(1, last + 1)}

    def step(self, name: str, action: Callable[[], SpooledClip | None]) -> None:
        def act() -> dict[str, Any]:
            clip = action()
            sealed = {"sealed": clip.n, "sha256": clip.sha256, "metadata": dict(clip.metadata)} if clip else {}
            return {"states": self.states(), **sealed}

        noted(name, act)

    def seal(self, size: int, priority: Priority) -> SpooledClip:
        self.written += 1
        content = content_of(self.written, size)
        draft = self.spool.begin(size, priority, metadata={"clip_id": f"clip-{self.written}"})
        with self.spool.write_into(draft) as stream:
            for at in range(0, size, 2048):
                self.clock.advance_to(self.clock.now_ns() + 700_000_000)
                stream.write(content[at : at + 2048])
                mark(
                    "synced", "write", draft=draft.path.name, written=self.written, size=size, bytes=stream.synced_bytes
                )
            return self.spool.seal(draft, {"clip_id": f"clip-{self.written}"})

    def discard(self) -> None:
        draft = self.spool.begin(5000, Priority.NORMAL)
        draft.path.write_bytes(bytes(5000))
        self.spool.discard(draft)

    def abandon(self) -> None:
        draft = self.spool.begin(2000, Priority.LOW)
        draft.path.write_bytes(bytes(2000))
        draft.release()
        self.reopen()

    def bury(self) -> None:
        (draft,) = [partial for partial in self.spool.partial() if not is_evidence(partial.path.name)]
        self.spool.entomb_partial(draft, "may not be sealed")

    def reopen(self) -> None:
        self.spool.close()
        self.spool = self.open()

    def run(self) -> None:
        mark("begin", "open")
        mark("end", "open", states={})
        for number, priority in enumerate((Priority.NORMAL, Priority.SAFETY, Priority.LOW)):
            self.step("seal", lambda n=number, p=priority: self.seal(SIZES[n], p))
        self.step("deliver", lambda: self.spool.mark_delivered(1) and None)
        self.step("discard", self.discard)
        self.step("evict and seal", lambda: self.seal(9000, Priority.HIGH))
        self.step("abandon", self.abandon)
        self.step("evict a partial and seal", lambda: self.seal(8000, Priority.SAFETY))
        self.step("tombstone", lambda: self.spool.tombstone(2, "because") and None)
        self.step("seal", lambda: self.seal(700, Priority.BACKGROUND))
        self.step("deliver", lambda: self.spool.mark_delivered(5) and None)
        self.step("reopen", self.reopen)
        self.step("seal", lambda: self.seal(4097, Priority.NORMAL))
        self.step("set aside", lambda: self.spool.set_damaged_aside(7, "damaged") and None)
        self.step("abandon", self.abandon)
        self.step("bury", self.bury)
        self.step("evict what was set aside and seal", lambda: self.seal(13_000, Priority.SAFETY))
        self.spool.close()


def offered(n: int) -> tuple[PartialRow, bytes]:
    """Clip `n` as a vehicle offers it."""
    content = content_of(n, SIZES[n % len(SIZES)])
    key = ClipKey(VEHICLE, n, hashlib.sha256(content).hexdigest())
    return PartialRow(key, len(content), "normal", json.dumps({"clip_id": n}), (), None), content


class ReceiverSteps:
    """A receiver to which one vehicle sends: in pieces, interleaved, and some of it never completed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = open_store(directory)
        self.durable: dict[int, list[tuple[int, int]]] = {}
        self.done: list[int] = []
        self.entombed: list[int] = []

    def step(self, name: str, action: Callable[[], object]) -> None:
        def act() -> dict[str, Any]:
            action()
            return {"durable": dict(self.durable), "done": list(self.done), "entombed": list(self.entombed)}

        noted(name, act)

    def chunk(self, n: int, start: int, end: int) -> None:
        row, content = offered(n)
        self.store.offer(row, WALL_NS)
        self.store.write(row.key, start, content[start:end], WALL_NS)

    def flush(self) -> None:
        for key, ranges in self.store.flush(WALL_NS)[0]:
            self.durable[key.n] = list(ranges)

    def commit(self, n: int) -> None:
        assert self.store.commit(offered(n)[0].key, WALL_NS)
        self.durable.pop(n)
        self.done.append(n)

    def entomb(self, n: int) -> None:
        self.store.entomb(VEHICLE, n, "because", WALL_NS)
        self.durable.pop(n, None)
        self.entombed.append(n)

    def run(self) -> None:
        mark("begin", "open")
        mark("end", "open", durable={}, done=[], entombed=[])
        for n in (1, 2, 3):
            size = offered(n)[0].size_bytes
            self.step(f"first half of {n}", lambda n=n, size=size: self.chunk(n, 0, size // 2 + 1))
        self.step("flush", self.flush)
        self.step("rest of 1", lambda: self.chunk(1, 0, offered(1)[0].size_bytes))
        self.step("rest of 2", lambda: self.chunk(2, 4000, offered(2)[0].size_bytes))
        self.step("flush", self.flush)
        for n in (1, 2):
            self.step(f"commit {n}", lambda n=n: self.commit(n))
        self.step("entomb 3", lambda: self.entomb(3))
        self.step("all of 4", lambda: self.chunk(4, 0, offered(4)[0].size_bytes))
        self.step("flush", self.flush)
        self.step("commit 4", lambda: self.commit(4))
        self.store.close()


def open_store(directory: Path) -> ClipStore:
    """The store as the receiver opens it at its start."""
    store = ClipStore(directory, StoreLimits())
    store.recover(WALL_NS)
    return store


def recover_spool(directory: Path) -> None:
    """One start of the recorder and a clean stop."""
    Spool.open(directory, QUOTA_BYTES, clock=ManualClock(wall_offset_ns=WALL_NS)).close()


def seal_while_syncs_fail(directory: Path, part_of_path: str) -> None:
    """Seal, seal while the next sync of some path fails, seal again, start anew, seal."""
    steps = SpoolSteps(directory)
    steps.step("seal", lambda: steps.seal(3000, Priority.NORMAL))
    steps.step("deliver", lambda: steps.spool.mark_delivered(1) and None)
    ctypes.CDLL(None).operation_log_fail(part_of_path.encode(), 1)
    try:
        mark("failed", "seal", sealed=steps.seal(3001, Priority.NORMAL).n)
    except OSError as error:
        mark("failed", "seal", error=f"{type(error).__name__}: {error}")
    if not steps.spool.must_be_reopened:
        steps.step("seal", lambda: steps.seal(3002, Priority.NORMAL))
    steps.reopen()
    steps.step("seal", lambda: steps.seal(3003, Priority.NORMAL))
    steps.spool.close()


if __name__ == "__main__":
    actions: dict[str, Callable[..., object]] = {
        "failing-sync": seal_while_syncs_fail,
        "moving-ledger": lambda folder: seal_while_syncs_fail(folder, "ledger.sqlite-wal"),
        "spool": lambda folder: SpoolSteps(folder).run(),
        "receiver": lambda folder: ReceiverSteps(folder).run(),
        "recover-spool": recover_spool,
        "recover-moving-ledger": recover_spool,
        "recover-receiver": lambda folder: open_store(folder).close(),
    }
    actions[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
