"""The collector runs in slack, and memory wins when there never is any."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from runtime.health import garbage
from runtime.health.garbage import SlackCollector

MILLISECOND_NS = 1_000_000


class SteppingClock:
    """Advances by a fixed time at every look, so that each collection seems to take that long."""

    def __init__(self, step_ns: int) -> None:
        self.now_ns = 0
        self.step_ns = step_ns

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


@pytest.fixture
def collector() -> Iterator[SlackCollector]:
    collector = SlackCollector(SteppingClock(MILLISECOND_NS))
    collector.start()
    yield collector
    collector.stop()


def test_automatic_collection_is_off_between_start_and_stop(collector):
    assert not gc.isenabled()
    assert gc.get_freeze_count() > 0
    collector.stop()
    assert gc.isenabled()


def test_a_generation_is_collected_when_it_is_due_and_fits(collector):
    answers = [collector.offer(50 * MILLISECOND_NS) for _ in range(200)]
    assert answers.count(0) == 9
    assert answers.count(1) == 1
    assert collector.collections == 10


def test_without_slack_nothing_is_collected(collector):
    assert {collector.offer(MILLISECOND_NS) for _ in range(500)} == {None}


def test_a_collection_that_took_long_waits_for_longer_slack():
    collector = SlackCollector(SteppingClock(20 * MILLISECOND_NS))
    collector.start()
    try:
        first = [collector.offer(30 * MILLISECOND_NS) for _ in range(20)]
        after = [collector.offer(30 * MILLISECOND_NS) for _ in range(100)]
    finally:
        collector.stop()
    assert first[-1] == 0
    assert set(after) == {None}


def test_memory_wins_when_slack_never_suffices(collector, monkeypatch):
    monkeypatch.setattr(garbage, "MAX_YOUNG_OBJECTS", 1000)
    kept = [[] for _ in range(2000)]
    assert collector.offer(0) == 0
    assert collector.forced == 1
    assert len(kept) == 2000
