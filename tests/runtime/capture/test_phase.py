"""The grid of instants follows the reference camera, and agrees with itself whatever the order of the threads."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.capture.phase import CORRECTION_DELAY, RELOCK_AFTER, InstantGrid

PERIOD = 50_000_000


def test_instants_before_any_frame_follow_the_start() -> None:
    grid = InstantGrid(PERIOD, "front", start_ns=1000)
    assert [grid.time_of(instant) for instant in (0, 1, -2)] == [1000, 1000 + PERIOD, 1000 - 2 * PERIOD]


def test_a_frame_belongs_to_the_instant_it_precedes_or_follows_by_at_most_the_skew() -> None:
    grid = InstantGrid(PERIOD, None, start_ns=0)
    quarter = PERIOD // 4
    assert grid.instant_of(10 * PERIOD) == 10
    assert grid.instant_of(10 * PERIOD + quarter) == 10
    assert grid.instant_of(10 * PERIOD + quarter + 1) == 11
    assert grid.instant_of(9 * PERIOD + quarter + 1) == 10


def test_without_a_start_the_first_frame_is_instant_zero() -> None:
    grid = InstantGrid(PERIOD, "front")
    with pytest.raises(ValueError, match="not started"):
        grid.time_of(0)
    assert grid.observe("rear", 777) == 0
    assert grid.time_of(0) == 777


@pytest.mark.parametrize("offset", [20_000_000, -20_000_000, 0, 3_000_000])
def test_the_grid_locks_to_the_references_phase(offset: int) -> None:
    grid = InstantGrid(PERIOD, "front", start_ns=0)
    for index in range(60):
        grid.observe("front", offset + index * PERIOD)
    newest = offset + 59 * PERIOD
    assert abs(grid.time_of(grid.instant_of(newest)) - newest) < 10_000


def test_the_grid_learns_the_references_rate_and_runs_on_with_it() -> None:
    true_period = PERIOD + 40_000  # 0.08 % slower than its name
    grid = InstantGrid(PERIOD, "front", start_ns=0)
    for index in range(400):
        grid.observe("front", index * true_period)
    assert abs(grid.period_ns - true_period) < 200
    silent_for = 100
    expected = (399 + silent_for) * true_period
    assert abs(grid.time_of(grid.instant_of(399 * true_period) + silent_for) - expected) < 50_000


def test_jitter_of_the_reference_is_smoothed() -> None:
    noise = random.Random(1)
    grid = InstantGrid(PERIOD, "front", start_ns=0)
    for index in range(400):
        grid.observe("front", index * PERIOD + noise.randint(-2_000_000, 2_000_000))
    steps = [grid.time_of(400 + index) - grid.time_of(399 + index) for index in range(20)]
    assert all(abs(step - PERIOD) < 600_000 for step in steps)


def test_a_reference_that_comes_back_elsewhere_is_believed_after_a_silence() -> None:
    grid = InstantGrid(PERIOD, "front", start_ns=0)
    for index in range(50):
        grid.observe("front", index * PERIOD)
    shift = PERIOD * 2 // 5
    back = 50 + RELOCK_AFTER + 5
    for index in range(back, back + 40):
        grid.observe("front", index * PERIOD + shift)
    newest = (back + 39) * PERIOD + shift
    assert abs(grid.time_of(grid.instant_of(newest)) - newest) < 100_000


def test_a_single_outlier_moves_nothing() -> None:
    grid = InstantGrid(PERIOD, "front", start_ns=0)
    for index in range(50):
        grid.observe("front", index * PERIOD)
    before = grid.time_of(80)
    grid.observe("front", 50 * PERIOD + PERIOD * 2 // 5)
    assert grid.time_of(80) == before


def test_a_reference_of_another_rate_does_not_drag_the_grid_away() -> None:
    grid = InstantGrid(PERIOD, "front", start_ns=0)
    for index in range(1000):
        grid.observe("front", index * 36_000_000)
    assert abs(grid.period_ns - PERIOD) <= PERIOD // 50


def test_an_absurd_time_is_answered_at_once() -> None:
    grid = InstantGrid(PERIOD, "front", start_ns=0)
    assert grid.observe("front", 10**18) == pytest.approx(10**18 / PERIOD, abs=1)


@given(shift=st.integers(-(10**15), 10**15), seed=st.integers(0, 20))
def test_moving_all_times_moves_the_grid(shift: int, seed: int) -> None:
    noise = random.Random(seed)
    times = [index * PERIOD + noise.randint(-4_000_000, 4_000_000) for index in range(60)]
    here = InstantGrid(PERIOD, "front", start_ns=0)
    there = InstantGrid(PERIOD, "front", start_ns=shift)
    assert [here.observe("front", time) for time in times] == [there.observe("front", time + shift) for time in times]
    assert there.time_of(70) - here.time_of(70) == shift


@given(seed=st.integers(0, 200))
def test_no_camera_sees_another_grid_because_its_thread_was_slower(seed: int) -> None:
    """Frames of other cameras may be offered some instants before or after the reference's of the same instant."""
    noise = random.Random(seed)
    offset = noise.randint(-PERIOD // 3, PERIOD // 3)
    reference = [offset + index * (PERIOD + 20_000) + noise.randint(-3_000_000, 3_000_000) for index in range(80)]
    others = [(time + noise.randint(-PERIOD // 2, PERIOD // 2), "rear") for time in reference]
    frames = sorted([(time, "front") for time in reference] + others)
    in_step = InstantGrid(PERIOD, "front", start_ns=0)
    expected = {(camera, time): in_step.observe(camera, time) for time, camera in frames}
    delayed = sorted(frames, key=lambda frame: frame[0] + noise.randint(0, (CORRECTION_DELAY - 3) * PERIOD))
    threads = InstantGrid(PERIOD, "front", start_ns=0)
    locked = {}
    for time, camera in _per_camera_in_order(delayed):
        locked[(camera, time)] = threads.observe(camera, time)
    assert locked == expected


def _per_camera_in_order(frames: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Threads interleave in any way, but each camera's frames stay in order."""
    queues = {camera: iter(sorted(frame for frame in frames if frame[1] == camera)) for camera in ("front", "rear")}
    return [next(queues[camera]) for _, camera in frames]
