"""How much faster than real time rules are evaluated over recorded ticks, on one core.

    python tests/benchmarks/backtest_speed.py [DRIVE ...] [--rules library] [--model hydra_mini] [--json FILE]

Without drives it records its own: `--minutes` of signals at 20 Hz and `--tracks` tracks in eight cameras, which move,
flicker and change places. Ticks of the drives that are named are taken from the cache, or recorded first (that takes
as long as the network does, and is not part of the figure). Prints, for each drive, seconds of driving for each second
of evaluation: the rules alone in time of the core, which other programs on the machine do not disturb, and the parts
that it goes to. Exits with 1 below the budget: 100 times real time without tracks, 20 with them. Rules over tracks
cost in a backtest what they cost in the vehicle, for it is the engine's own `evaluate`; the rest is `assembling`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from replay.backtest.cache import default_folder
from replay.backtest.evaluation import not_applicable, run_rules
from replay.backtest.recorded_ticks import Block, TickRecorder, play_block
from replay.backtest.recording import RecordingRequest, drive_ticks
from replay.backtest.tick_file import CameraRate, DriveFacts
from runtime.composition import open_rules
from runtime.messages import Firing, SignalSample, SignalValue, Track
from triggers import OPTIONAL_TRACK_FIELDS, Capabilities, RuleSet

BUDGET_X, BUDGET_WITH_TRACKS_X = 100.0, 20.0
RATE_HZ = 20
#: Nothing is held against a rule: all of them run.
ALL = Capabilities(track_fields=OPTIONAL_TRACK_FIELDS, cameras=8, has_images=True, embedding_model="none")
CAMERAS = tuple(f"camera_{number}" for number in range(8))


class Sink:
    """Keeps blocks in memory."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def write(self, block: Block) -> None:
        self.blocks.append(block)


class NoRules:
    def evaluate(self, *inputs: object, **more: object) -> list[Firing]:
        return []


class Signals:
    def __init__(self, values: dict[str, SignalValue], time_ns: int) -> None:
        self._values, self._time_ns = values, time_ns

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> list[SignalSample]:
        return [SignalSample(name, self._time_ns, self._values[name])] if name in self._values else []

    def names(self) -> list[str]:
        return sorted(self._values)


def own_drive(minutes: float, tracks: int) -> tuple[DriveFacts, list[Block]]:
    """A drive made of nothing but ticks."""
    sink, generator = Sink(), np.random.default_rng(0)
    recorder = TickRecorder(NoRules(), sink)
    ticks, period_ns = round(minutes * 60 * RATE_HZ), 1_000_000_000 // RATE_HZ
    for tick in range(ticks):
        time_ns = tick * period_ns
        listed = moving_tracks(tick, time_ns, tracks, generator)
        recorder.evaluate(listed, moving_signals(tick, time_ns), time_ns, time_ns)
    recorder.finish()
    facts = DriveFacts(
        name=f"{tracks} tracks", start_ns=0, duration_s=ticks / RATE_HZ, ticks=ticks,
        cameras=dict.fromkeys(CAMERAS, CameraRate("h264", 300_000.0)),
        capabilities=recorder.as_recorded(ALL), image_sizes=dict.fromkeys(CAMERAS, (1280, 960)), model=None,
    )  # fmt: skip
    return facts, sink.blocks


def moving_signals(tick: int, time_ns: int) -> Signals:
    wave = float(np.sin(tick / 40.0))
    values: dict[str, SignalValue] = {
        "vehicle.speed_mps": 15.0 + 10.0 * wave, "vehicle.accel_mps2": 4.0 * wave, "vehicle.gas_pressed": wave > 0.7,
        "vehicle.steering_angle_deg": 5.0 * wave, "vehicle.brake_pressed": wave < -0.9,
        "controller.enabled": tick % 900 > 30,
        "shadow.accel_mps2": wave, "diff.accel_mps2": 2.0 * wave, "diff.curvature_1pm": 0.004 * wave,
        "lead.present": True, "lead.distance_m": 30.0 + 20.0 * wave, "lead.relative_speed_mps": 5.0 * wave,
        "health.cameras_missing": 0.0, "health.faulty_cameras": "",
    }  # fmt: skip
    return Signals(values, time_ns)


def moving_tracks(tick: int, time_ns: int, count: int, generator: np.random.Generator) -> list[Track]:
    places = generator.uniform(-1.0, 1.0, (count, 2)).tolist()
    found = []
    for number, (along, across) in enumerate(places):
        x, y = 100.0 + 9.0 * number + along, 400.0 + across
        found.append(
            Track(
                number + (tick // 400) * count, CAMERAS[number % 8], ("car", "pedestrian", "truck")[number % 3], 0.8,
                (x, y, x + 60.0, y + 45.0), max(time_ns - 3_000_000_000, 0), time_ns, along > -0.95,
                distance_m=20.0 + number, lateral_m=across * 5.0, speed_mps=8.0, bearing_deg=along, lane="left",
            )
        )  # fmt: skip
    return found


def measure(facts: DriveFacts, blocks: list[Block], rules: RuleSet) -> dict[str, float | str | int]:
    lacking = not_applicable(rules, facts)
    able = RuleSet(tuple(rule for rule in rules.rules if rule.name not in lacking))
    began_s = time.process_time()
    run = run_rules(iter(blocks), able, facts)
    rules_s = time.process_time() - began_s
    began_s = time.process_time()
    items = sum(len(tick.tracks or ()) for tick in played(blocks))
    assembling_s = time.process_time() - began_s
    return {
        "drive": facts.name,
        "duration_s": round(facts.duration_s, 1),
        "rules": len(able.rules),
        "tracks_per_tick": round(items / max(facts.ticks, 1), 1),
        "speed_x": round(facts.duration_s / rules_s, 1),
        "us_per_tick": round(rules_s / facts.ticks * 1e6, 1),
        "assembling_us_per_tick": round(assembling_s / facts.ticks * 1e6, 1),
        "firings": len(run.firings),
    }


def played(blocks: list[Block]) -> Iterator[object]:
    for block in blocks:
        yield from play_block(block)


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed of rules over recorded ticks.")
    parser.add_argument("drives", nargs="*", type=Path)
    parser.add_argument("--rules", nargs="+", default=["library"])
    parser.add_argument("--model", default=None, help="bundled model or bundle folder (default: signals only)")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--tracks", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rules = open_rules(arguments.rules)
    results = []
    for drive in arguments.drives:
        with drive_ticks(RecordingRequest(drive, arguments.model, cache=default_folder()), rules) as ticks:
            results.append(measure(ticks.facts, list(ticks.blocks()), rules))
    if not arguments.drives:
        results.append(measure(*own_drive(arguments.minutes, arguments.tracks), rules))
    for facts in results:
        print("  ".join(f"{name} {value}" for name, value in facts.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    missed = [facts for facts in results if float(facts["speed_x"]) < budget_x(facts)]
    for facts in missed:
        said = f"{facts['drive']}: {facts['speed_x']} times real time is below the budget of {budget_x(facts):g}"
        print(said, file=sys.stderr)
    return 1 if missed else 0


def budget_x(facts: dict[str, float | str | int]) -> float:
    return BUDGET_WITH_TRACKS_X if facts["tracks_per_tick"] else BUDGET_X


if __name__ == "__main__":
    raise SystemExit(main())
