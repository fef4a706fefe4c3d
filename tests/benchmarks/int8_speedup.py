"""INT8 against FP32 of a bundle on one thread, taking turns in the same run.

    python tests/benchmarks/int8_speedup.py [BUNDLE] [--rounds 60] [--json FILE]

Prints median and 99th percentile of both, the ratio of medians and of the fastest runs, and exits with 1 when the
ratio of medians is below the budget of 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from calibration.int8.player import NetworkFile
from runtime.inference.bundle import load_bundle

REPOSITORY = Path(__file__).resolve().parents[2]
BUDGET = 2.0


def measure(bundle_dir: Path, rounds: int) -> dict[str, float]:
    bundle = load_bundle(bundle_dir)
    images = bundle.manifest.images
    pixels = np.random.default_rng(0).integers(0, 256, images.shape).astype(images.dtype)
    feed = {images.name: pixels}
    feed |= {entry.name: np.full(entry.shape, 10.0, np.float32) for entry in bundle.manifest.signals}
    contestants = {role: NetworkFile(bundle.file(role)) for role in ("fp32", "cpu_int8")}
    spent: dict[str, list[float]] = {role: [] for role in contestants}
    for index in range(rounds + 5):
        for role, contestant in contestants.items():
            started = time.perf_counter()
            contestant.run(feed)
            if index >= 5:
                spent[role].append((time.perf_counter() - started) * 1e3)
    facts = {f"{role}_p50_ms": float(np.median(times)) for role, times in spent.items()}
    facts |= {f"{role}_p99_ms": float(np.percentile(times, 99)) for role, times in spent.items()}
    facts["ratio_p50"] = facts["fp32_p50_ms"] / facts["cpu_int8_p50_ms"]
    facts["ratio_fastest"] = min(spent["fp32"]) / min(spent["cpu_int8"])
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(description="INT8 speed-up of a bundle, one thread.")
    parser.add_argument("bundle", type=Path, nargs="?", default=REPOSITORY / "runtime" / "models" / "hydra_mini")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    facts = measure(arguments.bundle, arguments.rounds)
    for name, value in facts.items():
        print(f"{name:18s} {value:8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    if facts["ratio_p50"] < BUDGET:
        print(f"INT8 is {facts['ratio_p50']:.2f} times as fast as FP32; the budget is {BUDGET}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
