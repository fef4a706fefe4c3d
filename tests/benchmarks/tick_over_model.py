"""Holds the price of a tick against the bare run of its network; 1.10 times is the aim.

    python tests/benchmarks/tick_over_model.py [--drive DRIVE] [--seconds 20] [--model hydra_mini] [--clock core]

The real tick (`composition.compose_tick`, the shipped library, the drive's signals and calibration) over real frames of
a drive, decoded by the runtime's own capture between the ticks; without `--drive` a synthetic one is made. On every
second tick the backend runs once bare, at the very place where the tick runs it; the ticks between are measured whole.
The ratio is that of the medians of one run, which noise of the machine moves little.

The aim is NOT reached where a scene is as full as this one (some 43 tracks at once, hydra_mini in INT8): it is judged
at `LIMIT`, so that it does not get slower, and the distance to the aim is printed.

`--clock core` counts time that the tick's own thread had a core, which other programs on the machine hardly disturb
(the network must then run in one thread; what another thread does beside the network is not in it). `--clock day`
counts time of day, as a car would, and needs a quiet machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from replay.playing import DrivePlayer, network_for, rig_beside
from replay.synthetic import synthesize_drive
from replay.synthetic.rigs import synthetic_rig
from runtime.composition import find_bundle, open_rig, open_rules
from runtime.drives import open_drive
from runtime.formats.image_spec import Geometry
from runtime.inference.network import Network
from runtime.messages import Frameset, Prediction, SignalReader
from runtime.rig import save_rig

AIM, LIMIT = 1.10, 1.40
RATE_HZ = 36.0
WARM_UP_TICKS = 50
CLOCKS: dict[str, Callable[[], int]] = {"core": time.thread_time_ns, "day": time.perf_counter_ns}


class BareFirst:
    """A predictor that measures a bare run of its network first, on every second frameset."""

    def __init__(self, network: Network, clock: Callable[[], int]) -> None:
        self._network, self._clock = network, clock
        self.has_run = False
        self.spent_ms: list[float] = []

    def predict(
        self, frameset: Frameset, geometries: Sequence[Geometry | None], signals: SignalReader
    ) -> Prediction | None:
        self.has_run = not self.has_run
        if self.has_run:
            began_ns = self._clock()
            self._network.run_bare(frameset, signals)
            self.spent_ms.append((self._clock() - began_ns) / 1e6)
        return self._network.predict(frameset, geometries, signals)


def measure(drive_path: Path, seconds: float, model: str, clock: Callable[[], int]) -> dict[str, Any]:
    """Play the drive; the median of every stage, over the ticks that had no bare run in them."""
    drive = open_drive(drive_path)
    rig = open_rig(rig_beside(drive))
    network = network_for(drive, find_bundle(model), 1, rig)
    assert network is not None
    rules = open_rules(["library"], drive.declared)
    player = DrivePlayer(drive, network, rig, rules, RATE_HZ)
    parts, bare = player.parts, BareFirst(network, clock)
    assert parts.tracker is not None
    parts.pipeline.exchange(bare, parts.tracker, parts.learned)
    parts.pipeline.stopwatch = network._backend._timer_ns = clock  # type: ignore[attr-defined]
    stages, tracks, firings = defaultdict[str, list[float]](list), [], 0
    gc.disable()  # as in the daemon, which collects in the slack between ticks
    for tick, played in enumerate(player.ticks()):
        report = played.report
        firings += len(report.firings)
        if tick >= seconds * RATE_HZ:
            break
        if tick >= WARM_UP_TICKS and report.prediction is not None and not bare.has_run:
            for stage, spent_ms in report.timings_ms.items():
                stages[stage].append(spent_ms)
            stages["tick"].append(sum(report.timings_ms.values()))
            tracks.append(len(report.tracks or ()))
        if tick % 100 == 0:
            gc.collect()
    gc.enable()
    player.close()
    bare_ms = statistics.median(bare.spent_ms[WARM_UP_TICKS // 2 :])
    medians = {stage: statistics.median(spent) for stage, spent in stages.items()}
    return {
        "ticks": len(tracks),
        "tracks": statistics.median(tracks),
        "rules": len(rules.rules),
        "rules_not_applicable": len(parts.not_applicable),
        "firings": firings,
        "bare_model_ms": bare_ms,
        "stages_ms": medians,
        "tick_over_bare_model": medians["tick"] / bare_ms,
    }


def make_drive(folder: Path, seconds: float) -> Path:
    """A synthetic drive with its calibration beside it."""
    path = synthesize_drive(folder, seed=7, duration_s=seconds, rate_hz=RATE_HZ, size=(640, 480), weather="clear")
    save_rig(synthetic_rig(640, 480), path.parent / "rig.yaml")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description="Holds the price of a tick against the bare run of its network.")
    parser.add_argument("--drive", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--model", default="hydra_mini")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="core")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drive = arguments.drive or make_drive(Path(folder), arguments.seconds)
        found = measure(drive, arguments.seconds, arguments.model, CLOCKS[arguments.clock])
    for stage, spent_ms in found["stages_ms"].items():
        print(f"{stage:>10} {spent_ms:8.3f} ms")
    print(
        f"{'bare':>10} {found['bare_model_ms']:8.3f} ms   (medians of {found['ticks']} ticks, {arguments.clock} time)"
    )
    lacking = f"{found['rules']} rules, {found['rules_not_applicable']} not applicable"
    print(f"{lacking}; {found['tracks']:g} tracks; {found['firings']} firings")
    print(f"tick over bare model run: {found['tick_over_bare_model']:.3f} (aim {AIM}, limit {LIMIT})")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if found["tick_over_bare_model"] <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
