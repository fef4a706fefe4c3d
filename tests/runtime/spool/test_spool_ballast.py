"""The ballast: real blocks for the ledger, given up in slices when the disk is full, back when there is room."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.processes.spool_opening import SpoolFigures
from runtime.spool import LedgerError, Spool
from runtime.spool.ballast import BALLAST_BYTES, LOW_BYTES, SLICE_BYTES, Ballast

QUOTA_BYTES = 64 << 20


class Disk:
    """How much is free, as others have it."""

    free_bytes = 1 << 30

    def __call__(self, directory: Path) -> int:
        return self.free_bytes


def test_a_spool_keeps_real_blocks_for_its_ledger_charged_to_the_ledgers_share(tmp_path):
    with Spool.open(tmp_path, QUOTA_BYTES) as spool:
        assert (tmp_path / "ballast").stat().st_blocks * 512 >= BALLAST_BYTES
        left_bytes = QUOTA_BYTES - spool._reservations.clip_quota_bytes
        assert left_bytes >= BALLAST_BYTES + sum(path.stat().st_blocks * 512 for path in tmp_path.glob("ledger.*"))
        assert spool.counts().bytes_used == 0, "no clip"
    with Spool.open(tmp_path, QUOTA_BYTES) as spool:
        assert (spool.partial(), list((tmp_path / "clips").iterdir())) == ([], [])


def test_a_full_disk_takes_it_slice_by_slice_and_room_brings_it_back(tmp_path):
    disk = Disk()
    ballast = Ballast(tmp_path / "ballast", disk)
    ballast.restore()
    assert ballast.held_bytes == BALLAST_BYTES
    ballast.make_room()
    assert ballast.held_bytes == BALLAST_BYTES, "nothing is low"
    disk.free_bytes = LOW_BYTES - 1
    held = []
    for _ in range(BALLAST_BYTES // SLICE_BYTES + 1):
        ballast.make_room()
        held.append(ballast.held_bytes)
    assert held == [SLICE_BYTES * 3, SLICE_BYTES * 2, SLICE_BYTES, 0, 0]
    disk.free_bytes = 2 * BALLAST_BYTES - 1
    ballast.restore()
    assert ballast.held_bytes == 0, "the ledger would have less than with it given up"
    disk.free_bytes += 1
    ballast.restore()
    assert ballast.held_bytes == BALLAST_BYTES


def test_figures_are_read_once_a_second_without_the_writers_lock_and_the_last_ones_outlive_a_ledger_error(
    tmp_path, monkeypatch
):
    clock = ManualClock()
    with Spool.open(tmp_path, QUOTA_BYTES, clock=clock) as spool, Spool.open(tmp_path, QUOTA_BYTES) as other:
        figures = SpoolFigures(spool)
        entered, leave = threading.Event(), threading.Event()

        def write() -> None:
            with other._ledger.transaction():
                entered.set()
                leave.wait(60)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert entered.wait(20)
            assert figures()["sealed"] == 0, "a writer that takes long holds up no status"
        finally:
            leave.set()
            writer.join()
        asked = []

        def failing() -> None:
            asked.append(1)
            raise LedgerError("cannot read it: disk I/O error")

        monkeypatch.setattr(spool, "counts", failing)
        assert (figures()["error"], asked) == ("", [])
        clock.advance_to(10**9)
        assert (figures()["error"], figures()["sealed"], len(asked)) == ("cannot read it: disk I/O error", 0, 1)


@pytest.mark.parametrize("state", ["delivered", "tombstoned"])
def test_counting_what_was_settled_reads_an_index_and_no_rows(tmp_path, state):
    with Spool.open(tmp_path, QUOTA_BYTES) as spool, spool._ledger.reading() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT count(*) FROM clips WHERE state = '{state}'").fetchall()
        assert "USING COVERING INDEX" in plan[0]["detail"]
