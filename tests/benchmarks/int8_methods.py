"""The four ways of cutting ranges, on one network, the same samples and the same mixture.

    python -m tests.benchmarks.int8_methods [BUNDLE] [--images FILES…] [--drives …] [--mixture FILE] [--samples 48]

By default the bundled network; without images and drives on a synthetic drive.
Prints for each method how alike to FP32 the worst head is on samples that were kept back, with everything in INT8 and,
where a `ranges.json` says which layers a calibration left in floating point, with that mixture. Nothing is written.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from calibration.int8.bundle_files import measure_ranges, open_graph
from calibration.int8.command import DEFAULT_PERCENTILE
from calibration.int8.feeds import build_feeds
from calibration.int8.gate import AccuracyGate, GateResult
from calibration.int8.histograms import METHODS
from calibration.int8.mixed_precision import fidelity, try_mixture
from calibration.int8.ranges import RangesFile
from calibration.int8.sample_sets import split_samples
from calibration.int8.sampling import sample_sources
from runtime.config.rig_config import BUNDLED_MODELS
from runtime.inference.bundle import load_bundle
from tests.benchmarks.tick_over_model import make_drive

DRIVE_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the methods of calibration on one network.")
    parser.add_argument("bundle", type=Path, nargs="?", default=BUNDLED_MODELS / "hydra_mini")
    parser.add_argument("--drives", nargs="*", default=[], type=Path)
    parser.add_argument("--images", nargs="*", default=[], type=Path)
    parser.add_argument("--mixture", type=Path, help="ranges.json whose layers in floating point are taken")
    parser.add_argument("--samples", type=int, default=48)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drives = options.drives or ([] if options.images else [make_drive(Path(folder), DRIVE_S)])
        compare(options, drives)


def compare(options: argparse.Namespace, drives: list[Path]) -> None:
    """Print a line for each method and mixture."""
    bundle = load_bundle(options.bundle)
    fp32, heads = bundle.file("fp32"), bundle.manifest.heads
    sets = split_samples(sample_sources(bundle.manifest, drives, options.images, options.samples, 0))
    graph, plan = open_graph(fp32)
    feeds = build_feeds(bundle.manifest, sets.measured, fp32)
    gate = AccuracyGate(fp32, bundle.manifest, [*sets.chosen_on, *sets.judged])
    mixtures: list[tuple[str, ...]] = [()]
    if options.mixture is not None:
        mixtures.append(RangesFile.load(options.mixture).kept_float)
    for method in METHODS:
        ranges = measure_ranges(fp32, graph, plan, feeds, method, DEFAULT_PERCENTILE, 0)
        for kept in mixtures:
            result = try_mixture(graph, ranges.tensors, gate, kept).result
            layers = f"{len(kept)} in float"
            print(f"{method:10s} {layers:12s} worst head {fidelity(result, heads):.4f}  {_told(result)}", flush=True)


def _told(result: GateResult) -> str:
    judged = [score for score in result.scores if score.limit is not None and score.value is not None]
    return ", ".join(f"{score.head}.{score.metric} {score.value:.3f}" for score in judged)


if __name__ == "__main__":
    main()
