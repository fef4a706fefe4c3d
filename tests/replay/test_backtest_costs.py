"""Costs, overlaps and rates of a backtest, against figures worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.backtest.clip_costs import ClipSettling, clips_of, total_bytes, window_ns
from replay.backtest.overlaps import overlap_shares
from replay.backtest.statistics import grade_facts, poisson_95
from replay.truth import RuleGrade
from runtime.messages import CaptureWindow, Firing, Priority

SECOND_NS = 1_000_000_000
RATES = {"front": 1000.0, "rear": 500.0}


def firing(rule: str, at_s: float, pre_s: float = 2.0, post_s: float = 1.0, cameras: tuple[str, ...] = ()) -> Firing:
    capture = CaptureWindow(pre_s, post_s, cameras)
    time_ns = round(at_s * SECOND_NS)
    return Firing(rule, "v", time_ns // 1_000_000, time_ns, 0, {}, Priority.NORMAL, capture)


def test_overlapping_windows_are_paid_for_once() -> None:
    alone = total_bytes(clips_of([firing("a", 10)]), RATES)
    assert alone == 3.0 * 1500.0
    together = [firing("a", 10), firing("b", 11), firing("a", 30)]
    assert total_bytes(clips_of(together), RATES) == (4.0 + 3.0) * 1500.0


def test_only_the_cameras_that_a_rule_asks_for_are_paid_for() -> None:
    assert total_bytes(clips_of([firing("a", 10, cameras=("rear",))]), RATES) == 3.0 * 500.0
    with_all = [firing("a", 10, cameras=("rear",)), firing("b", 10)]
    assert total_bytes(clips_of(with_all), RATES) == 3.0 * 1500.0
    assert total_bytes(clips_of([firing("a", 10, cameras=("none_of_these",))]), RATES) == 0.0


def test_window_over_the_edge_of_the_drive_counts_in_full() -> None:
    assert total_bytes(clips_of([firing("a", 0.5)]), RATES) == 3.0 * 1500.0


def test_clips_are_cut_at_the_recorders_longest() -> None:
    firings = [firing("a", at_s) for at_s in range(10, 200, 2)]
    assert all(plan.end_ns - plan.start_ns <= 60 * SECOND_NS for plan in clips_of(firings))


def test_clip_is_settled_once_when_it_is_over_in_shares_of_what_each_asked_for() -> None:
    settling = ClipSettling(RATES)
    settling.take([firing("a", 10), firing("b", 10.5, pre_s=0.5)])
    assert settling.sealed(11 * SECOND_NS) == []
    assert settling.sealed(round(11.5 * SECOND_NS)) == []
    shares = settling.sealed(round(11.6 * SECOND_NS))
    assert [(each.rule, size) for each, size in shares] == [("a", 3500), ("b", 1750)]  # 3.5 s of 1500 B/s, 3 to 1.5
    assert settling.sealed(20 * SECOND_NS) == []


def test_overlap_is_the_share_of_the_rows_firings() -> None:
    drive = [firing("a", 10), firing("a", 20), firing("b", 12.9), firing("c", 60)]
    assert overlap_shares([drive]) == {"a": {"b": 0.5}, "b": {"a": 1.0}, "c": {}}


def test_windows_of_different_drives_never_overlap() -> None:
    assert overlap_shares([[firing("a", 10)], [firing("b", 10)]]) == {"a": {}, "b": {}}


moments = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200), st.integers(0, 9), st.integers(0, 9)))


@given(moments)
def test_overlap_agrees_with_looking_at_every_pair(said: list[tuple[str, int, int, int]]) -> None:
    firings = [firing(rule, at_s, pre_s, post_s) for rule, at_s, pre_s, post_s in said]
    windows = [(each.rule, *window_ns(each.capture, each.time_ns)) for each in firings]
    for rule, others in overlap_shares([firings]).items():
        own = [window for window in windows if window[0] == rule]
        for other in set("abc") - {rule}:
            touching = sum(any(b[0] == other and b[1] <= a[2] and a[1] <= b[2] for b in windows) for a in own)
            assert others.get(other, 0.0) == touching / len(own)


def test_rate_of_nothing_has_an_upper_bound() -> None:
    low, high = poisson_95(0, 1.0)
    assert low == 0.0
    assert high == pytest.approx(3.69, abs=0.05)  # exact: 3.689
    low, high = poisson_95(10, 2.0)
    assert (low * 2, high * 2) == pytest.approx((4.795, 18.39), abs=0.05)  # exact, Garwood 1936


def test_share_of_nothing_is_unknown() -> None:
    assert grade_facts(RuleGrade()) == {"hit": 0, "missed": 0, "false": 0, "precision": None, "recall": None}
    facts = grade_facts(RuleGrade(hit=3, missed=1, false=2))
    assert (facts["precision"], facts["recall"]) == (0.6, 0.75)
