"""What a value-ranked budget loses against an offline optimum that sees the whole day beforehand.

    python tests/benchmarks/ranked_budget_regret.py [--runs 20] [--events 800] [--keep 40] [--json FILE]

For each arrival process, several vehicles (seeds) live `DAYS` days. Every event has a score and the same size; a day's
budget holds `--keep` clips of about `--events`. The ratio is the sum of the kept scores over the sum of the best `keep`
scores of the same day, on the first day (nothing is known of arrivals and scores) and on the later ones. Beside it
stand first come, first kept, and a random choice that knows the number of events beforehand.
Scores are log-normal: most events are dull and a few are worth a lot.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triggers.selection.budgets import DAY_NS
from triggers.selection.ranking import ScoreRanking

DAYS = 6
CLIP_BYTES = 40_000_000

Floats = NDArray[np.float64]
Day = tuple[Floats, Floats]  # times in days, ascending; scores
Process = Callable[[np.random.Generator, int, int], Day]


def lognormal(generator: np.random.Generator, count: int) -> Floats:
    return generator.lognormal(0.0, 1.0, count)


def poisson(generator: np.random.Generator, events: int, day: int) -> Day:
    times = np.sort(generator.uniform(0, 1, generator.poisson(events)))
    return times, lognormal(generator, len(times))


def drives(generator: np.random.Generator, events: int, day: int) -> Day:
    """Two drives a day, half an hour each, at nearly the same times; nothing in between."""
    starts = np.array([8.0, 17.5]) / 24 + generator.normal(0, 0.2 / 24, 2)
    times = np.sort(np.concatenate([start + generator.uniform(0, 0.5 / 24, events // 2) for start in starts]))
    return times, lognormal(generator, len(times))


def bursty(generator: np.random.Generator, events: int, day: int) -> Day:
    """Bursts of 20 within two minutes, at any time; the scores of a burst resemble each other."""
    bursts = max(1, int(generator.poisson(events / 20)))
    starts = np.repeat(generator.uniform(0, 0.99, bursts), 20)
    times = starts + generator.uniform(0, 2 / 1440, len(starts))
    scores = np.repeat(lognormal(generator, bursts), 20) * generator.lognormal(0.0, 0.3, len(starts))
    order = np.argsort(times)
    return times[order], scores[order]


def diurnal(generator: np.random.Generator, events: int, day: int) -> Day:
    """Arrivals ten times as dense at noon as at midnight."""
    candidates = generator.uniform(0, 1, generator.poisson(events * 2))
    density = 0.55 - 0.45 * np.cos(2 * math.pi * candidates)
    times = np.sort(candidates[generator.uniform(0, 1.1, len(candidates)) < density])
    return times, lognormal(generator, len(times))


def drifting(generator: np.random.Generator, events: int, day: int) -> Day:
    """Scores swing by a factor of three over four days, and events by a factor of two."""
    times = np.sort(generator.uniform(0, 1, generator.poisson(events * (1 + 0.33 * math.sin(day * 1.6)))))
    return times, lognormal(generator, len(times)) * 3 ** np.sin(2 * math.pi * (day + times) / 4)


def increasing(generator: np.random.Generator, events: int, day: int) -> Day:
    """Adversarial: every event of a day is better than all before it."""
    times, scores = poisson(generator, events, day)
    return times, np.sort(scores)


def decreasing(generator: np.random.Generator, events: int, day: int) -> Day:
    """Adversarial the other way: the best come first."""
    times, scores = poisson(generator, events, day)
    return times, np.sort(scores)[::-1]


PROCESSES: dict[str, Process] = {
    "poisson": poisson,
    "two drives": drives,
    "bursty": bursty,
    "diurnal": diurnal,
    "drifting": drifting,
    "increasing": increasing,
    "decreasing": decreasing,
}


def ranked(days: Sequence[Day], keep: int) -> list[float]:
    """The sum of the scores that the ranking keeps, by day."""
    ranking, sums = ScoreRanking(keep * CLIP_BYTES), []
    lots = np.random.default_rng(0)
    for day, (times, scores) in enumerate(days):
        kept = 0.0
        for time, score in zip(times, scores, strict=True):
            time_ns = round((day + float(time)) * DAY_NS)
            is_worth_it = ranking.accepts(time_ns, float(score), CLIP_BYTES, lots.random())
            if is_worth_it and ranking.has_room(time_ns, CLIP_BYTES):
                ranking.spending.spent_bytes += CLIP_BYTES
                kept += float(score)
        sums.append(kept)
    return sums


def measure(process: Process, runs: int, events: int, keep: int) -> dict[str, float]:
    """Ratios to the offline optimum, means over the runs."""
    online, first, random, worst = [], [], [], []
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        days = [process(generator, events, day) for day in range(DAYS)]
        best = np.array([np.sort(scores)[-keep:].sum() for _, scores in days])
        online.append(np.array(ranked(days, keep)) / best)
        first.append(np.array([scores[:keep].sum() for _, scores in days]) / best)
        random.append(np.array([scores.mean() * min(keep, len(scores)) for _, scores in days]) / best)
        worst.append(online[-1][1:].min())
    return {
        "first_day": float(np.mean([ratios[0] for ratios in online])),
        "later_days": float(np.mean([ratios[1:] for ratios in online])),
        "worst_later_day": float(min(worst)),
        "first_come": float(np.mean(first)),
        "random": float(np.mean(random)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Regret of value-ranked budgets.")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--events", type=int, default=800)
    parser.add_argument("--keep", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    facts = {name: measure(each, arguments.runs, arguments.events, arguments.keep) for name, each in PROCESSES.items()}
    columns = list(next(iter(facts.values())))
    print(f"{'ratio to the offline optimum':30}" + "".join(f"{column:>17}" for column in columns))
    for name, ratios in facts.items():
        print(f"{name:30}" + "".join(f"{ratios[column]:17.3f}" for column in columns))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
