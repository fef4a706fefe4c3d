"""Holds the price of tasks: thirty heads on one backbone cost at most 1.5 times as much as one head, decoding included.

    python tests/benchmarks/thirty_heads.py [--drive DRIVE] [--runs 200] [--heads 30] [--json FILE]

Two bundles on hydra_mini's backbone, with one head and with thirty (`many_heads_bundle`: ten that detect, ten that
segment, ten that classify), are calibrated to INT8 by the calibration's own code on frames of the drive, and run in
turns on other frames of it. What is timed is `Network.predict`: the run, the decoding of all heads, and joining them.
The ratio is that of the medians of one run.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from many_heads_bundle import write_many_heads
from tick_over_model import CLOCKS, make_drive

from calibration.int8.command import Settings, calibrate_int8
from calibration.int8.sampling import Sample, sample_sources
from runtime.composition import ModelChoice, find_bundle, open_network
from runtime.inference.bundle import load_bundle
from runtime.inference.network import Network
from runtime.messages import Frameset

BUDGET = 1.5
SAMPLES = 16
WARM_UP_RUNS = 10


def framesets(samples: Sequence[Sample], cameras: tuple[str, ...]) -> list[Frameset]:
    count = len(cameras)
    return [
        Frameset(
            sequence=index,
            time_ns=index,
            cameras=cameras,
            present=np.ones(count, np.bool_),
            frame_time_ns=np.full(count, index, np.int64),
            frame_sequence=np.full(count, index, np.int64),
            images=np.ascontiguousarray(sample.images),
        )
        for index, sample in enumerate(samples)
    ]


def measure(
    networks: Sequence[Network], frames: Sequence[Frameset], runs: int, clock: Callable[[], int]
) -> list[float]:
    """Median milliseconds of each network, one after another on every frameset, in an order that goes round."""
    spent: list[list[float]] = [[] for _ in networks]
    found = [0] * len(networks)
    gc.collect()
    gc.disable()
    for run in range(runs + WARM_UP_RUNS):
        for position in range(len(networks)):
            index = (position + run) % len(networks)
            began_ns = clock()
            prediction = networks[index].predict(frames[run % len(frames)], None, None)
            if run >= WARM_UP_RUNS:
                spent[index].append((clock() - began_ns) / 1e6)
                found[index] += len(prediction.detections)
    gc.enable()
    for network, detections in zip(networks, found, strict=True):
        print(
            f"{network.description.name}: {network.description.precision}, {detections / runs:.1f} objects a frameset"
        )
    return [statistics.median(values) for values in spent]


def main() -> int:
    parser = argparse.ArgumentParser(description="Holds the price of thirty heads against one.")
    parser.add_argument("--drive", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--heads", type=int, default=30)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="core")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drive = arguments.drive or make_drive(folder, 8.0)
        manifest = load_bundle(find_bundle("hydra_mini")).manifest
        samples = sample_sources(manifest, [drive], [], SAMPLES, seed=1)
        cameras, networks = tuple(manifest.cameras), []
        for count in (1, arguments.heads):
            bundle = write_many_heads(folder / f"heads{count}", count, [sample.images for sample in samples[::4]])
            # Random heads find what they find: how INT8 agrees with FP32 says nothing here, so it is listed anyway.
            calibrate_int8(bundle, drives=[drive], settings=Settings(samples=SAMPLES, list_anyway=True))
            networks.append(open_network(ModelChoice(bundle, precision="int8"), cameras))
        one_ms, many_ms = measure(networks, framesets(samples, cameras), arguments.runs, CLOCKS[arguments.clock])
    for network in networks:
        network.close()
    ratio = many_ms / one_ms
    print(f"one head {one_ms:.3f} ms, {arguments.heads} heads {many_ms:.3f} ms: {ratio:.3f} times (budget {BUDGET})")
    if arguments.json:
        facts = {"one_head_ms": one_ms, "heads": arguments.heads, "many_heads_ms": many_ms, "ratio": ratio}
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if ratio <= BUDGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
