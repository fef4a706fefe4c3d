"""What an upload costs the tick: p99 of capture to result with clips going home, over the same without.

    python tests/benchmarks/upload_beside_the_tick.py [--seconds 40] [--rounds 3] [--json FILE]

One runtime plays the reference load live and fires rules, so that clips are recorded in every spell; in every second
spell uploader and receiver deliver them over an encrypted socket, those of the spell before included. The order turns
round from pair to pair, so that a machine that grows slower meets both. Exits with 1 when the median of the pairs'
ratios exceeds the budget, or when nothing was delivered.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from replay.latency.bench import BenchOptions, run_turns
from replay.latency.figures import Spell, percentiles
from replay.latency.film import DEFAULT_FOLDER
from runtime.shutdown import stop_on_signals

MOST_RATIO = 1.05
OFF, ON = ("record",), ("record", "upload")


def pairs_of_spells(seconds: float, rounds: int, folder: Path) -> list[tuple[Spell, Spell]]:
    """Off and on, that many times."""
    turns = [turn for row in range(rounds) for turn in ((OFF, ON) if row % 2 == 0 else (ON, OFF))]
    spells = run_turns(BenchOptions(seconds), turns, folder, stop_on_signals(), print)
    both = zip(spells[::2], spells[1::2], strict=True)
    return [pair if row % 2 == 0 else pair[::-1] for row, pair in enumerate(both)]


def p99_ms(spell: Spell) -> float:
    """Capture to result."""
    return percentiles(spell.latencies_ms())["p99"]


def main() -> int:
    parser = argparse.ArgumentParser(description="The tick's latency with upload on, over off.")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each spell")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of spells")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pairs = pairs_of_spells(options.seconds, options.rounds, options.folder.absolute())
    ratios = [p99_ms(on) / p99_ms(off) for off, on in pairs]
    delivered = sum(on.clips["delivered"] for _, on in pairs)
    facts = {
        "p99_ms_off": [p99_ms(off) for off, _ in pairs],
        "p99_ms_on": [p99_ms(on) for _, on in pairs],
        "on_over_off": statistics.median(ratios),
        "budget": MOST_RATIO,
        "clips_delivered": delivered,
    }
    print(json.dumps(facts, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(facts, indent=1))
    return 0 if facts["on_over_off"] <= MOST_RATIO and delivered else 1


if __name__ == "__main__":
    sys.exit(main())
