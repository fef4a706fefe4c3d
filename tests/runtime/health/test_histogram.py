"""The latency histogram keeps its error, its exact extremes and its memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.health.histogram import LARGEST_NS, SMALLEST_NS, LatencyHistogram

latencies = st.lists(st.integers(SMALLEST_NS, LARGEST_NS), min_size=1, max_size=300)


def filled(values: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record_ns(value)
    return histogram


@settings(max_examples=150, deadline=None)
@example([3092, 3123], 0.0)  # both ends of a bucket of 2 %, whose middle is rounded up
@given(latencies, st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_every_quantile_is_within_one_percent_of_the_true_one(values, quantile):
    true = sorted(values)[max(0, math.ceil(quantile * len(values)) - 1)]
    assert filled(values).quantile_ns(quantile) == pytest.approx(true, rel=0.01)


@settings(max_examples=50, deadline=None)
@given(latencies, latencies)
def test_merging_is_the_same_as_recording_everything_in_one(left, right):
    merged = filled(left)
    merged.merge(filled(right))
    assert merged.to_dict() == filled(left + right).to_dict()


def test_extremes_and_mean_are_exact():
    report = filled([5_000_000, 7_000_000, 18_000_123]).to_dict()
    assert report["max"] == 18.000123
    assert report["mean"] == 10.000041
    assert report["count"] == 3


def test_nothing_counted_is_unknown_and_not_zero():
    assert LatencyHistogram().to_dict() == {
        "count": 0,
        "mean": None,
        "p50": None,
        "p90": None,
        "p99": None,
        "p99_9": None,
        "max": None,
    }


def test_values_outside_the_range_are_counted_at_its_ends():
    histogram = filled([0, 10 * LARGEST_NS])
    assert histogram.count == 2
    assert histogram.quantile_ns(1.0) == 10 * LARGEST_NS
    assert sum(count for _, _, count in histogram.buckets()) == 2


def test_a_negative_latency_is_an_error_of_the_caller():
    with pytest.raises(ValueError, match="two clocks"):
        LatencyHistogram().record_ns(-1)


def test_clearing_forgets_everything():
    histogram = filled([5_000_000])
    histogram.clear()
    assert histogram.to_dict() == LatencyHistogram().to_dict()
