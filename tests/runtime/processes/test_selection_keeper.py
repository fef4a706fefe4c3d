"""Budgets and tallies survive restarts, crashes and reboots; answers of the recorder count once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.formats.selection_file import MAX_COPY_BYTES
from runtime.messages import Firing, SignalSample, SignalValue
from runtime.processes.selection_copy import COPY_INTERVAL_NS, SelectionCopy, disk_copy_path
from runtime.processes.selection_keeper import MAX_QUEUED, SAVE_INTERVAL_NS, SelectionKeeper
from runtime.recording.answers import Answer, leave_answers
from runtime.recording.layout import HistoryLayout
from triggers import RuleEngine, load_rules

SECOND = 1_000_000_000
RULES = """rules:
  - name: probe
    description: Fast.
    when: vehicle.speed_mps > 30
    cooldown_s: 0
    rearm: level
    budget: {bytes_per_day: 50kB}
"""


class Fast:
    def value(self, name: str) -> SignalValue | None:
        return 40.0

    def samples(self, name: str) -> list[SignalSample]:
        return []

    def names(self) -> list[str]:
        return ["vehicle.speed_mps"]


class Vehicle:
    """An engine and its keeper over a history folder; `start` is a new run of the runtime."""

    def __init__(self, folder: Path) -> None:
        self.rules = folder / "rules.yaml"
        self.rules.write_text(RULES)
        self.layout = HistoryLayout(folder / "history")
        self.layout.create()
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.clock = ManualClock(100 * SECOND)
        self.start()

    def start(self) -> None:
        self.engine = RuleEngine(load_rules([self.rules]), seed=0)
        self.keeper = SelectionKeeper(self.engine, self.layout, disk_copy_path(self.spool), self.clock)
        self.keeper.restore()

    def tick(self, seconds: float = 1.0) -> list[Firing]:
        """A tick, and a round of the keeper's thread after it."""
        now_ns = self.clock.now_ns() + round(seconds * SECOND)
        self.clock.advance_to(now_ns)
        firings = self.engine.evaluate([], Fast(), now_ns, self.clock.wall_ns())
        self.keeper.after_tick(now_ns)
        self.keeper.work()
        return firings

    def answer(self, firing: Firing, outcome: str = "sealed", size_bytes: int = 1000) -> None:
        leave_answers(self.layout, [Answer(firing.rule, firing.sequence, firing.time_ns, outcome, size_bytes)])


@pytest.fixture
def vehicle(tmp_path: Path) -> Vehicle:
    return Vehicle(tmp_path)


def test_a_crash_costs_at_most_what_came_after_the_last_save(vehicle: Vehicle) -> None:
    for _ in range(5):
        vehicle.tick()
    vehicle.start()
    assert vehicle.engine.ledger == {"probe": {"kept": 5}}


def test_saves_are_at_least_a_second_apart_and_only_when_something_changed(vehicle: Vehicle) -> None:
    for _ in range(30):
        vehicle.tick(0.1)
    assert vehicle.keeper.status()["saved"] == 3
    assert SAVE_INTERVAL_NS == SECOND


def test_leaving_cleanly_loses_nothing(vehicle: Vehicle) -> None:
    vehicle.tick()
    vehicle.tick(0.01)
    vehicle.keeper.stop()
    vehicle.start()
    assert vehicle.engine.ledger == {"probe": {"kept": 2}}


def test_answers_reach_the_rules_and_go_once_they_are_saved(vehicle: Vehicle) -> None:
    (first,) = vehicle.tick()
    (second,) = vehicle.tick()
    vehicle.answer(first, size_bytes=49_500)
    vehicle.answer(second, "disk")
    vehicle.keeper.work()
    assert len(vehicle.layout.list_answers()) == 2
    vehicle.tick()
    assert vehicle.layout.list_answers() == []
    assert vehicle.engine.ledger == {"probe": {"kept": 2, "disk": 1}}
    assert vehicle.engine.unknown_answers == 0


def test_answers_that_came_before_a_crash_are_read_again_and_those_saved_count_once(vehicle: Vehicle) -> None:
    (first,) = vehicle.tick()
    (second,) = vehicle.tick()
    vehicle.answer(first, "history")
    vehicle.tick()
    vehicle.tick()
    vehicle.answer(first, "history")  # a recorder that was killed says it twice
    vehicle.answer(second, "disk")
    vehicle.keeper.work()  # read, but never taken in: then the crash
    vehicle.start()
    vehicle.keeper.work()
    vehicle.tick()
    assert vehicle.engine.ledger["probe"]["history"] == 1
    assert vehicle.engine.ledger["probe"]["disk"] == 1
    assert vehicle.engine.unknown_answers == 1
    vehicle.tick()
    assert vehicle.layout.list_answers() == []


def test_more_answers_than_the_queue_holds_wait_on_tmpfs(vehicle: Vehicle) -> None:
    for number in range(MAX_QUEUED + 10):
        leave_answers(vehicle.layout, [Answer("probe", 1000 + number, number, "sealed", 1)])
    vehicle.keeper.work()
    assert len(vehicle.layout.list_answers()) == MAX_QUEUED + 10
    assert vehicle.keeper.status()["answers_put_off"] == 1
    for _ in range(60):
        vehicle.tick()
    assert vehicle.layout.list_answers() == []
    assert vehicle.engine.unknown_answers == MAX_QUEUED + 10


