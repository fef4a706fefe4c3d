from __future__ import annotations

import os
import time
from pathlib import Path

from runtime.clock import ManualClock
from runtime.messages import Priority
from runtime.privacy.retention import INTERVAL_NS, Retention
from runtime.spool import LedgerError, Spool
from tests.runtime.recording.recorded_rig import SECOND_NS

DAY_NS = 86_400 * SECOND_NS


QUOTA_BYTES = 64_000_000
KEEP_S = 2 * 86_400


class SettableClock(ManualClock):
    """A wall clock that somebody sets while the vehicle runs."""

    step_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.step_ns


def open_spool(folder: Path, clock: ManualClock, boot: str = "first", keep_s: float | None = KEEP_S) -> Spool:
    return Spool.open(folder / "spool", QUOTA_BYTES, clock=clock, retention_s=keep_s, boot_id=boot)


def put(spool: Spool, name: str) -> int:
    draft = spool.begin(1000, Priority.SAFETY)
    draft.path.write_bytes(b"clip of " + name.encode())
    return spool.seal(draft, {"clip_id": name}).n


def pending(spool: Spool) -> list[int]:
    return [clip.n for clip in spool.pending()]


def test_clips_older_than_allowed_are_deleted_and_stay_in_the_ledger(tmp_path: Path) -> None:
    clock = ManualClock(0, 100 * DAY_NS)
    with open_spool(tmp_path, clock) as spool:
        old, delivered = put(spool, "old"), put(spool, "delivered")
        spool.mark_delivered(delivered)
        clock.advance_to(3 * DAY_NS)
        young = put(spool, "young")
        retention = Retention(spool)
        assert retention.step(0) == 1
        assert pending(spool) == [young]
        assert not spool.clip(old).path.exists()
        assert spool.clip(old).reason.startswith("expired")
        assert [tombstone.n for tombstone in spool.unreported_tombstones()] == [old]
        assert spool.counts().is_gapless
        assert retention.deleted == 1


def test_a_machine_that_starts_in_1970_and_is_set_later_deletes_nothing_early(tmp_path: Path) -> None:
    clock = SettableClock()
    with open_spool(tmp_path, clock) as spool:
        n = put(spool, "before the first fix")
        clock.step_ns = 20_000 * DAY_NS
        assert Retention(spool).step(0) == 0
    with open_spool(tmp_path, clock) as spool:  # a recorder that starts again, with the clock that is right now
        assert Retention(spool).step(0) == 0
        assert pending(spool) == [n]
        assert abs(spool.clip(n).sealed_wall_ns - clock.wall_ns()) < DAY_NS, "noted anew"
    rebooted = ManualClock(0, clock.wall_ns() + DAY_NS)
    with open_spool(tmp_path, rebooted, "second") as spool:
        assert Retention(spool).step(0) == 0, "a day old"
        rebooted.advance_to(DAY_NS)
        assert Retention(spool).step(0) == 1, "two days old"


def test_a_clock_that_jumps_ahead_and_back_changes_nothing_within_one_run_of_the_machine(tmp_path: Path) -> None:
    clock = SettableClock(0, 100 * DAY_NS)
    with open_spool(tmp_path, clock) as spool:
        n = put(spool, "before")
        for step_ns in (900 * DAY_NS, -50 * DAY_NS, 0):
            clock.step_ns = step_ns
            assert Retention(spool).step(0) == 0
            with open_spool(tmp_path, clock) as another:
                assert Retention(another).step(0) == 0
        clock.step_ns = -50 * DAY_NS
        clock.advance_to(2 * DAY_NS)
        assert Retention(spool).step(0) == 1, "a clock that was set back keeps nothing longer"
        assert spool.clip(n).reason.startswith("expired")


def test_a_limit_that_is_given_later_holds_for_clips_that_are_there(tmp_path: Path) -> None:
    clock = ManualClock(0, 100 * DAY_NS)
    with open_spool(tmp_path, clock, keep_s=None) as spool:
        put(spool, "one")
        clock.advance_to(9 * DAY_NS)
        assert Retention(spool).step(0) == 0
    with open_spool(tmp_path, clock) as spool:
        assert Retention(spool).step(0) == 1


def leave_half(folder: Path, clock: ManualClock) -> None:
    with open_spool(folder, clock) as spool:
        draft = spool.begin(1000, Priority.NORMAL)
        draft.path.write_bytes(b"half a clip" * 200)
        draft.release()  # as a killed process does


def test_what_a_dead_writer_left_is_deleted_too(tmp_path: Path) -> None:
    clock = SettableClock(0, time.time_ns())
    leave_half(tmp_path, clock)
    clock.step_ns = 400 * DAY_NS
    with open_spool(tmp_path, clock) as spool:
        (partial,) = spool.partial()
        assert Retention(spool).step(0) == 0, "the clock was set, no day has passed"
        clock.advance_to(2 * DAY_NS)
        assert Retention(spool).step(0) == 1
        assert spool.partial() == []
        assert not partial.path.exists()


def test_what_an_earlier_run_of_the_machine_left_goes_by_the_time_of_its_file(tmp_path: Path) -> None:
    clock = ManualClock(0, time.time_ns())
    leave_half(tmp_path, clock)
    (path,) = (tmp_path / "spool" / "partial").iterdir()
    os.utime(path, ns=(clock.wall_ns() - DAY_NS, clock.wall_ns() - DAY_NS))
    with open_spool(tmp_path, clock, "second") as spool:
        assert Retention(spool).step(0) == 0
        clock.advance_to(DAY_NS)
        assert Retention(spool).step(0) == 1


def test_a_half_clip_that_cannot_be_deleted_is_named_and_nobody_keeps_its_lock(tmp_path: Path, monkeypatch) -> None:
    clock = ManualClock(0, time.time_ns())
    leave_half(tmp_path, clock)
    clock.advance_to(9 * DAY_NS)

    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    with open_spool(tmp_path, clock) as spool:
        retention = Retention(spool)
        monkeypatch.setattr("runtime.spool.partials.remove_durably", refuse)
        for attempt in range(2):
            assert retention.step(attempt * INTERVAL_NS) == 0
            assert "Input/output error" in retention.last_error
            assert len(spool.partial()) == 1
        monkeypatch.undo()
        assert retention.step(2 * INTERVAL_NS) == 1
        assert retention.last_error == ""


def test_a_ledger_that_refuses_is_named(tmp_path: Path, monkeypatch) -> None:
    clock = ManualClock(0, time.time_ns())
    leave_half(tmp_path, clock)
    clock.advance_to(9 * DAY_NS)
    with open_spool(tmp_path, clock) as spool:
        retention = Retention(spool)

        def refuse(partial: object) -> None:
            raise LedgerError("database or disk is full")

        monkeypatch.setattr(spool, "resume", refuse)
        assert retention.step(0) == 0
        assert retention.last_error == "database or disk is full"


def test_it_looks_once_a_minute_and_not_at_all_without_a_limit(tmp_path: Path) -> None:
    clock = ManualClock(0, 100 * DAY_NS)
    with open_spool(tmp_path, clock) as spool:
        put(spool, "one")
        retention = Retention(spool)
        assert retention.step(5) == 0
        clock.advance_to(9 * DAY_NS)
        assert retention.step(5 + INTERVAL_NS - 1) == 0
        assert retention.step(5 + INTERVAL_NS) == 1
