"""Rebuilding a lost ledger: file by file, so that a start that is ended in the middle has not been for nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from runtime.spool import ClipState, Spool, SpoolError

QUOTA_BYTES = 64 << 20
FILES = 6


def open_spool(directory: Path, **options) -> Spool:
    return Spool.open(directory, QUOTA_BYTES, **options)


@pytest.fixture
def without_ledger(tmp_path: Path) -> Path:
    """Clips 1 to 6, of which 3 was delivered, and no ledger."""
    with open_spool(tmp_path) as spool:
        for n in range(1, FILES + 1):
            draft = spool.begin(100)
            draft.path.write_bytes(b"%d" % n)
            spool.seal(draft, {"clip_id": f"c{n}"})
        spool.mark_delivered(3)
    for part in tmp_path.glob("ledger.*"):
        part.unlink()
    return tmp_path


def killed_at(directory: Path, nth: int) -> list[str]:
    """A start that dies at its nth file; what it had looked at before."""
    seen: list[str] = []

    def describe(path: Path) -> dict[str, str]:
        if len(seen) + 1 == nth:
            raise KeyboardInterrupt
        seen.append(path.name)
        return {"clip_id": path.name}

    with pytest.raises(KeyboardInterrupt):
        open_spool(directory, describe=describe)
    return seen


def test_a_start_that_is_ended_in_the_middle_is_gone_on_with_and_looks_at_no_file_twice(without_ledger):
    first = killed_at(without_ledger, 3)
    second = killed_at(without_ledger, 2)
    rest: list[str] = []
    with open_spool(without_ledger, describe=lambda path: rest.append(path.name)) as spool:
        assert [int(name[:12]) for name in first + second + rest] == [1, 2, 4, 5, 6]
        counts = spool.counts()
        assert counts.is_gapless
        assert (counts.sealed, counts.pending, counts.tombstoned) == (FILES, FILES - 1, 1)
        assert spool.clip(3).state is ClipState.TOMBSTONED


def test_until_it_is_rebuilt_no_number_is_given_out_twice_even_if_the_counter_is_lost_as_well(without_ledger):
    """Another process may go on with what is there so far: 3 is free by its ledger, and by the folder."""
    (without_ledger / "counter").unlink()
    killed_at(without_ledger, 3)
    assert (without_ledger / "counter").read_text() == f"{FILES}\n"
    with open_spool(without_ledger) as spool:
        draft = spool.begin(100)
        draft.path.write_bytes(b"new")
        assert spool.seal(draft, {}).n == FILES + 1


def test_each_file_that_was_looked_at_is_progress(without_ledger):
    steps: list[int] = []
    with open_spool(without_ledger, progress=lambda: steps.append(1)):
        assert len(steps) >= FILES - 1


def test_a_file_of_another_spool_is_refused_before_anything_is_changed(without_ledger):
    path = next((without_ledger / "clips").glob("000000000006-*"))
    path.rename(path.with_name(path.name.replace("000000000006", "000000009999")))
    for _ in range(2):
        with pytest.raises(SpoolError, match="does not belong"):
            open_spool(without_ledger)
        assert (without_ledger / "counter").read_text() == f"{FILES}\n"


def test_a_start_that_fails_again_and_again_leaves_no_file_open(without_ledger):
    killed_at(without_ledger, 1)
    lock = (without_ledger / "spool.lock").stat()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed them
            assert not os.path.samestat(os.fstat(int(descriptor)), lock)
