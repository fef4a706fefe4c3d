"""Latencies in bounded memory: a histogram with logarithmic buckets.

Neighbouring bucket edges differ by the factor `GROWTH`, and a quantile answers with the geometric middle of its
bucket: it is wrong by at most sqrt(1.019) - 1 of the true value (DDSketch, Masson, Rim, Lee 2019, section 2,
https://arxiv.org/abs/1908.10693) and, in whole nanoseconds, by half a one more: by less than 1 %. Values from 1 us to
1000 s keep that promise; smaller ones count as 1 us, larger ones as 1000 s; count, mean, min and max are exact.
Recording touches one preallocated array and never allocates a bucket, so that the tick may do it. Two histograms merge
exactly, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from runtime.messages import NANOSECONDS_PER_MILLISECOND

GROWTH = 1.019
SMALLEST_NS = 1_000
LARGEST_NS = 1_000_000_000_000
_PER_LOG = 1.0 / math.log(GROWTH)
_BUCKETS = math.ceil(math.log(LARGEST_NS / SMALLEST_NS) * _PER_LOG) + 1

#: The quantiles that reports show, by the key they have there.
REPORTED_QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}


class LatencyHistogram:
    """Counts durations in nanoseconds."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self.count = 0
        self.sum_ns = 0
        self.min_ns = 0
        self.max_ns = 0

    def record_ns(self, duration_ns: int) -> None:
        """Count one duration; negative ones are an error of the caller.

        Raises:
            ValueError: the duration is negative.
        """
        if duration_ns < 0:
            raise ValueError(f"a latency of {duration_ns} ns is negative: two clocks were mixed")
        self._counts[_bucket(duration_ns)] += 1
        self.min_ns = duration_ns if self.count == 0 else min(self.min_ns, duration_ns)
        self.max_ns = max(self.max_ns, duration_ns)
        self.count += 1
        self.sum_ns += duration_ns

    def quantile_ns(self, quantile: float) -> int | None:
        """The duration that a share `quantile` of all stays at or below; None while nothing was counted."""
        if not 0.0 <= quantile <= 1.0:
            raise ValueError(f"quantile {quantile} is not between 0 and 1")
        if self.count == 0:
            return None
        rank = max(1, math.ceil(quantile * self.count))
        if rank == self.count:
            return self.max_ns
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        middle_ns = float(SMALLEST_NS * GROWTH ** (bucket + 0.5))
        return round(min(max(middle_ns, self.min_ns), self.max_ns))

    def merge(self, other: LatencyHistogram) -> None:
        """Add everything that `other` has counted."""
        if other.count == 0:
            return
        self.min_ns = other.min_ns if self.count == 0 else min(self.min_ns, other.min_ns)
        self.max_ns = max(self.max_ns, other.max_ns)
        self._counts += other._counts
        self.count += other.count
        self.sum_ns += other.sum_ns

    def clear(self) -> None:
        """Forget everything, without giving memory back."""
        self._counts.fill(0)
        self.count = self.sum_ns = self.min_ns = self.max_ns = 0

    def to_dict(self) -> dict[str, float | int | None]:
        """Milliseconds: `{"count", "mean", "p50", "p90", "p99", "p99_9", "max"}`; None while nothing was counted."""
        report: dict[str, float | int | None] = {"count": self.count}
        report["mean"] = _milliseconds(self.sum_ns / self.count) if self.count else None
        for name, quantile in REPORTED_QUANTILES.items():
            value_ns = self.quantile_ns(quantile)
            report[name] = None if value_ns is None else _milliseconds(value_ns)
        report["max"] = _milliseconds(self.max_ns) if self.count else None
        return report

    def buckets(self) -> list[tuple[float, float, int]]:
        """`(from_ms, to_ms, count)` of every bucket that is not empty, for pictures."""
        filled: list[int] = np.flatnonzero(self._counts).tolist()
        return [(_milliseconds(_edge(i)), _milliseconds(_edge(i + 1)), int(self._counts[i])) for i in filled]


def _bucket(duration_ns: int) -> int:
    if duration_ns <= SMALLEST_NS:
        return 0
    return min(int(math.log(duration_ns / SMALLEST_NS) * _PER_LOG), _BUCKETS - 1)


def _edge(bucket: int) -> float:
    return float(SMALLEST_NS * GROWTH**bucket)


def _milliseconds(nanoseconds: float) -> float:
    return round(nanoseconds / NANOSECONDS_PER_MILLISECOND, 6)
