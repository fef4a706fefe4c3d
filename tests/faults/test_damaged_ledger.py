"""A ledger that is deleted or damaged, with its clips still there: they arrive, and no number is given out twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_bench import Bench

PAGE_BYTES = 4096


def parts_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("ledger.sqlite*"))


def deleted(directory: Path) -> None:
    for path in parts_of(directory):
        path.unlink()


def deleted_with_its_counter(directory: Path) -> None:
    """Only the names of the files say what the highest number was."""
    deleted(directory)
    (directory / "counter").unlink()


def emptied(directory: Path) -> None:
    deleted(directory)
    (directory / "ledger.sqlite").touch()


def garbled(directory: Path) -> None:
    """No SQLite file any more."""
    deleted(directory)
    (directory / "ledger.sqlite").write_bytes(bytes(range(256)) * 64)


def torn_inside(directory: Path) -> None:
    """Opens as a database, and is none from its second page on."""
    path = directory / "ledger.sqlite"
    size = path.stat().st_size
    assert size > 2 * PAGE_BYTES
    with path.open("r+b") as stream:
        stream.seek(PAGE_BYTES)
        stream.write(b"\xa5" * (size - PAGE_BYTES))
    for side in parts_of(directory)[1:]:
        side.unlink()


def cut_short(directory: Path) -> None:
    path = directory / "ledger.sqlite"
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    for side in parts_of(directory)[1:]:
        side.unlink()


DAMAGES = [
    torn_inside,
    *(
        pytest.param(each, marks=pytest.mark.sweep)
        for each in (deleted, deleted_with_its_counter, emptied, garbled, cut_short)
    ),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_ledger_deleted_or_corrupt_is_rebuilt_its_counter_never_goes_back_and_every_clip_arrives(
    bench: Bench, damage: Callable[[Path], None]
) -> None:
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        early = bench.seal(spool, 1000, 2000)
        uploader = bench.start_uploader()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
        late = bench.seal(spool, 3000, 300_000)
    damage(bench.spool_directory)
    with bench.open_spool() as spool:
        assert spool.alarms(), "nobody was told"
        (next_number,) = bench.seal(spool, 500)
        assert next_number == max(late) + 1
        assert {clip.n for clip in spool.pending()} >= {*late, next_number}
        uploader = bench.start_uploader()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    stored = {clip.key.n: clip.key.sha256 for clip in bench.stored_clips()[0]}
    assert stored == bench.sealed, "what was delivered before is still there, and the rest has come"
    bench.check_both_ends(tombstoned=early)


@pytest.mark.sweep
def test_a_ledger_deleted_under_a_running_uploader_loses_no_clip(bench: Bench) -> None:
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        bench.seal(spool, 3 << 20, 1000)
        uploader = bench.start_uploader(rate_bytes_per_s=1 << 20)
        bench.wait(lambda: bench.durable_bytes() > 0, "some of it")
    deleted(bench.spool_directory)
    with bench.open_spool() as spool:
        bench.seal(spool, 700)
        bench.wait(lambda: not uploader.is_alive or spool.counts().pending == 0, "the delivery, or the uploader's end")
        if not uploader.is_alive:
            bench.start_uploader()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()
