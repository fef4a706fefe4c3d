"""Holds the budget of the rules: p99 of 1 ms a tick for 221 rules over 100 tracks of 8 cameras; ten times for 2,210.

    python tests/benchmarks/trigger_evaluation.py [--ticks 2000] [--json FILE]

The shipped library asks more of every track than the generated rules do (39 windows and histories that follow items,
against 15) and is measured with every field known. 1 ms is its aim too and is NOT reached: it is judged at 3 ms, so
that it does not get slower, and the distance to the aim is printed.

Judged by time of the core, which other programs on the machine disturb less; time of day is printed beside it.
`shadowrig bench triggers` measures any number of rules, or with `--library` the shipped ones, without judging.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from replay.rule_bench import bench_library, bench_rules

AIM_MS = 1.0
BUDGET_MS = {"221 rules": AIM_MS, "2210 rules": 10 * AIM_MS, "shipped library": 3.0}


def main() -> int:
    parser = argparse.ArgumentParser(description="Holds the budget of the rules.")
    parser.add_argument("--ticks", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    ticks = (arguments := parser.parse_args()).ticks
    few, many, library = bench_rules(221, ticks=ticks), bench_rules(2210, ticks=ticks), bench_library(ticks=ticks)
    results = dict(zip(BUDGET_MS, (few, many, library), strict=True))
    for name, result in results.items():
        figures = (f"{name} {value:.3f}" for name, value in asdict(result).items() if name.endswith("_ms"))
        print(f"{name} ({result.rules}), {result.tracks} tracks:", "  ".join(figures))
    print(f"ten times the rules cost {many.p99_cpu_ms / few.p99_cpu_ms:.1f} times as much")
    print(f"the library takes {library.p99_cpu_ms / AIM_MS:.1f} times the {AIM_MS:g} ms that it is to take")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results.values()], indent=2) + "\n")
    late = {name: result.p99_cpu_ms for name, result in results.items() if result.p99_cpu_ms > BUDGET_MS[name]}
    for name, p99_ms in late.items():
        print(f"{name}: p99 of {p99_ms:.2f} ms, the budget is {BUDGET_MS[name]:g} ms")
    return 1 if late else 0


if __name__ == "__main__":
    raise SystemExit(main())
