"""Shadowrig's past-time operators beside rtamt and reelay: the same formulas, the same trace, in one run.

    python -m tests.benchmarks.temporal_logic_comparison [--pairs 10000] [--samples 3000] [--json FILE]

First, agreement: hypothesis draws `--pairs` formulas and traces, and every verdict that the rule language knows must be
the one that the others give. Then cost: microseconds per sample and formula for one formula alone and for a set of
different ones, with windows of 10, 100 and 1000 samples, each as a ratio to Shadowrig's. rtamt is Python, reelay is C++
behind Python. A set is one program here and as many monitors there. Needs `pip install 'shadowrig[bench]'`; exits with
1 when a verdict differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tests.triggers.temporal_logic_monitors import (
    MONITORS,
    Formula,
    Trace,
    disagreements,
    formulas,
    traces,
)

WINDOWS = (10, 100, 1000)
SET_SIZE = 50


def agreement(pairs: int) -> dict[str, int]:
    """Compare that many pairs; raises AssertionError with the smallest difference that hypothesis finds."""
    counts = {"pairs": 0, "samples": 0, "samples_compared": 0, "with_rtamt": 0}

    @settings(max_examples=pairs, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(formulas(longest_steps=8), traces(length=60))
    def compare(formula: Formula, trace: Trace) -> None:
        found, compared = disagreements(formula, trace)
        assert not found, found[0]
        counts["pairs"] += 1
        counts["samples"] += len(trace)
        counts["samples_compared"] += compared
        counts["with_rtamt"] += not formula.repeats_memory()

    compare()
    return counts


def formulas_of_window(window: int, count: int) -> list[Formula]:
    """`count` different formulas of the kind that rules are made of, each with two windows of about that length."""
    made = []
    for number in range(count):
        threshold = 0.2 + 0.6 * number / count  # between the two values of a trace: no two formulas share an atom
        x, y = (Formula("atom", name=name, threshold=threshold) for name in ("x", "y"))
        steps = window - number % (window // 2)
        recent = Formula("once", (Formula("rise", (x,)),), steps=steps)
        steady = Formula("historically", (Formula("not", (y,)) if number % 2 else y,), steps=max(steps // 2, 1))
        made.append(Formula("and", (recent, steady)))
    return made


def trace_of(samples: int) -> Trace:
    """Pulses of unequal periods, so that all four combinations occur."""
    return [(float(step % 37 < 9), float(step % 101 < 60)) for step in range(samples)]


def cost_us(name: str, chosen: list[Formula], trace: Trace) -> float:
    """Microseconds per sample and formula, without parsing; the best of three runs."""
    spent_s = []
    for _ in range(3):
        run = MONITORS[name](chosen)
        started_s = time.perf_counter()
        run(trace)
        spent_s.append(time.perf_counter() - started_s)
    return min(spent_s) * 1e6 / (len(trace) * len(chosen))


def main() -> int:
    parser = argparse.ArgumentParser(description="Past-time operators beside rtamt and reelay.")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=3_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        facts: dict[str, object] = {"agreement": agreement(arguments.pairs)}
    except AssertionError as difference:
        print(difference)
        return 1
    print("agreement:", "  ".join(f"{name} {value}" for name, value in dict(facts["agreement"]).items()))  # type: ignore[call-overload]
    rows = []
    for window, count in itertools.product(WINDOWS, (1, SET_SIZE)):
        chosen, trace = formulas_of_window(window, count), trace_of(arguments.samples)
        costs = {name: cost_us(name, chosen, trace) for name in MONITORS}
        ratios = {name: costs[name] / costs["shadowrig"] for name in ("rtamt", "reelay")}
        rows.append({"window_samples": window, "formulas": count, "cost_us": costs, "ratio_to_shadowrig": ratios})
        shown = "  ".join(f"{name} {costs[name]:7.2f} us ({costs[name] / costs['shadowrig']:.2f}x)" for name in costs)
        print(f"window {window:5} samples, {count:3} formulas: {shown}")
    if arguments.json:
        arguments.json.write_text(json.dumps({**facts, "cost": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
