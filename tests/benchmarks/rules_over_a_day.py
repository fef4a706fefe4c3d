"""What a day of ticks leaves in memory: the whole library, twenty tracks, eight cameras, every firing's clip answered.

    python tests/benchmarks/rules_over_a_day.py [--hours 24] [--rate 1] [--json FILE]

Prints for each hour the blocks that the interpreter has allocated, the entries that all windows hold and the resident
memory, and exits with 1 when blocks or memory still grow after the second hour, when the longest windows are full. At
one tick a second the windows hold as many ticks as they may (a window shares entries beyond its bound); `--rate 20`
takes a night and shows the same.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from pathlib import Path

from replay.rule_bench import scenes
from triggers import RuleEngine, library_path, load_rules

TRACKS = 20
SETTLED_HOURS = 2
MOST_BLOCKS = 5_000
MOST_BYTES = 4 * 1024 * 1024
PAGE_BYTES = 4096


def resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def main() -> int:
    parser = argparse.ArgumentParser(description="What a day of ticks leaves in memory.")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--rate", type=float, default=1.0, help="ticks a second")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    engine = RuleEngine(load_rules([library_path()]), seed=0)
    ticks_per_hour, tick_ns = round(3600 * arguments.rate), round(1e9 / arguments.rate)
    rows: list[dict[str, int]] = []
    fired = 0
    for tick, (tracks, signals, views, _) in enumerate(scenes(arguments.hours * ticks_per_hour + 1, TRACKS)):
        time_ns = tick * tick_ns
        for firing in engine.evaluate(tracks, signals, time_ns, time_ns, None, views):
            fired += 1
            engine.settle(firing.sequence, 10_000_000)
        if tick and tick % ticks_per_hour == 0:
            gc.collect()
            row = {
                "hour": tick // ticks_per_hour,
                "blocks": sys.getallocatedblocks(),
                "window_entries": engine.retained_entries,
                "resident_bytes": resident_bytes(),
                "firings": fired,
            }
            rows.append(row)
            print("  ".join(f"{name} {value:,}" for name, value in row.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    settled = rows[SETTLED_HOURS - 1 :]
    grown = {name: settled[-1][name] - settled[0][name] for name in ("blocks", "resident_bytes")} if settled else {}
    print(f"after hour {SETTLED_HOURS}: " + "  ".join(f"{name} {value:+,}" for name, value in grown.items()))
    return int(bool(grown) and (grown["blocks"] > MOST_BLOCKS or grown["resident_bytes"] > MOST_BYTES))


if __name__ == "__main__":
    raise SystemExit(main())
