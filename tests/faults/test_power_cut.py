"""Power cuts: from every legal state of the disk, the spool and the receiver keep every promise they had made.

A real process is recorded (`power_cut_log.c`), the states are enumerated (`power_cut_states.py`), each is made real and
opened by the product's own start-up. `make test` takes a fair sample; `make faults` takes every state, and cuts the
power again at every step of the recovery from a sample of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from power_cut_process import CLIP_BLOCKS, QUOTA_BYTES, WALL_NS, content_of, offered, open_store
from power_cut_recording import record
from power_cut_states import CrashState, CrashStates, Operation

from runtime.clock import ManualClock
from runtime.formats.durable_files import sha256_of
from runtime.spool import RecoveryReport, Spool
from runtime.uplink.storage import database
from tests.kept_engines import engine_for

SAMPLE = 80
STOPS = 2


def chosen(states: CrashStates, sample: int | None) -> list[CrashState]:
    """All states, or a seeded sample of them."""
    every = list(states)
    return every if sample is None else random.Random(1).sample(every, min(sample, len(every)))


class Promises:
    """What had been promised at each operation of a log, and what the step under way was about to promise."""

    def __init__(self, operations: list[Operation]) -> None:
        self.marks = [
            (at, json.loads(operation.data)) for at, operation in enumerate(operations) if operation.kind == "M"
        ]

    def at(self, crash: int) -> tuple[dict[str, Any], dict[str, Any], dict[int, dict[str, Any]]]:
        """The last step that was done, the one under way (or the same), and the clips sealed until that one ends."""
        done: dict[str, Any] = {}
        clips: dict[int, dict[str, Any]] = {}
        for at, note in self.marks:
            if note["phase"] != "end":
                continue
            if "sealed" in note:
                clips[note["sealed"]] = note
            if at >= crash:
                return done, note, clips
            done = note
        return done, done, clips

    def synced(self, crash: int) -> dict[str, dict[str, Any]]:
        """Per draft that was being written: the note of its last sync."""
        notes: dict[str, dict[str, Any]] = {}
        for at, note in self.marks:
            if at < crash:
                notes = {**notes, note["draft"]: note} if note["phase"] == "synced" else {}
        return notes


# -- the spool -------------------------------------------------------------------------------------------------------


def open_spool(root: Path, quota_bytes: int = QUOTA_BYTES) -> Spool:
    return Spool.open(root, quota_bytes, clock=ManualClock(wall_offset_ns=WALL_NS))


def check_spool(root: Path, promises: Promises, crash: int) -> None:
    """Every promise that had been made by operation `crash` is kept, and what is found is one of two states."""
    done, under_way, clips = promises.at(crash)
    before, after = done.get("states", {}), under_way.get("states", {})
    with open_spool(root) as spool:
        assert not spool.last_recovery.ledger_rebuilt, "a power cut never damages the ledger"
        counts = spool.counts()
        found = {str(n): spool.clip(n).state.value for n in range(1, counts.sealed + 1)}
        assert len(before) <= len(found) <= max(len(before), len(after)), f"{before} -> {found} -> {after}"
        for n, state in found.items():
            assert state in {
                before.get(n, after.get(n)),
                after.get(n, before.get(n)),
                "pending" if n not in before else "",
            }
        assert counts.is_gapless
        assert counts.sealed == len(found)
        waiting = {clip.n: clip for clip in spool.pending()}
        assert {str(n) for n in waiting} == {n for n, state in found.items() if state == "pending"}
        for n, clip in waiting.items():
            assert sha256_of(clip.path) == clip.sha256 == clips[n]["sha256"]
            assert clip.metadata == clips[n]["metadata"]
        assert set(spool.folder.clips.iterdir()) == {clip.path for clip in waiting.values()}
        assert set(spool.folder.partial.iterdir()) == {partial.path for partial in spool.partial()}
        check_synced_drafts(spool, promises.synced(crash), waiting)
        assert counts.bytes_used <= CLIP_BLOCKS * 4096
        assert counts.bytes_used + counts.ledger_bytes <= QUOTA_BYTES
    with open_spool(root, 2 * QUOTA_BYTES) as spool:
        assert spool.last_recovery == RecoveryReport(partial=spool.last_recovery.partial), "one recovery is enough"
        draft = spool.begin(100)
        draft.path.write_bytes(content_of(1000, 100))
        assert spool.seal(draft, {}).n == counts.sealed + 1


def check_synced_drafts(spool: Spool, notes: dict[str, dict[str, Any]], waiting: dict[int, Any]) -> None:
    """Of a clip that was being written, everything that was synced is there: sealed by start-up, or partial."""
    kept = [path.read_bytes() for path in spool.folder.partial.iterdir()]
    kept += [clip.path.read_bytes() for clip in waiting.values()]
    for note in notes.values():
        synced = content_of(note["written"], note["size"])[: note["bytes"]]
        assert any(content.startswith(synced) for content in kept), f"{note['bytes']} synced bytes are gone"


# -- the receiver ----------------------------------------------------------------------------------------------------


def check_receiver(root: Path, promises: Promises, crash: int) -> None:
    """DONE clips are stored, ACKed ranges are held, nothing is there twice, and what is missing can be sent again."""
    done, under_way, _ = promises.at(crash)
    store = open_store(root)
    try:
        stored = {clip.key.n: clip for clip in store.catalogue.clips(root)}
        assert set(done.get("done", [])) <= set(stored) <= set(under_way.get("done", []))
        for n, clip in stored.items():
            assert clip.path.read_bytes() == offered(n)[1]
        assert len(store.catalogue.clips(root)) == len(stored)
        assert set(done.get("entombed", [])) <= set(store.catalogue.tombstones("car-1"))
        for n, ranges in done.get("durable", {}).items():
            check_held(store, int(n), ranges, may_be_settled=n not in under_way.get("durable", {}))
        finals = set((root / "clips").rglob("*.mcap")) if (root / "clips").exists() else set()
        assert finals == {clip.path for clip in stored.values()}
        assert len(list((root / "partial").iterdir())) == len(store.catalogue.partials())
        for n in (1, 2, 3, 4):
            send_whole(store, n)
    finally:
        store.close()
    store = open_store(root)
    assert {clip.key.n for clip in store.catalogue.clips(root)} == {1, 2, 3, 4}
    store.close()


def check_held(store: Any, n: int, ranges: list[list[int]], may_be_settled: bool) -> None:
    row, content = offered(n)
    known = store.catalogue.partial(row.key)
    if known is None:
        assert may_be_settled, f"clip {n}: acknowledged ranges {ranges} are forgotten"
        return
    held = store.offer(row, WALL_NS)
    (path,) = (store.directory / "partial").glob(f"*-{n:012d}-*")
    on_disk = path.read_bytes()
    for start, end in ranges:
        assert held.covers(start, end)
    for start, end in held:
        assert on_disk[start:end] == content[start:end], f"clip {n}: acknowledged bytes {start} to {end} are not there"


def send_whole(store: Any, n: int) -> None:
    row, content = offered(n)
    if store.offer(row, WALL_NS) is None:
        return
    store.write(row.key, 0, content, WALL_NS)
    store.flush(WALL_NS)
    assert store.commit(row.key, WALL_NS)


@pytest.fixture(autouse=True)
def kept_engines(monkeypatch):
    """For the receivers that look at thousands of states."""
    monkeypatch.setattr(database, "sqlite_engine", engine_for)


# -- tests -----------------------------------------------------------------------------------------------------------

Check = Callable[[Path, Promises, int], None]
CASES = [("spool", check_spool), ("moving-ledger", check_spool), ("receiver", check_receiver)]


def run_all(
    folder: Path, logged_root: Path, states: list[CrashState], check: Callable[[Path, CrashState], None]
) -> None:
    root = folder / "state"  # the same for all: one engine serves them all
    for state in states:
        root.mkdir()
        state.image.write_to(root, str(logged_root))
        try:
            check(root, state)
        except Exception as error:
            raise AssertionError(f"power cut at operation {state.at}, {state.how}: {error!r}") from error
        shutil.rmtree(root)


def cut_once(shim: Path, folder: Path, action: str, check: Check, sample: int | None) -> int:
    operations = record(shim, action, folder / action)
    promises, states = Promises(operations), chosen(CrashStates(operations, dense=sample is None), sample)
    run_all(folder, folder / action, states, lambda root, state: check(root, promises, state.at))
    return len(states)


def cut_in_recovery(shim: Path, folder: Path, action: str, check: Check, killed: bool, first: int, second: int) -> int:
    """Stop the process somewhere, record its next start, cut the power at every step of that.

    It was `killed`, so that what it had not synced is still only in memory; or the power had gone already.
    """
    operations, count, logged_root = record(shim, action, folder / action), 0, folder / action
    promises = Promises(operations)
    for number, (at, before) in enumerate(stops(operations, killed, first)):
        root = folder / f"stop-{number}"
        root.mkdir()
        image = before.killed_after(at if killed else 0)
        image.write_to(root, str(logged_root))
        found = {name: root / os.path.relpath(name, logged_root) for name in image.names}
        inodes = {name: path.stat().st_ino for name, path in found.items() if path.exists()}
        recovery = [relocated(operation, root, logged_root) for operation in record(shim, f"recover-{action}", root)]
        states = chosen(before.go_on(recovery, inodes), second)
        run_all(folder, logged_root, states, lambda path, _, at=at: check(path, promises, at))
        count += len(states)
        shutil.rmtree(root)
    return count


def stops(operations: list[Operation], killed: bool, count: int) -> Iterator[tuple[int, CrashStates]]:
    """Where the first process stops, and the disk as it is known then."""
    if not killed:
        for state in chosen(CrashStates(operations), count):
            yield state.at, CrashStates([], state.image)
        return
    for at in random.Random(2).sample(range(1, len(operations)), count):
        yield at, CrashStates(operations)


def relocated(operation: Operation, root: Path, logged_root: Path) -> Operation:
    """The same operation with the paths of the first log."""

    def moved(path: str) -> str:
        return str(logged_root) + path.removeprefix(str(root)) if path.startswith(str(root)) else path

    return replace(operation, path=moved(operation.path), other=moved(operation.other))


@pytest.mark.parametrize(("action", "check"), CASES, ids=[name for name, _ in CASES])
def test_after_a_power_cut_anywhere_every_promise_is_kept(recorder, memory_folder, action, check):
    assert cut_once(recorder, memory_folder, action, check, SAMPLE) == SAMPLE


@pytest.mark.parametrize(("action", "check"), [CASES[0], CASES[-1]], ids=["spool", "receiver"])
@pytest.mark.parametrize("killed", [True, False], ids=["a kill", "another power cut"])
def test_after_a_power_cut_in_recovery_every_promise_is_kept(recorder, memory_folder, action, check, killed):
    assert cut_in_recovery(recorder, memory_folder, action, check, killed, STOPS, second=8) >= STOPS


@pytest.mark.sweep
@pytest.mark.parametrize(("action", "check"), CASES, ids=[name for name, _ in CASES])
def test_after_every_enumerated_power_cut_every_promise_is_kept(recorder, memory_folder, action, check):
    assert cut_once(recorder, memory_folder, action, check, None) > 500


@pytest.mark.sweep
@pytest.mark.parametrize(("action", "check"), CASES, ids=[name for name, _ in CASES])
@pytest.mark.parametrize("killed", [True, False], ids=["kills", "power cuts"])
def test_after_power_cuts_in_many_recoveries_every_promise_is_kept(
    recorder, memory_folder, action, check, killed, sweep_size
):
    stops = sweep_size(50)
    assert cut_in_recovery(recorder, memory_folder, action, check, killed, stops, second=40) > stops
