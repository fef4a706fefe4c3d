"""Thousands of firings wait at once in a storm: what each of them costs must not grow with how many there are.

Costs are counted in calls of functions, which no other load of the machine changes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from recorded_rig import SECOND_NS, START_NS, firing, session

from runtime.messages import ClipVariant, Firing
from runtime.recording import firing_files
from runtime.recording.clip_plan import ClipPlan, plan_clips
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.firing_files import WaitingFiring
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.recorder import Recorder

LONGEST_NS = 55 * SECOND_NS
FEW, MANY = 100, 400
#: Four times as many cost four times as much, and something for sorting; the square of it would be sixteen times.
MOST = 7


def calls_of(action: Callable[[], object]) -> int:
    """How many functions it calls, of Python and of C."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def storm(count: int) -> list[Firing]:
    """All within one clip, and every other one content with thumbnails."""
    variants = list(ClipVariant)
    return [
        firing(1 + 10 * index / count, f"rule_{index % 7}", index, 2.0, 1.0, variant=variants[index % 2])
        for index in range(count)
    ]


@pytest.fixture
def writer(tmp_path: Path):
    created = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    yield created
    created.close()


@pytest.fixture
def few_and_many(tmp_path: Path):
    """Histories of living runtimes in which few and many firings wait."""
    writers = [HistoryWriter(tmp_path / str(count), 60, 10**9, session()) for count in (FEW, MANY)]
    for created, count in zip(writers, (FEW, MANY), strict=True):
        for fired in storm(count):
            created.firing(fired)
    yield [created.layout.directory for created in writers]
    for created in writers:
        created.close()


def cost_of_step(history: Path, clips: Path) -> int:
    """Of one that finds nothing new and nothing due."""
    recorder = Recorder(history, FolderClipSink(clips))
    recorder.step(START_NS)
    return calls_of(lambda: recorder.step(START_NS))


def plan_of(count: int) -> ClipPlan:
    """One clip of all; but thumbnails whose window ends after all others stay out."""
    waiting = [WaitingFiring(Path(f"{fired.sequence:06d}.json"), "first", fired) for fired in storm(count)]
    plan = plan_clips(waiting, LONGEST_NS)[0]
    assert len(plan.firings) >= count - 2
    return plan


def cost_of_facts(plan: ClipPlan) -> int:
    """Of what a cut asks of its plan."""
    return calls_of(lambda: (plan.variant, plan.cameras, plan.topics))


def test_a_step_of_the_recorder_costs_in_proportion_to_the_firings_that_wait(few_and_many, tmp_path):
    few, many = (cost_of_step(history, tmp_path / "clips") for history in few_and_many)
    assert many < MOST * few


def test_what_a_plan_says_costs_in_proportion_to_its_firings():
    few, many = (cost_of_facts(plan_of(count)) for count in (FEW, MANY))
    assert many < MOST * few


def test_what_every_record_of_a_cut_asks_of_its_plan_is_worked_out_once():
    plan = plan_of(MANY)
    cost_of_facts(plan)
    assert cost_of_facts(plan) < 10


def test_a_firing_is_written_without_looking_at_those_that_wait(writer):
    *waiting, last = storm(FEW + 1)
    first_cost = calls_of(lambda: writer.firing(waiting[0]))
    for fired in waiting[1:]:
        writer.firing(fired)
    assert calls_of(lambda: writer.firing(last)) < 2 * first_cost


def test_a_full_waiting_room_has_room_again_when_the_recorder_has_taken_some(writer, monkeypatch):
    monkeypatch.setattr(firing_files, "MAX_WAITING_FIRINGS", 3)
    fired = storm(6)
    assert [writer.firing(one) for one in fired[:4]] == [True, True, True, False]
    for path in writer.layout.list_firings()[:2]:
        path.unlink()
    assert [writer.firing(one) for one in fired[4:]] == [True, True]
    assert not writer.firing(firing(12.0))
    assert writer.counters.refused_firings == 2


def test_firings_that_an_earlier_run_left_count_too(writer, monkeypatch):
    monkeypatch.setattr(firing_files, "MAX_WAITING_FIRINGS", 3)
    assert [writer.firing(one) for one in storm(2)] == [True, True]
    later = HistoryWriter(writer.layout.directory, 60, 10**9, session("second"))
    assert [later.firing(firing(second, sequence=9)) for second in (12.0, 13.0)] == [True, False]
    later.close()
