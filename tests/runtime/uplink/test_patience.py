"""When a session is given up: at once (15 s) where nothing is heard, later where only one answer is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.uplink.patience import DELAYS_OF_AN_ANSWER, SILENCES_OF_AN_ANSWER, Patience

SECOND_NS = 1_000_000_000
SILENCE_S = 15


def heard_at(seconds: float) -> Patience:
    patience = Patience(SILENCE_S)
    patience.heard(int(seconds * SECOND_NS))
    return patience


def gives_up_after_s(patience: Patience, since_s: int, delay_s: float) -> int:
    """The first whole second in which an answer that is due since then is waited for no longer."""
    waits = [None, since_s * SECOND_NS]
    return next(
        second for second in range(10_000) if patience.is_over(waits, int(delay_s * SECOND_NS), second * SECOND_NS)
    )


def test_where_no_answer_is_due_silence_means_nothing():
    assert not heard_at(0).is_over([None, None], 0, 10_000 * SECOND_NS)
    assert not heard_at(0).is_over([], 0, 10_000 * SECOND_NS)


@pytest.mark.parametrize("delay_s", [0, 1, 12, 1000])
def test_silence_while_an_answer_is_due_ends_a_session_however_slow_the_link_was(delay_s):
    assert gives_up_after_s(heard_at(5), 5, delay_s) == 5 + SILENCE_S + 1
    assert gives_up_after_s(heard_at(5), 40, delay_s) == 40 + SILENCE_S + 1, "it was due from then on"


def test_on_a_fast_link_one_missing_answer_ends_a_session_as_soon_as_silence_does():
    assert gives_up_after_s(heard_at(14), 5, 0.2) == 5 + SILENCE_S + 1


def test_on_a_slow_link_an_answer_may_come_late_while_others_come():
    patience = Patience(SILENCE_S)
    for second in range(0, 48, 8):  # an ACK every eight seconds, each twelve seconds late
        patience.heard(second * SECOND_NS)
        assert not patience.is_over([0], 12 * SECOND_NS, (second + 7) * SECOND_NS)
    assert patience.is_over([0], 12 * SECOND_NS, 48 * SECOND_NS + 1), "it is lost: four times as long as an ACK took"


@given(st.integers(0, 10**6), st.integers(0, 10**4), st.integers(0, 10**5))
def test_no_answer_is_waited_for_without_end(since_s, delay_s, waited_s):
    now_ns = (since_s + waited_s) * SECOND_NS
    is_over = heard_at(since_s + waited_s).is_over([since_s * SECOND_NS], delay_s * SECOND_NS, now_ns)
    assert is_over or waited_s <= max(SILENCE_S, min(DELAYS_OF_AN_ANSWER * delay_s, SILENCES_OF_AN_ANSWER * SILENCE_S))
