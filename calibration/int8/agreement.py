"""How much faster one file of a network is than another, measured in the same run; and a first look at agreement.

Both files run on one thread and take turns, in changing order, so that whatever else the machine does falls on both.
They are opened anew `OPENINGS` times, because where a file's memory comes to lie moves its speed by a few per cent for
as long as it is open: rounds of one opening are not independent of each other, openings are. Each opening gives one
ratio, the median of its rounds; the result is the median over openings, and its uncertainty the interval between two
order statistics that holds the true median with 95 % probability whatever the distribution (David and Nagaraja, "Order
Statistics", 2003, section 7.1). The number of openings and rounds is fixed before the first of them: who goes on
measuring until the interval excludes 1 finds a difference sooner or later where there is none.

For whether INT8 says what FP32 says, head by head, see `gate`; `measure_agreement` is the short form of it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from calibration.int8.gate import AccuracyGate
from calibration.int8.player import HeldOut, NetworkFile
from calibration.int8.ranges import Feed
from calibration.int8.sampling import Sample
from calibration.metrics import cosine as cosine
from runtime.inference.manifest import Manifest

WARM_UP_RUNS = 2
OPENINGS = 15
ROUNDS_OF_AN_OPENING = 6
#: With fewer openings no two order statistics hold the median with 95 %.
FEWEST_FOR_INTERVAL = 6
CONFIDENCE = 0.95

Clock = Callable[[], float]  # seconds


@dataclass(frozen=True, slots=True)
class SpeedComparison:
    """Two files of a network, timed in turns."""

    fp32_ms: float  # medians
    int8_ms: float
    speed_up: float  # median over openings of FP32's time over INT8's
    low: float  # 95 % interval of `speed_up`
    high: float
    openings: int

    @property
    def is_faster(self) -> bool:
        """INT8 is faster, with 95 % probability."""
        return self.low > 1.0

    @property
    def is_slower(self) -> bool:
        """INT8 is slower, with 95 % probability."""
        return self.high < 1.0

    @property
    def statement(self) -> str:
        """The result in one sentence, with its uncertainty."""
        if self.is_faster:
            verdict = "faster"
        elif self.is_slower:
            verdict = "slower"
        else:
            verdict = "neither faster nor slower as far as can be told"
        spread = f"{self.low:.2f} to {self.high:.2f} with {CONFIDENCE:.0%} confidence, {self.openings} openings"
        return f"INT8 runs {self.speed_up:.2f} times as fast as FP32 on one thread ({spread}): {verdict}"


class Runs(Protocol):
    """An open network."""

    def run(self, feed: Feed) -> object:
        """Run it once."""


def compare_speed(
    fp32: Path | bytes,
    int8: Path | bytes,
    feeds: Sequence[Feed],
    openings: int = OPENINGS,
    clock: Clock = time.perf_counter,
    opened: Callable[[Path | bytes], Runs] = NetworkFile,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SpeedComparison:
    """Time both on the same feeds, in turns. Raises ValueError without feeds or with too few openings."""
    if not feeds:
        raise ValueError("no feeds to time the network on; ask for more samples")
    if openings < FEWEST_FOR_INTERVAL:
        raise ValueError(f"openings is {openings}; with fewer than {FEWEST_FOR_INTERVAL} there is no 95 % interval")
    times: list[tuple[float, float]] = []
    ratios: list[float] = []
    for number in range(openings):
        rounds = _one_opening(opened(fp32), opened(int8), feeds, number, clock)
        times += rounds
        ratios.append(statistics.median(slow / fast for slow, fast in rounds))
        progress(number + 1, openings)
    low, high = median_interval(ratios)
    medians = [statistics.median(column) * 1e3 for column in zip(*times, strict=True)]
    return SpeedComparison(medians[0], medians[1], statistics.median(ratios), low, high, openings)


def _one_opening(fp32: Runs, int8: Runs, feeds: Sequence[Feed], number: int, clock: Clock) -> list[tuple[float, float]]:
    """Seconds of both, round by round; both files have just been opened."""
    for network in (fp32, int8):
        for index in range(WARM_UP_RUNS):
            network.run(feeds[index % len(feeds)])
    turns = range(number, number + ROUNDS_OF_AN_OPENING)
    return [_round(fp32, int8, feeds[turn % len(feeds)], turn % 2 == 1, clock) for turn in turns]


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that holds the median with 95 %; both ends with few values."""
    ordered, count = sorted(values), len(values)
    tail, outside = 0.0, 0
    while outside < count // 2:
        tail += math.comb(count, outside) * 0.5**count
        if 2.0 * tail > 1.0 - CONFIDENCE:
            break
        outside += 1
    first = max(outside - 1, 0)
    return ordered[first], ordered[count - 1 - first]


def _round(fp32: Runs, int8: Runs, feed: Feed, reverse: bool, clock: Clock) -> tuple[float, float]:
    """Seconds of both; never 0, whatever the clock's resolution."""
    spent = [0.0, 0.0]
    order = ((1, int8), (0, fp32)) if reverse else ((0, fp32), (1, int8))
    for place, network in order:
        started = clock()
        network.run(feed)
        spent[place] = max(clock() - started, 1e-9)
    return spent[0], spent[1]


@dataclass(frozen=True, slots=True)
class Agreement:
    """INT8 against FP32 on samples that the ranges were not measured on."""

    samples: int
    cosine: dict[str, float]  # by output, mean over samples
    detections: int  # of FP32
    detections_kept: int
    best_score_fp32: float
    best_score_int8: float
    fp32_ms: float
    int8_ms: float

    @property
    def kept_share(self) -> float:
        """1.0 when FP32 found nothing to keep."""
        return self.detections_kept / self.detections if self.detections else 1.0

    @property
    def speed_up(self) -> float:
        """How many times faster INT8 is."""
        return self.fp32_ms / self.int8_ms


def measure_agreement(fp32: Path, int8: Path, manifest: Manifest, samples: Sequence[Sample]) -> Agreement:
    """Run both files on the samples; raises ValueError without samples."""
    result = AccuracyGate(fp32, manifest, samples).measure(int8)
    held_out = HeldOut(fp32, manifest, samples)
    speed = compare_speed(fp32, int8, held_out.feeds)
    kept = [score for score in result.scores if score.metric == "kept_share"]
    best = [score for score in result.scores if score.metric == "best_score"]
    return Agreement(
        samples=len(samples),
        cosine=result.cosine,
        detections=sum(score.count for score in kept),
        detections_kept=sum(round((score.value or 0.0) * score.count) for score in kept),
        best_score_fp32=max((score.fp32 or 0.0 for score in best), default=0.0),
        best_score_int8=max((score.candidate or 0.0 for score in best), default=0.0),
        fp32_ms=speed.fp32_ms,
        int8_ms=speed.int8_ms,
    )
