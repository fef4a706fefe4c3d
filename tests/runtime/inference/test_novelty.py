"""How new a scene is to this run: a bounded memory that forgets nothing it ever saw by more than its radius."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.inference.novelty import NoveltyMemory, NoveltySettings
from runtime.messages import NANOSECONDS_PER_SECOND

ONE = np.array([True])


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def _observe(memory: NoveltyMemory, vector: tuple[float, ...], time_s: float) -> float | None:
    return memory.observe(_unit(np.array([vector])), ONE, round(time_s * NANOSECONDS_PER_SECOND))


def test_what_was_seen_before_is_not_new_and_what_was_not_is() -> None:
    memory = NoveltyMemory(1, 2, NoveltySettings(settle_s=0.0))
    _observe(memory, (1, 0), 0)
    assert _observe(memory, (1, 0), 1) == pytest.approx(0.0, abs=1e-6)
    assert _observe(memory, (0, 1), 2) == pytest.approx(1.0)
    assert _observe(memory, (0, 1), 3) == pytest.approx(0.0, abs=1e-6)
    assert _observe(memory, (-1, 0), 4) == pytest.approx(1.0)  # nearest is (0, 1)


def test_novelty_is_unknown_until_a_camera_has_been_watched_for_a_while() -> None:
    memory = NoveltyMemory(2, 2, NoveltySettings(settle_s=10.0))
    vectors = _unit(np.array([[1.0, 0.0], [0.0, 1.0]]))
    first, second, both = np.array([True, False]), np.array([False, True]), np.array([True, True])
    ticks = [(0, first), (9, first), (10, both), (15, second), (19, both), (20, second)]
    known = [memory.observe(vectors, counts, at * NANOSECONDS_PER_SECOND) is not None for at, counts in ticks]
    assert known == [False, False, True, False, True, True]


def test_the_most_novel_camera_speaks() -> None:
    memory = NoveltyMemory(2, 2, NoveltySettings(settle_s=0.0))
    both = np.array([True, True])
    memory.observe(_unit(np.array([[1.0, 0.0], [1.0, 0.0]])), both, 0)
    seen_and_new = _unit(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert memory.observe(seen_and_new, both, 1) == pytest.approx(1.0)
    assert memory.observe(seen_and_new[::-1], np.array([False, True]), 2) == pytest.approx(0.0, abs=1e-6)


def test_rows_that_do_not_count_are_not_remembered() -> None:
    memory = NoveltyMemory(2, 2, NoveltySettings(settle_s=0.0))
    memory.observe(np.zeros((2, 2), np.float32), np.array([False, False]), 0)
    assert memory.counts == [0, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 300), st.floats(0.01, 3.0))
def test_every_vector_ever_taken_in_stays_within_two_radii_and_the_memory_within_its_bound(
    seed: int, dimension: int, count: int, spread: float
) -> None:
    generator = np.random.default_rng(seed)
    vectors = _unit(1.0 + spread * generator.standard_normal((count, dimension)))
    memory = NoveltyMemory(1, dimension, NoveltySettings(members=16, first_radius=0.05, settle_s=0.0))
    taken = []
    for index, vector in enumerate(vectors):
        was_full, radius = memory.counts[0] == 16, memory._radius[0]
        memory.observe(vector[None], ONE, index)
        waits = was_full and memory._radius[0] > radius  # the tick that doubles lets nobody join
        if not waits:
            taken.append(vector)
        members = memory._members[0, : memory.counts[0]]
        assert 1 <= len(members) <= 16
        chords = np.linalg.norm(np.array(taken)[:, None] - members[None], axis=2)
        assert (chords.min(axis=1) <= 2.0 * memory._radius[0] + 1e-3).all()
    apart = np.linalg.norm(members[:, None] - members[None], axis=2)[~np.eye(len(members), dtype=bool)]
    assert (apart >= memory._radius[0] - 1e-3).all()


def test_at_most_one_camera_widens_its_memory_on_a_tick() -> None:
    rows = 4
    memory = NoveltyMemory(rows, 8, NoveltySettings(members=4, settle_s=0.0))
    generator = np.random.default_rng(1)
    before = memory._radius.copy()
    widened = []
    for time_ns in range(200):
        memory.observe(_unit(generator.standard_normal((rows, 8))), np.ones(rows, np.bool_), time_ns)
        widened.append(int((memory._radius != before).sum()))
        before = memory._radius.copy()
    assert max(widened) == 1
    assert sum(widened) >= rows


@pytest.mark.parametrize("bad", [{"members": 1}, {"first_radius": 0.0}, {"settle_s": -1.0}, {"members": 10**6}])
def test_settings_that_cannot_work_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="members"):
        NoveltySettings(**bad)  # type: ignore[arg-type]
