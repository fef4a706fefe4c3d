"""Where a tensor's range is cut, from a histogram of its values: four methods, all pure functions of the counts.

- `minmax` cuts nothing.
- `percentile` cuts both tails so that `percentile` per cent of the values lie below the upper and above the lower end.
- `entropy` finds the magnitude beyond which values may saturate so that the distribution at 128 levels says most of
  what the original says: the smallest Kullback-Leibler divergence, as published by Migacz, "8-bit Inference with
  TensorRT" (GTC 2017, slides 25-38).
- `mse` finds the fraction of the observed range with the least mean squared error at 255 steps, rounding and
  saturation together (as in Banner et al., "Post training 4-bit quantization", NeurIPS 2019, by search).

Every range contains zero, because zero (padding, ReLU) must be exact. Histograms have `HISTOGRAM_BINS` equal bins from
the smallest to the largest value that was observed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HISTOGRAM_BINS = 4096
METHODS = ("percentile", "minmax", "entropy", "mse")
#: Of the magnitudes' histogram that `entropy` works on, as published.
MAGNITUDE_BINS = 2048
LEVELS = 128
#: Every how many bins `entropy` tries a cut; between two tries the divergence hardly changes.
ENTROPY_STRIDE = 16
STEPS = 255.0
#: Fractions of the observed range that `mse` tries.
MSE_FRACTIONS = np.linspace(0.2, 1.0, 81)

Counts = NDArray[np.int64]


def cut(method: str, counts: Counts, low: float, high: float, percentile: float) -> tuple[float, float]:
    """The range to quantise, zero included, of a tensor whose values were observed from `low` to `high`."""
    if method == "minmax" or counts.sum() == 0 or high <= low:
        return min(0.0, low), max(0.0, high)
    if method == "percentile":
        lower, upper = by_percentile(counts, low, high, percentile)
    elif method == "entropy":
        lower, upper = by_entropy(counts, low, high)
    else:
        lower, upper = by_squared_error(counts, low, high)
    return min(0.0, lower), max(0.0, upper)


def by_percentile(counts: Counts, low: float, high: float, percentile: float) -> tuple[float, float]:
    """Both ends where the given share of values lies within."""
    if percentile >= 100.0:
        return low, high
    width = (high - low) / counts.size
    share = np.cumsum(counts) / int(counts.sum())
    upper = low + width * (int(np.searchsorted(share, percentile / 100.0)) + 1)
    lower = low + width * int(np.searchsorted(share, 1.0 - percentile / 100.0, side="right"))
    return lower, min(upper, high)


def by_entropy(counts: Counts, low: float, high: float) -> tuple[float, float]:
    """The observed range, saturated at the magnitude with the smallest divergence."""
    largest = max(abs(low), abs(high))
    centres = _centres(counts, low, high)
    places = np.minimum((np.abs(centres) / largest * MAGNITUDE_BINS).astype(np.int64), MAGNITUDE_BINS - 1)
    magnitudes = np.asarray(np.bincount(places, counts, MAGNITUDE_BINS), np.float64)
    # Exact zeros (what a ReLU stopped) need no levels and would outweigh all that does: published code drops the
    # first bin for the same reason.
    magnitudes[0] = magnitudes[1]
    tries = range(LEVELS, MAGNITUDE_BINS + 1, ENTROPY_STRIDE)
    best = min(tries, key=lambda bins: (divergence(magnitudes, bins), -bins))
    threshold = largest * best / MAGNITUDE_BINS
    return max(low, -threshold), min(high, threshold)


def divergence(magnitudes: NDArray[np.float64], bins: int) -> float:
    """Kullback-Leibler divergence of the first `bins` bins at 128 levels from the same with the rest saturated."""
    kept = magnitudes[:bins]
    reference = kept.copy()
    reference[-1] += magnitudes[bins:].sum()
    level = np.arange(bins) * LEVELS // bins
    occupied = kept > 0
    mass = np.bincount(level, kept, LEVELS)
    shares = np.bincount(level, occupied, LEVELS)
    candidate = np.where(occupied, mass[level] / np.maximum(shares[level], 1), 0.0)
    total, candidate_total = reference.sum(), candidate.sum()
    if total == 0 or candidate_total == 0:
        return float("inf")
    # A bin that the candidate cannot say at all costs much, not infinitely much.
    p, q = reference / total, np.maximum(candidate / candidate_total, 1e-12)
    told = p > 0
    return float(np.sum(p[told] * np.log(p[told] / q[told])))


def by_squared_error(counts: Counts, low: float, high: float) -> tuple[float, float]:
    """The fraction of the observed range with the least squared error."""
    centres = _centres(counts, low, high)
    floor, ceiling = min(0.0, low), max(0.0, high)
    errors = [_squared_error(counts, centres, floor * part, ceiling * part) for part in MSE_FRACTIONS]
    # Of equals the widest.
    best = MSE_FRACTIONS[len(errors) - 1 - int(np.argmin(errors[::-1]))]
    return floor * float(best), ceiling * float(best)


def _squared_error(counts: Counts, centres: NDArray[np.float64], low: float, high: float) -> float:
    step = max((high - low) / STEPS, 1e-30)
    quantised = np.clip(np.rint((centres - low) / step), 0, STEPS) * step + low
    return float(np.sum(counts * (centres - quantised) ** 2))


def _centres(counts: Counts, low: float, high: float) -> NDArray[np.float64]:
    return np.asarray(low + (np.arange(counts.size) + 0.5) * ((high - low) / counts.size), np.float64)
