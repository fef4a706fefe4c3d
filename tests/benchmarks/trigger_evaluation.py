"""Holds the budget of the rules: p99 of 1 ms a tick for 221 rules over 100 tracks of 8 cameras; ten times for 2,210.

LIBRARY

    python tests/benchmarks/trigger_evaluation.py [--ticks 2000] [--json FILE]

Judged by time of the core, which other programs on the machine do not disturb; time of day is printed beside it.
`shadowrig bench triggers` measures any number of rules without judging.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from replay.rule_bench import bench_library, bench_rules

BUDGET_MS = {"221 rules": 1.0, "2210 rules": 10.0, "shipped library": 1.0}


def main() -> int:
    parser = argparse.ArgumentParser(description="Holds the budget of the rules.")
    parser.add_argument("--ticks", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = [bench_rules(rules, ticks=arguments.ticks) for rules in BUDGET_MS]
    for result in results:
        figures = (f"{name} {value:.3f}" for name, value in asdict(result).items() if name.endswith("_ms"))
        print(f"{result.rules} rules, {result.tracks} tracks:", "  ".join(figures))
    print(f"ten times the rules cost {results[1].p99_cpu_ms / results[0].p99_cpu_ms:.1f} times as much")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    late = [result for result in results if result.p99_cpu_ms > BUDGET_MS[result.rules]]
    for result in late:
        print(f"{result.rules} rules: p99 of {result.p99_cpu_ms:.2f} ms, the budget is {BUDGET_MS[result.rules]:g} ms")
    return 1 if late else 0


if __name__ == "__main__":
    raise SystemExit(main())