def test_a_note_that_cannot_be_read_is_counted_and_removed(vehicle: Vehicle) -> None:
    vehicle.layout.answer(1, 2).write_text("nothing")
    vehicle.keeper.work()
    assert vehicle.keeper.status()["bad_answers"] == 1
    assert vehicle.layout.list_answers() == []


@pytest.mark.parametrize("content", ["", "[]", '{"format": "shadowrig-selection", "version": 7}', "\x00"])
def test_a_state_that_cannot_be_read_is_reported_and_counting_begins_anew(vehicle: Vehicle, content: str) -> None:
    vehicle.tick()
    vehicle.layout.selection.write_text(content)
    vehicle.start()
    assert vehicle.engine.ledger == {}
    assert vehicle.keeper.status()["unreadable"] == 1
    assert "selection.json" in str(vehicle.keeper.status()["last_error"])


def test_a_state_that_cannot_be_written_is_tried_again(vehicle: Vehicle) -> None:
    vehicle.layout.selection.mkdir()
    vehicle.tick()
    assert vehicle.keeper.status()["not_saved"] == 1
    vehicle.layout.selection.rmdir()
    vehicle.keeper.after_tick(vehicle.clock.now_ns() + SECOND)
    vehicle.keeper.work()
    assert json.loads(vehicle.layout.selection.read_text())["rules"]["probe"]["tally"] == {"kept": 1}


def test_after_a_reboot_the_recorders_copy_on_disk_is_read(vehicle: Vehicle) -> None:
    copy = SelectionCopy(vehicle.layout.selection, disk_copy_path(vehicle.spool))
    copy.step(0)  # nothing is there yet
    vehicle.tick()
    copy.step(COPY_INTERVAL_NS)
    vehicle.tick()
    copy.step(COPY_INTERVAL_NS + SECOND)  # too early
    vehicle.layout.selection.unlink()
    vehicle.start()
    assert vehicle.engine.ledger == {"probe": {"kept": 1}}
    assert copy.failures == 0


def test_a_disk_that_refuses_the_copy_is_counted(vehicle: Vehicle) -> None:
    vehicle.tick()
    copy = SelectionCopy(vehicle.layout.selection, vehicle.spool / "gone" / "selection.json")
    copy.copy()
    assert copy.failures == 1
    assert "selection.json" in copy.last_error


def test_a_copy_that_the_quota_has_no_room_for_is_refused_and_the_last_one_stays(vehicle: Vehicle) -> None:
    vehicle.tick()
    copy = SelectionCopy(vehicle.layout.selection, disk_copy_path(vehicle.spool))
    copy.copy()
    before = disk_copy_path(vehicle.spool).read_bytes()
    draft = vehicle.spool / ".selection.json.1.new"
    draft.write_bytes(b"{")  # of a recorder that was killed
    vehicle.layout.selection.write_bytes(b" " * (MAX_COPY_BYTES + 1))
    copy.copy()
    assert (copy.failures, disk_copy_path(vehicle.spool).read_bytes()) == (1, before)
    assert f"larger than the {MAX_COPY_BYTES} bytes" in copy.last_error
    assert not draft.exists()
    vehicle.layout.selection.write_bytes(b" " * MAX_COPY_BYTES)
    copy.copy()
    assert disk_copy_path(vehicle.spool).stat().st_size == MAX_COPY_BYTES


def test_bytes_a_second_are_measured_on_closed_seconds(vehicle: Vehicle) -> None:
    vehicle.tick()
    assert vehicle.engine.bytes_per_s == 0.0
    for second, size in enumerate([500, 100, 200, 300]):
        vehicle.layout.closed_segment(second * SECOND).write_bytes(b"x" * size)
    vehicle.layout.open_segment(4 * SECOND).write_bytes(b"x" * 10_000)
    vehicle.tick()
    assert vehicle.engine.bytes_per_s == 275.0


def test_a_number_that_is_none_is_not_saved_and_the_thread_goes_on(vehicle: Vehicle) -> None:
    vehicle.keeper._snapshots.append((0, {"bytes": float("nan")}))
    vehicle.keeper.work()
    assert vehicle.keeper.status()["not_saved"] == 1
    assert "not JSON compliant" in str(vehicle.keeper.status()["last_error"])
    vehicle.tick()
    assert vehicle.keeper.status()["saved"] == 1


def test_answers_that_cannot_be_removed_count_once(vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "not yours", str(path))

    (firing,) = vehicle.tick()
    vehicle.answer(firing)
    monkeypatch.setattr(Path, "unlink", refuse)
    for _ in range(4):
        vehicle.tick()
    status = vehicle.keeper.status()
    assert (status["answers"], status["unknown_answers"]) == (1, 0)
    assert "not yours" in str(status["last_error"])


def test_a_thread_that_dies_says_so(vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise AssertionError("nobody foresaw this")

    monkeypatch.setattr(vehicle.keeper, "work", die)
    vehicle.keeper._run()
    assert vehicle.keeper.status()["thread_died"] == 1
    assert "restart the runtime: AssertionError('nobody foresaw this')" in str(vehicle.keeper.status()["last_error"])
