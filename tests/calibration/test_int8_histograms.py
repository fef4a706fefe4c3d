from __future__ import annotations

import numpy as np
import pytest

from calibration.int8.histograms import HISTOGRAM_BINS, METHODS, by_squared_error, cut, divergence
from calibration.int8.ranges import histogram


def counts_of(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    low, high = float(values.min()), float(values.max())
    return histogram(values, low, high), low, high


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    return float(np.mean((np.clip(np.rint((values - low) / step), 0, 255) * step + low - values) ** 2))


@pytest.fixture
def tailed() -> np.ndarray:
    """A bell with a few values far out, as SiLU networks have them."""
    generator = np.random.default_rng(3)
    return np.concatenate([generator.normal(0, 1, 200_000), generator.uniform(20, 40, 20)]).astype(np.float32)


def test_a_histogram_counts_every_value_once(tailed: np.ndarray) -> None:
    counts, low, high = counts_of(tailed)
    assert counts.size == HISTOGRAM_BINS
    assert counts.sum() == tailed.size
    expected = np.histogram(tailed.astype(np.float64), HISTOGRAM_BINS, (low, high))[0]
    assert np.abs(counts - expected).sum() <= 0.001 * tailed.size  # float32 bin edges against float64


@pytest.mark.parametrize("method", METHODS)
def test_every_range_holds_zero_and_stays_within_what_was_seen(method: str) -> None:
    values = np.random.default_rng(1).uniform(2, 5, 10_000).astype(np.float32)
    low, high = cut(method, *counts_of(values), 99.9)
    assert low == 0.0
    assert 0.0 < high <= float(values.max()) + 1e-6


def test_min_max_keeps_outliers_and_the_others_cut_them(tailed: np.ndarray) -> None:
    counts, low, high = counts_of(tailed)
    assert cut("minmax", counts, low, high, 100.0)[1] == high
    for method in ("percentile", "entropy"):
        assert cut(method, counts, low, high, 99.9)[1] < 20.0


def test_squared_error_finds_the_better_range_on_the_values_themselves(tailed: np.ndarray) -> None:
    generator = np.random.default_rng(5)
    values = np.concatenate([generator.normal(0, 1, 500_000), [-60.0, 60.0]]).astype(np.float32)
    counts, low, high = counts_of(values)
    found = by_squared_error(counts, low, high)
    assert found[1] < high
    assert squared_error(values, *found) < squared_error(values, low, high)


def test_nothing_diverges_from_itself_and_saturation_does() -> None:
    even = np.full(2048, 7.0)
    assert divergence(even, 2048) == pytest.approx(0.0, abs=1e-9)
    assert divergence(even, 1024) > 0.1


def test_an_even_distribution_is_not_cut_by_entropy() -> None:
    values = np.linspace(0, 1, 400_000, dtype=np.float32)
    assert cut("entropy", *counts_of(values), 100.0)[1] == pytest.approx(1.0, abs=0.01)


def test_a_tensor_without_spread_keeps_its_value() -> None:
    assert cut("mse", np.zeros(HISTOGRAM_BINS, np.int64), 3.0, 3.0, 99.9) == (0.0, 3.0)
