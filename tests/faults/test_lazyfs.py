"""Power cuts on LazyFS, a file system that forgets what was not synced (https://github.com/dsrhaslab/lazyfs).

A second opinion beside `test_power_cut.py`: there the states of the disk are ours, here they are those of somebody
else's page cache, with the product's own calls through a real kernel and a real mount. The promises are the same, and
so are the checks. First the steps of `power_cut_process.py`, with the power cut at one chosen call (`lazyfs_steps.py`);
then whole vehicles and receivers on a disk each, cut at any moment and started again, many times (`lazyfs_rig.py`).

Needs the program `lazyfs` on the PATH (README.md here says how to build it) and the right to mount; skips without.
"""

from __future__ import annotations

import os
import shutil

import fault_bench
import pytest
from lazyfs_disk import unlimited_disk_usage
from lazyfs_rig import LazyRig
from lazyfs_steps import CASES, SCRIPT, Cut, Steps, check_all, cut_and_check


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """LazyFS has no statfs: say that there is room, here as in `lazyfs_process.py`."""
    monkeypatch.setattr(shutil, "disk_usage", unlimited_disk_usage)


def test_what_was_not_synced_is_gone_after_a_power_cut(lazy_disks):
    disk = lazy_disks("disk")
    disk.power_on()
    for name in ("synced", "unsynced", "half"):
        with (disk.mount / name).open("wb", buffering=0) as stream:
            stream.write(b"a" * 5000)
            if name != "unsynced":
                os.fsync(stream)
            if name != "synced":
                stream.write(b"b" * 5000)
    disk.cut_power()
    found = {path.name: path.read_bytes() for path in disk.below.iterdir()}
    assert found == {"synced": b"a" * 5000, "unsynced": b"", "half": b"a" * 5000}


@pytest.mark.parametrize("role", CASES)
def test_a_process_that_leaves_its_syncs_out_is_found_out(role, tmp_path, lazy_disks, monkeypatch):
    monkeypatch.setenv("WITHOUT_SYNCS", "1")
    disk = lazy_disks("disk")
    with Steps(role, tmp_path / "errors") as steps:
        whole = steps.run(tmp_path / "whole")
        with pytest.raises(AssertionError, match=r"after \d+ notes"):
            check_all(role, steps, disk, whole, [Cut(at, "after", "write") for at in range(12, len(whole), 4)])


@pytest.mark.parametrize("role", CASES)
def test_on_lazyfs_a_power_cut_at_a_call_breaks_no_promise(role, tmp_path, lazy_disks):
    at_calls, _ = cut_and_check(role, tmp_path, lazy_disks("disk"), count=3, seed=3)
    assert at_calls > 0


@pytest.mark.sweep
@pytest.mark.parametrize("role", CASES)
def test_on_lazyfs_power_cuts_at_many_calls_and_in_torn_writes_break_no_promise(role, tmp_path, lazy_disks, sweep_size):
    count = sweep_size(100)
    at_calls, torn = cut_and_check(role, tmp_path, lazy_disks("disk"), count, seed=4)
    print(f"{role}: of {count} cuts at calls {at_calls} met theirs, of {max(2, count // 3)} torn writes {torn}")
    assert at_calls > count // 3
    assert torn > 0 or count < 10


@pytest.fixture
def lazy_rig(bench, lazy_disks, monkeypatch) -> LazyRig:
    monkeypatch.setattr(fault_bench, "SCRIPT", SCRIPT)
    return LazyRig(bench, lazy_disks("vehicle"), lazy_disks("receiver"), seed=5)


def test_on_lazyfs_both_ends_lose_their_power_and_no_clip(lazy_rig):
    lazy_rig.run(cuts=2)
    assert lazy_rig.bench.sealed


@pytest.mark.sweep
def test_on_lazyfs_both_ends_lose_their_power_many_times_and_no_clip(lazy_rig, sweep_size):
    cuts = sweep_size(40)
    lazy_rig.run(cuts)
    print(f"{len(lazy_rig.bench.sealed)} clips sealed and delivered over {cuts} power cuts")
    assert len(lazy_rig.bench.sealed) > cuts
