"""A rule with a score keeps the best of a day in its bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.evaluation.chance import uniform
from triggers.selection.budgets import DAY_NS
from triggers.selection.ranking import MAX_SCORES, ScoreRanking

SIZE = 1000


def live(ranking: ScoreRanking, times_ns: Sequence[int], scores: Sequence[float | None]) -> list[int]:
    """Positions of the events that are kept."""
    kept = []
    for place, (time_ns, score) in enumerate(zip(times_ns, scores, strict=True)):
        if ranking.accepts(time_ns, score, SIZE, uniform(0, time_ns)) and ranking.has_room(time_ns, SIZE):
            ranking.spending.spent_bytes += SIZE
            kept.append(place)
    return kept


def day_of(day: int, count: int, seed: int) -> tuple[list[int], list[float]]:
    generator = np.random.default_rng((seed, day))
    times = np.sort(generator.uniform(day, day + 1, count))
    return [int(time * DAY_NS) for time in times], generator.lognormal(0, 1, count).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_it_gets_most_of_what_seeing_the_whole_day_would_have_got(seed: int) -> None:
    ranking, ratios = ScoreRanking(40 * SIZE), []
    for day in range(4):
        times_ns, scores = day_of(day, 800, seed)
        kept = live(ranking, times_ns, scores)
        ratios.append(sum(scores[place] for place in kept) / sum(sorted(scores)[-40:]))
    assert min(ratios) > 0.8
    assert np.mean(ratios) > 0.9


@given(st.lists(st.tuples(st.integers(0, DAY_NS // 50), st.floats(-1e9, 1e9) | st.none()), max_size=150))
def test_no_day_of_it_exceeds_the_budget(events: list[tuple[int, float | None]]) -> None:
    times_ns = np.cumsum([gap_ns for gap_ns, _ in events], dtype=np.int64).tolist()
    kept = live(ScoreRanking(7 * SIZE), times_ns, [score for _, score in events])
    days = [(times_ns[place] - times_ns[0]) // DAY_NS for place in kept]
    assert all(days.count(day) <= 7 for day in set(days))


def test_an_unknown_score_ranks_below_every_known_one() -> None:
    ranking = ScoreRanking(20 * SIZE)
    for day in range(2):
        times_ns, scores = day_of(day, 400, 1)
        mixed = [score if place % 2 else None for place, score in enumerate(scores)]
        kept = live(ranking, times_ns, mixed)
    assert kept
    assert all(mixed[place] is not None for place in kept)


def test_unknown_scores_are_kept_while_there_is_room_for_everything() -> None:
    ranking = ScoreRanking(1000 * SIZE)
    times_ns, _ = day_of(0, 30, 0)
    assert len(live(ranking, times_ns, [None] * 30)) == 30


def test_equal_scores_lose_nothing() -> None:
    ranking = ScoreRanking(10 * SIZE)
    for day in range(2):
        times_ns, scores = day_of(day, 200, 0)
        kept = live(ranking, times_ns, [1.0] * len(scores))
    assert len(kept) == 10


def test_hours_in_which_nothing_comes_are_not_waited_for_once_they_are_known() -> None:
    ranking, ratios = ScoreRanking(20 * SIZE), []
    for day in range(3):
        times_ns, scores = day_of(0, 400, day)
        drive_ns = [day * DAY_NS + time_ns // 48 for time_ns in times_ns]  # half an hour a day
        kept = live(ranking, drive_ns, scores)
        ratios.append(sum(scores[place] for place in kept) / sum(sorted(scores)[-20:]))
    assert ratios[0] < min(ratios[1:])
    assert min(ratios[1:]) > 0.8


def test_memory_is_bounded() -> None:
    ranking, chance = ScoreRanking(SIZE), random.Random(0)
    for step in range(3 * MAX_SCORES):
        ranking.accepts(step * 10**9, chance.random(), SIZE, 0.5)
    assert len(ranking.to_dict()["scores"]) == len(ranking._sorted) == MAX_SCORES
    assert ranking._sorted == sorted(ranking._newest)


@given(st.integers(1, 399))
def test_a_saved_ranking_goes_on_as_if_nothing_had_happened(stop: int) -> None:
    times_ns, scores = [], []
    for day in range(2):
        more_ns, more = day_of(day, 200, 3)
        times_ns += more_ns
        scores += more
    whole = live(ScoreRanking(10 * SIZE), times_ns, scores)
    first, second = ScoreRanking(10 * SIZE), ScoreRanking(10 * SIZE)
    kept = live(first, times_ns[:stop], scores[:stop])
    second.load(json.loads(json.dumps(first.to_dict())), is_same_rule=True)
    kept += [stop + place for place in live(second, times_ns[stop:], scores[stop:])]
    assert kept == whole
