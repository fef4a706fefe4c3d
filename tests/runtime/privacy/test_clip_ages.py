"""What is made of something older is as old as that, so that `keep_s` holds for footage whoever asks for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.formats.mcap_files import McapTopicWriter
from runtime.formats.pull_files import PullFolder, PullRequest
from runtime.messages import Priority
from runtime.privacy.retention import INTERVAL_NS, Retention
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.recorder import Recorder
from runtime.recording.shrinking import ClipExtent
from runtime.spool import Spool, SpoolError, rescue_partials
from runtime.spool.wall_time import NEVER_SET_NS
from tests.runtime.recording.recorded_rig import (
    SECOND_NS,
    START_NS,
    WALL_OFFSET_NS,
    Recording,
    encode_camera,
    firing,
    session,
)

DAY_NS = 86_400 * SECOND_NS
TODAY_NS = NEVER_SET_NS + 400 * DAY_NS
KEEP_DAYS = 30
QUOTA_BYTES = 64_000_000


def open_spool(folder: Path, clock: ManualClock, boot: str = "first") -> Spool:
    return Spool.open(folder / "spool", QUOTA_BYTES, clock=clock, retention_s=KEEP_DAYS * 86_400, boot_id=boot)


def seal(spool: Spool, name: str, cut_from: int | None = None) -> int:
    draft = spool.begin(1000, as_old_as=None if cut_from is None else spool.age_of(cut_from))
    draft.path.write_bytes(b"clip of " + name.encode())
    return spool.seal(draft, {"clip_id": name}).n


def days_until_gone(spool: Spool, clock: ManualClock, limit: int = 3 * KEEP_DAYS) -> int:
    """Days from now on until nothing is kept, in steps of five."""
    retention, begun_ns = Retention(spool), clock.now_ns()
    for day in range(0, limit, 5):
        clock.advance_to(begun_ns + day * DAY_NS)
        retention.step(day * INTERVAL_NS)
        if not spool.pending() and not spool.partial():
            return day
    raise AssertionError(f"still kept after {limit} days: {spool.pending()}, {spool.partial()}")


def test_who_pulls_the_same_seconds_again_and_again_keeps_them_no_longer(tmp_path: Path) -> None:
    recorded_ns = START_NS + 14 * SECOND_NS
    clock = ManualClock(recorded_ns, WALL_OFFSET_NS)
    writer = HistoryWriter(tmp_path / "history", 60, 256_000_000, session())
    Recording({"front_main": encode_camera("front_main", 280)}, (firing(6.0),)).write(writer)
    writer.close()
    pulls = PullFolder(tmp_path / "spool")
    with open_spool(tmp_path, clock) as spool:
        recorder = Recorder(tmp_path / "history", SpoolClipSink(spool), pulls=pulls)
        assert [clip.number for clip in recorder.step(clock.now_ns())] == [1]
        for path in (tmp_path / "history" / "segments").iterdir():
            path.unlink()
        first_ns = START_NS + WALL_OFFSET_NS
        for number, day in enumerate((20, 29), 2):
            clock.advance_to(recorded_ns + day * DAY_NS)
            asked = PullRequest(f"p{number}", (), first_ns + 4 * SECOND_NS, first_ns + 7 * SECOND_NS, clock="wall")
            assert pulls.ask(asked)
            assert [clip.number for clip in recorder.step(clock.now_ns())] == [number]
        assert spool.expire() == []
        clock.advance_to(recorded_ns + KEEP_DAYS * DAY_NS)
        assert sorted(spool.expire()) == [1, 2, 3], "all three hold the footage of day 0"
        assert spool.pending() == []


def test_the_age_is_handed_on_across_restarts_of_the_machine(tmp_path: Path) -> None:
    with open_spool(tmp_path, ManualClock(0, TODAY_NS)) as spool:
        first = seal(spool, "first")
    clock = ManualClock(0, TODAY_NS + 20 * DAY_NS)
    with open_spool(tmp_path, clock, "second") as spool:
        cut = seal(spool, "cut of first", cut_from=first)
        assert spool.age_of(cut) == spool.age_of(first)
        assert days_until_gone(spool, clock) == 10


def test_a_clip_that_the_first_version_sealed_hands_on_an_age_too(tmp_path: Path) -> None:
    with open_spool(tmp_path, ManualClock(0, TODAY_NS)) as spool:
        first = seal(spool, "first")
        with spool._ledger.transaction() as connection:
            connection.execute("UPDATE clips SET sealed_boot_id = NULL, sealed_ns = NULL")
    clock = ManualClock(0, TODAY_NS + 20 * DAY_NS)
    with open_spool(tmp_path, clock, "second") as spool:
        seal(spool, "cut of first", cut_from=first)
        assert days_until_gone(spool, clock) == 10


def leave_half(spool: Spool, written_wall_ns: int, cut_from: int | None = None) -> None:
    """A recorder dies with the power after it wrote some of a clip."""
    age = None if cut_from is None else spool.age_of(cut_from)
    draft = spool.begin(1 << 14, Priority.HIGH, metadata={"clip_id": "half"}, as_old_as=age)
    stream = spool.write_into(draft)
    writer = McapTopicWriter(stream)
    writer.log("info", "test", "a line", 1)
    writer.flush()
    stream.sync()
    draft.release()
    os.utime(draft.path, ns=(written_wall_ns, written_wall_ns))


def test_what_is_rescued_of_half_a_clip_is_as_old_as_its_beginning(tmp_path: Path) -> None:
    with open_spool(tmp_path, ManualClock(0, TODAY_NS)) as spool:
        leave_half(spool, TODAY_NS)
    clock = ManualClock(0, TODAY_NS + 20 * DAY_NS)
    with open_spool(tmp_path, clock, "second") as spool:
        assert rescue_partials(spool).rescued == [1]
        assert days_until_gone(spool, clock) == 10


def test_also_in_the_run_of_the_machine_that_wrote_it(tmp_path: Path) -> None:
    clock = ManualClock(0, TODAY_NS)
    with open_spool(tmp_path, clock) as spool:
        leave_half(spool, TODAY_NS)
    clock.advance_to(20 * DAY_NS)
    with open_spool(tmp_path, clock) as spool:
        assert rescue_partials(spool, is_awaited=lambda known_by: False).rescued == [1]
        assert days_until_gone(spool, clock) == 10


@pytest.mark.parametrize("is_rescued", [False, True])
def test_half_a_clip_of_an_older_one_is_as_old_as_that(tmp_path: Path, is_rescued: bool) -> None:
    clock = ManualClock(0, TODAY_NS)
    with open_spool(tmp_path, clock) as spool:
        first = seal(spool, "first")
        clock.advance_to(20 * DAY_NS)
        leave_half(spool, clock.wall_ns(), cut_from=first)
    clock = ManualClock(0, TODAY_NS + 25 * DAY_NS)
    with open_spool(tmp_path, clock, "second") as spool:
        if is_rescued:
            assert rescue_partials(spool).rescued == [2]
        assert days_until_gone(spool, clock) == 5


@pytest.mark.parametrize("has_its_name", [False, True])
def test_a_seal_that_was_cut_short_still_hands_on_the_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_its_name: bool
) -> None:
    """Killed after the note: before the rename, which start-up completes, and after it, when the file is adopted."""
    clock = ManualClock(0, TODAY_NS)

    class KilledError(BaseException):
        """Nothing is taken back, as after SIGKILL."""

    def die(*arguments: object) -> None:
        raise KilledError

    with open_spool(tmp_path, clock) as spool:
        first = seal(spool, "first")
        clock.advance_to(20 * DAY_NS)
        place = "runtime.spool.sealing.insert_clip" if has_its_name else "runtime.spool.spool.place"
        draft = spool.begin(1000, as_old_as=spool.age_of(first))
        draft.path.write_bytes(b"cut of first")
        monkeypatch.setattr(place, die)
        with pytest.raises(KilledError):
            spool.seal(draft, {"clip_id": "cut of first"})
        monkeypatch.undo()
        draft.release()
    with open_spool(tmp_path, clock) as spool:
        found = spool.last_recovery
        assert (found.adopted, found.completed) == (([2], []) if has_its_name else ([], [2]))
        assert days_until_gone(spool, clock) == 10


@pytest.mark.parametrize("boot", ["first", "second"])
def test_an_adopted_clip_is_as_old_as_its_file(tmp_path: Path, boot: str) -> None:
    clock = ManualClock(50 * DAY_NS, TODAY_NS - 50 * DAY_NS)
    with open_spool(tmp_path, clock) as spool:
        path = spool.clip(seal(spool, "first")).path
    os.utime(path, ns=(TODAY_NS, TODAY_NS))
    for ledger in (tmp_path / "spool").glob("ledger.*"):
        ledger.unlink()
    up_ns = 70 * DAY_NS if boot == "first" else 0
    clock = ManualClock(up_ns, TODAY_NS + 20 * DAY_NS - up_ns)
    with open_spool(tmp_path, clock, boot) as spool:
        assert spool.last_recovery.adopted == [1]
        assert days_until_gone(spool, clock) == 10


@pytest.mark.parametrize("written_wall_ns", [0, TODAY_NS + 900 * DAY_NS])
def test_a_file_of_a_clock_that_was_wrong_counts_from_its_adoption(tmp_path: Path, written_wall_ns: int) -> None:
    clock = ManualClock(0, TODAY_NS)
    with open_spool(tmp_path, clock) as spool:
        path = spool.clip(seal(spool, "first")).path
    os.utime(path, ns=(written_wall_ns, written_wall_ns))
    for ledger in (tmp_path / "spool").glob("ledger.*"):
        ledger.unlink()
    with open_spool(tmp_path, clock) as spool:
        assert days_until_gone(spool, clock) == KEEP_DAYS


def test_after_the_clock_was_set_the_age_that_a_draft_noted_is_corrected_too(tmp_path: Path) -> None:
    clock = ManualClock(0, TODAY_NS - 300 * DAY_NS)  # wrong until it is set
    with open_spool(tmp_path, clock) as spool:
        leave_half(spool, TODAY_NS, cut_from=seal(spool, "first"))
    clock = ManualClock(0, TODAY_NS)
    with open_spool(tmp_path, clock) as spool:
        assert spool.expire() == []
    clock = ManualClock(0, TODAY_NS + 20 * DAY_NS)
    with open_spool(tmp_path, clock, "second") as spool:
        assert rescue_partials(spool).rescued == [2]
        assert days_until_gone(spool, clock) == 10


def test_what_went_meanwhile_cannot_be_cut_any_more(tmp_path: Path) -> None:
    with open_spool(tmp_path, ManualClock(0, TODAY_NS)) as spool, pytest.raises(SpoolError, match="no clip has number"):
        SpoolClipSink(spool).begin(1000, Priority.HIGH, ClipExtent((), 5.0, cut_from=7))
