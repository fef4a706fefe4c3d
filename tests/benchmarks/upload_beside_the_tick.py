"""What an upload costs the tick: p99 of capture to result with clips going home, over the same without.

    python tests/benchmarks/upload_beside_the_tick.py [--seconds 60] [--rounds 2] [--json FILE]

Both spells play the reference load live at the real processes and fire rules, so that clips are recorded in both; in
the second kind uploader and receiver deliver them over an encrypted socket. The spells take turns, so that a machine
that grows slower meets both. Exits with 1 when the ratio exceeds its budget.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from replay.latency.bench import BenchOptions, run_bench
from replay.latency.figures import percentiles
from replay.latency.film import DEFAULT_FOLDER, ReferenceLoad, make_film
from runtime.shutdown import stop_on_signals

MOST_RATIO = 1.05
SPELLS = {"off": ("record",), "on": ("record", "upload")}


def p99_ms(seconds: float, loads: tuple[str, ...], folder: Path) -> float:
    """Capture to result under these loads."""
    load = ReferenceLoad()
    make_film(load, folder / "films")
    result = run_bench(BenchOptions(seconds, loads, load), folder, stop_on_signals(), print)
    if result.loaded is None:
        raise SystemExit(f"the bench measured nothing under {', '.join(loads)}")
    return percentiles(result.loaded.latencies_ms())["p99"]


def main() -> int:
    parser = argparse.ArgumentParser(description="The tick's latency with upload on, over off.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in SPELLS}
    for _ in range(options.rounds):
        for name, loads in SPELLS.items():
            found[name].append(p99_ms(options.seconds, loads, options.folder.absolute()))
    ratio = statistics.median(found["on"]) / statistics.median(found["off"])
    facts = {"p99_ms": found, "on_over_off": ratio, "budget": MOST_RATIO}
    print(json.dumps(facts, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(facts, indent=1))
    return 0 if ratio <= MOST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
