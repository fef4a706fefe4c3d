"""Holds the price of A/B: a tick with two candidate networks costs at most both ticks with one of them, plus 5 %.

    python tests/benchmarks/two_candidates.py [--drive DRIVE] [--seconds 15] [--second hydra_mini] [--clock core]

Three pipelines play the same drive in step: the first network alone, the second alone, both together. For every instant
each of them ticks once, in an order that goes round, so that a noisy moment hits all three alike; the ratio is that of
the medians. Rules, signals and camera health are needed once where two networks run, so that there is room for
comparing the two.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from tick_over_model import CLOCKS, RATE_HZ, WARM_UP_TICKS, make_drive

from replay.playing import DrivePlayer, network_for, rig_beside
from runtime.composition import find_bundle, open_rig, open_rules
from runtime.drives import open_drive

BUDGET = 1.05


def _player(path: Path, model: str, second: str | None, clock: Callable[[], int]) -> DrivePlayer:
    drive = open_drive(path)
    rules, rig = open_rules(["library"], drive.declared), open_rig(rig_beside(drive))
    network = network_for(drive, find_bundle(model), 1, rig)
    other = None if second is None else network_for(drive, find_bundle(second), 1, rig)
    player = DrivePlayer(drive, network, rig, rules, RATE_HZ, second=other)
    player.parts.pipeline.stopwatch = clock
    return player


def measure(path: Path, seconds: float, models: tuple[str, str], clock: Callable[[], int]) -> dict[str, float]:
    """Median milliseconds of a tick with each network alone, and with both."""
    players = {"first": _player(path, models[0], None, clock), "second": _player(path, models[1], None, clock),
               "both": _player(path, *models, clock)}  # fmt: skip
    plays = {name: player.ticks() for name, player in players.items()}
    spent: dict[str, list[float]] = {name: [] for name in players}
    gc.disable()
    for tick in range(round(seconds * RATE_HZ)):
        names = list(players)
        for name in names[tick % 3 :] + names[: tick % 3]:
            played = next(plays[name], None)
            if played is not None and tick >= WARM_UP_TICKS:
                spent[name].append(sum(played.report.timings_ms.values()))
        if tick % 100 == 0:
            gc.collect()
    gc.enable()
    for player in players.values():
        player.close()
    return {name: statistics.median(values) for name, values in spent.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Holds the price of shadowing two candidate networks at once.")
    parser.add_argument("--drive", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--model", default="hydra_mini")
    parser.add_argument("--second", default="hydra_mini")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="core")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drive = arguments.drive or make_drive(Path(folder), arguments.seconds)
        models = (arguments.model, arguments.second)
        found = measure(drive, arguments.seconds, models, CLOCKS[arguments.clock])
    ratio = found["both"] / (found["first"] + found["second"])
    for name, spent_ms in found.items():
        print(f"{name:>8} {spent_ms:8.3f} ms a tick")
    print(f"both over the sum: {ratio:.3f} (budget {BUDGET})")
    if arguments.json:
        arguments.json.write_text(json.dumps({**found, "both_over_sum": ratio}, indent=2) + "\n")
    return 0 if ratio <= BUDGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
