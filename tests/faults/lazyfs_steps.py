"""The steps of `power_cut_process.py` on a LazyFS disk, with the power cut at one chosen call or in one torn write.

The promises and the checks are those of `test_power_cut.py`. What had been promised by then is told by the notes that
the steps make: those of an undisturbed run are known, so a cut run says by how many it made how far it came.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazyfs_disk import LazyDisk, torn_sequence, torn_write
from power_cut_states import Operation
from test_power_cut import Promises, check_receiver, check_spool

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("lazyfs_process.py")
CASES = {"spool": (check_spool, "ledger.sqlite"), "receiver": (check_receiver, "catalogue.sqlite")}
CALLS = ("write", "fsync", "create", "rename", "unlink", "truncate", "open")
WRITE_BYTES = 2048  # what the steps write at a time
TORN_PARTS = ([1], [2], [3], [1, 3])


@dataclass(frozen=True)
class Cut:
    """At which note the power is to fail, and how: at a call after it, or by a torn write on the way there."""

    note: int
    timing: str = ""
    operation: str = ""
    injection: str = ""


class Steps:
    """Runs the steps of one role in one folder after another; `errors` is a file for what it complains of."""

    def __init__(self, role: str, errors: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
        self.errors = errors
        with errors.open("w") as stream:
            self._process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "steps", role],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True, env=environment,
            )  # fmt: skip

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def run(self, root: Path, disk: LazyDisk | None = None, cut: Cut | None = None) -> list[dict[str, Any]]:
        """The notes that were made until the end, or until the power failed and the process of it."""
        notes: list[dict[str, Any]] = []
        self.say(str(root))
        assert self._process.stdout is not None
        for line in self._process.stdout:
            note = json.loads(line)
            if "exit" in note:
                assert note["exit"] == 0 or (disk is not None and disk.has_died), self.errors.read_text()
                return notes
            notes.append(note)
            if disk is not None and cut is not None and cut.operation and len(notes) == cut.note:
                disk.die_at(cut.timing, cut.operation)
            self.say("")
        raise AssertionError(f"the steps have ended: {self.errors.read_text()}")


def promises_of(notes: list[dict[str, Any]]) -> Promises:
    return Promises([Operation("M", 0, 0, "", "", json.dumps(note).encode()) for note in notes])


def without_names(notes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A draft's name is of the moment; everything else is the same in every run."""
    return [{name: fact for name, fact in note.items() if name != "draft"} for note in notes]


def check_tail(notes: list[dict[str, Any]]) -> None:
    """Of a clip being written, nothing waits for its sync longer than 2 s (a write each 0.7 s, by the steps' clock)."""
    writes: dict[int, int] = {}
    for note in notes:
        if note["phase"] == "synced":
            at = writes[note["written"]] = writes.get(note["written"], 0) + 1
            older_bytes = min(note["size"], (at - 3) * WRITE_BYTES)
            assert note["bytes"] >= older_bytes, f"{note}: {older_bytes} bytes were written over 2 s ago"


def promised_by(notes: list[dict[str, Any]], whole: list[dict[str, Any]]) -> int:
    """How many notes count: those of an undisturbed run. After its disk died a process may note its failure too."""
    pairs = zip(without_names(notes), without_names(whole), strict=False)
    return next((at for at, (found, expected) in enumerate(pairs) if found != expected), len(notes))


def check_cut(role: str, steps: Steps, disk: LazyDisk, whole: list[dict[str, Any]], cut: Cut) -> bool:
    """Run, cut, and look at what the disk below holds; True when the power failed at the chosen place."""
    check, _ = CASES[role]
    disk.power_on(cut.injection)
    notes = steps.run(disk.mount / "root", disk, cut)
    promised = promised_by(notes, whole)
    hit = disk.has_died if len(notes) < len(whole) or promised < len(notes) else not disk.is_alive
    assert hit or promised == len(whole), f"{cut}: {notes[promised:]} instead of {whole[promised]}"
    disk.cut_power()
    root = disk.below / "root"
    root.mkdir(exist_ok=True)
    try:
        check(root, promises_of(whole), promised)
    except Exception as error:
        kept = disk.folder.with_name(f"failed-{disk.cuts}")
        shutil.copytree(disk.below, kept)
        raise AssertionError(f"{cut}, after {promised} notes: {error!r}; the disk is {kept}") from error
    finally:
        shutil.rmtree(root)
    return hit


def cuts_at_calls(notes: int, count: int, seed: int) -> list[Cut]:
    """Seeded: `count` of all combinations of a note, a call and a side of it."""
    every = [Cut(at, side, call) for at in range(1, notes) for call in CALLS for side in ("before", "after")]
    return random.Random(seed).sample(every, min(count, len(every)))


def cuts_in_writes(database: Path, count: int, seed: int) -> list[Cut]:
    """Seeded: a torn write, or a row of writes of which some are lost, in a database or its write-ahead log."""
    rng, made = random.Random(seed), []
    for number in range(count):
        file = database.with_name(database.name + rng.choice(["-wal", "-wal", ""]))
        if number % 2:
            made.append(Cut(0, injection=torn_write(file, rng.randint(1, 30), rng.choice(TORN_PARTS), 3)))
        else:
            persist = rng.choice([[2], [3], [1, 3], [2, 4]])
            made.append(Cut(0, injection=torn_sequence(file, rng.randint(1, 12), persist)))
    return made


def check_all(role: str, steps: Steps, disk: LazyDisk, whole: list[dict[str, Any]], cuts: list[Cut]) -> int:
    """How many of the `cuts` met their place."""
    return sum(check_cut(role, steps, disk, whole, cut) for cut in cuts)


def cut_and_check(role: str, folder: Path, disk: LazyDisk, count: int, seed: int) -> tuple[int, int]:
    """Make `count` cuts at calls and a third as many torn writes; how many of each met their place."""
    with Steps(role, folder / "errors") as steps:
        whole = steps.run(folder / "whole")
        check_tail(whole)
        torn = cuts_in_writes(disk.below / "root" / CASES[role][1], max(2, count // 3), seed)
        return (
            check_all(role, steps, disk, whole, cuts_at_calls(len(whole), count, seed)),
            check_all(role, steps, disk, whole, torn),
        )
