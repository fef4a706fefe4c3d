"""The beat: on phase, never queued."""

from __future__ import annotations

import threading

from runtime.clock import ManualClock, SystemClock
from runtime.metronome import Metronome

PERIOD_NS = 50_000_000


class Grid:
    period_ns = PERIOD_NS

    def time_of(self, instant: int) -> int:
        return instant * PERIOD_NS

    def instant_of(self, time_ns: int) -> int:
        return time_ns // PERIOD_NS


def test_ticks_start_a_fixed_phase_after_each_instant() -> None:
    clock = ManualClock(0)
    metronome = Metronome(Grid(), 20_000_000, clock)
    beats = []
    for _ in range(3):
        beats.append((metronome.wait_for_next(threading.Event()), clock.now_ns()))
    instants = [instant for instant, _ in beats]
    assert instants == list(range(instants[0], instants[0] + 3))
    assert all(now_ns == instant * PERIOD_NS + 20_000_000 for instant, now_ns in beats)
    assert metronome.skipped == 0


def test_beats_missed_during_a_stall_are_skipped_and_counted() -> None:
    clock = ManualClock(0)
    metronome = Metronome(Grid(), 20_000_000, clock)
    first = metronome.wait_for_next(threading.Event())
    clock.advance_to(clock.now_ns() + 5 * PERIOD_NS + 1)
    assert metronome.wait_for_next(threading.Event()) == first + 5
    assert metronome.skipped == 4


def test_stop_ends_the_wait() -> None:
    stop = threading.Event()
    stop.set()
    assert Metronome(Grid(), 0, ManualClock(0)).wait_for_next(stop) is None


def test_the_beat_moves_to_another_phase_without_losing_an_instant() -> None:
    clock = ManualClock(0)
    metronome = Metronome(Grid(), PERIOD_NS, clock)
    first = metronome.wait_for_next(threading.Event())
    metronome.rephase(20_000_000)
    assert metronome.wait_for_next(threading.Event()) == first + 1
    assert metronome.wait_for_next(threading.Event()) == first + 2
    assert clock.now_ns() == metronome.due_ns(first + 2) == (first + 2) * PERIOD_NS + 20_000_000
    assert metronome.skipped == 0


def test_the_systems_clock_never_wakes_early_and_stops_when_told() -> None:
    clock, stop = SystemClock(), threading.Event()
    for wait_ns in (0, 300_000, 3_000_000):
        due_ns = clock.now_ns() + wait_ns
        assert clock.wait_until(due_ns, stop)
        assert clock.now_ns() >= due_ns
    stop.set()
    assert not clock.wait_until(clock.now_ns() + 10**12, stop)
