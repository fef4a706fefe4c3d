"""What decoding heads and following tracks cost a tick, without the network, in the tick thread's processor time.

    python -m tests.benchmarks.decode_and_track [--rounds 5] [--warm]

Plays the golden film (eight cameras, 36 per second, some 50 tracks; see `golden_film`) again and again. Between two
ticks a large array is written over, because a network's run leaves nothing of ours in the caches and calls that are
found there cost half of what they cost in a car; `--warm` leaves that out. What the tick does beside the network
(`Tracker.look_ahead`) is told apart.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from replay.synthetic.rigs import CAMERAS, synthetic_rig
from runtime.config.rig_config import BUNDLED_MODELS
from runtime.inference.bundle import load_bundle
from runtime.inference.ground import EgoMotion
from runtime.inference.network import Network
from runtime.inference.padding import padding_frameset
from runtime.inference.rows import layout_for
from runtime.inference.tracking import Tracker
from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND
from tests.runtime.inference.golden_film import SOURCE_SIZE, TICKS, FilmBackend, load_film

PERIOD_NS = NANOSECONDS_PER_SECOND // 36
WARM_UP_TICKS = 30
#: More than the caches of any processor that runs this.
CACHES = 64 * 1024 * 1024


def measure(rounds: int, is_warm: bool) -> dict[str, float]:
    """Medians in milliseconds by part."""
    film, bundle = load_film(), load_bundle(BUNDLED_MODELS / "hydra_mini")
    backend = FilmBackend(film)
    network = Network(bundle, backend, layout_for(bundle.manifest, CAMERAS), CAMERAS)  # type: ignore[arg-type]
    frameset = padding_frameset(CAMERAS, network.image_spec, present=True)
    geometries = [network.image_spec.geometry(*SOURCE_SIZE)] * len(CAMERAS)
    spent: defaultdict[str, list[float]] = defaultdict(list)
    caches = np.zeros(CACHES, np.uint8)
    gc.disable()  # as in the tick
    for _ in range(rounds):
        tracker = Tracker(CAMERAS, synthetic_rig(*SOURCE_SIZE))
        for tick in range(TICKS):
            backend.tick = tick
            frameset.time_ns = NANOSECONDS_PER_SECOND + tick * PERIOD_NS
            backend.prepare()
            if not is_warm:
                caches += np.uint8(1)
            at_ns = [time.thread_time_ns()]
            tracker.look_ahead(frameset.time_ns)
            at_ns.append(time.thread_time_ns())
            prediction = network.predict(frameset, geometries, None)
            at_ns.append(time.thread_time_ns())
            tracks = tracker.update(
                prediction, frameset.present, frameset.time_ns, EgoMotion(*film["ego"][tick].tolist()), geometries
            )
            at_ns.append(time.thread_time_ns())
            if tick >= WARM_UP_TICKS:
                parts = (np.diff(at_ns) / NANOSECONDS_PER_MILLISECOND).tolist()
                for part, took_ms in zip(("beside_the_network", "decode", "track"), parts, strict=True):
                    spent[part].append(took_ms)
                spent["decode_and_track"].append(parts[1] + parts[2])
                spent["tracks"].append(len(tracks))
        gc.collect()
    gc.enable()
    return {part: statistics.median(values) for part, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="What decoding and tracking cost a tick.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.rounds, arguments.warm)
    for part, value in found.items():
        print(f"{part:>20} {value:8.3f}{'' if part == 'tracks' else ' ms'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
