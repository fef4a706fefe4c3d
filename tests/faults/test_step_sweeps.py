"""A sweep that says "every step" goes through every step: of the counted round, and of one that turns out longer."""

from __future__ import annotations

from collections import Counter

import pytest
from step_sweeps import killed_at_every_step, steps_in_turn


@pytest.mark.parametrize("steps", [1, 7, 229])
def test_one_pass_is_every_step_once_in_order(steps):
    assert list(steps_in_turn(steps, 1.0)) == list(range(1, steps + 1))


def test_a_tenth_is_spread_over_all_steps_and_never_nothing():
    assert list(steps_in_turn(50, 0.1)) == [1, 11, 21, 31, 41]
    assert list(steps_in_turn(5, 0.001)) == [1]


def test_more_than_one_pass_repeats_every_step():
    assert set(Counter(steps_in_turn(40, 3.0)).values()) == {3}
    assert Counter(Counter(steps_in_turn(40, 2.5)).values()) == {2: 20, 3: 20}


def test_a_round_longer_than_the_counted_one_is_gone_through_to_its_end():
    tried = []

    def dies_at(at: int) -> bool:
        tried.append(at)
        return 0 < at <= 12  # ten were counted

    assert killed_at_every_step(10, 1.0, dies_at) == 12
    assert tried == [*range(1, 11), 0, 11, 0, 12, 0, 13]
    assert killed_at_every_step(10, 0.5, dies_at) == 5


def test_victims_that_die_without_end_are_told():
    with pytest.raises(AssertionError, match="still dies"):
        killed_at_every_step(4, 1.0, lambda at: at > 0)
