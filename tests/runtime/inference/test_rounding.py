"""Many numbers are rounded as Python rounds each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.inference.rounding import round_like_python

_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_HALVES = st.integers(-(10**7), 10**7).map(lambda number: (2 * number + 1) / 2000.0)


@given(st.lists(_NUMBERS | _HALVES, max_size=20), st.integers(1, 4))
def test_each_number_is_what_round_makes_of_it(numbers: list[float], digits: int) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = round_like_python(np.array(numbers), digits)
    assert [number.hex() for number in rounded.tolist()] == [round(number, digits).hex() for number in numbers]


@pytest.mark.parametrize("number", [0.0005, 2.6745, 1.0005, 8.3145, -0.0005, 1e300, 123456789.0125])
def test_a_half_that_scaling_would_take_to_the_other_side_is_asked_of_python(number: float) -> None:
    assert round_like_python(np.array([number]), 3).tolist() == [round(number, 3)]


def test_what_is_not_a_number_stays_so() -> None:
    rounded = round_like_python(np.array([[math.nan, 1.23456]]), 2)
    assert np.isnan(rounded[0, 0])
    assert rounded[0, 1] == 1.23
