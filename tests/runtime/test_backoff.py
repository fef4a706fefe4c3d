"""Waiting before the next attempt: small after a success, doubling after failures, never beyond its bound."""

from __future__ import annotations

import random

import pytest

from runtime.backoff import FIRST_PAUSE_S, LONGEST_PAUSE_S, Backoff


def test_pauses_double_up_to_the_longest_and_start_small_again_after_a_success() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_jitter_leaves_between_half_of_a_pause_and_all_of_it() -> None:
    exact, jittered = Backoff(), Backoff(rng=random.Random(3))
    pauses = [(exact.next_s(), jittered.next_s()) for _ in range(20)]
    assert all(pause / 2 <= shaken <= pause for pause, shaken in pauses)
    assert len({shaken / pause for pause, shaken in pauses}) == 20
    assert (pauses[0][0], pauses[-1][0]) == (FIRST_PAUSE_S, LONGEST_PAUSE_S)


@pytest.mark.parametrize(("first_s", "longest_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_pauses_that_would_spin_or_never_end_are_refused(first_s: float, longest_s: float) -> None:
    with pytest.raises(ValueError, match="0 < first_s <= longest_s"):
        Backoff(first_s, longest_s)
