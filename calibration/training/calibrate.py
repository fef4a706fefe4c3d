"""Calibrates `hydra_mini` on rendered instants of seeds of their own, scores both files, and describes the bundle.

    python -m calibration.training.calibrate BUNDLE [--cache DIR]

needs no training framework: it makes ranges, INT8 file, manifest and card of a bundle again from its FP32 file.
Instants of all weathers, by day and night, come from `dataset.CALIBRATION_SEEDS`, scores from held-out seeds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import onnx
from rich.console import Console

from calibration.int8.agreement import Agreement, measure_agreement
from calibration.int8.bundle_files import CPU_INT8_FILE, RANGES_FILE, open_graph, quantize_file
from calibration.int8.emit_trt import emit_trt_qdq
from calibration.int8.feeds import build_feeds
from calibration.int8.plan import make_plan
from calibration.int8.ranges import RangesFile
from calibration.int8.sampling import Sample, from_arrays
from calibration.int8.trt_agreement import trt_agreement
from calibration.int8.trt_judgement import AGREEMENT_FEEDS
from calibration.int8.trt_mixture import first_layers_in_float
from calibration.training import dataset
from calibration.training.bundle import FP32_FILE, write_manifest
from calibration.training.dataset import TrainingSet
from calibration.training.evaluate import compare_files, metrics_table
from calibration.training.model_card import write_model_card
from runtime.inference.bundle import load_bundle

VERSION = "1"
METHOD = "percentile"
#: Between two harms: what small, rare objects excite is the tail that a percentile cuts (99.999 costs traffic lights
#: most, 99.99 twelve points), and what a tail stretches is what symmetric int8 has too few steps for: with `minmax` the
#: embedding of the file for TensorRT agreed with the CPU file's to 0.9970 only.
PERCENTILE = 99.9995
CALIBRATION_PER_SEED = 8
SPEED_SAMPLES = 4
#: Held-out instants on which the file for TensorRT, emulated, is compared with the CPU file.
AGREEMENT_INSTANTS = 12


def calibrate_and_describe(draft: Path, held_out: TrainingSet, cache: Path, console: Console) -> None:
    """Everything of a bundle that follows from its FP32 file."""
    console.print("measuring activation ranges")
    agreement = calibrate_draft(draft, cache)
    console.print("evaluating FP32 and INT8 on held-out seeds")
    metrics = compare_files(draft, held_out, lambda done, total: None)
    metrics["trt_int8_cosine"] = tensorrt_agreement(draft, held_out)
    metrics["int8_speed_up_one_thread"] = float(f"{agreement.speed_up:.3g}")
    write_manifest(draft, VERSION, metrics)
    write_model_card(draft, metrics)
    console.print(metrics_table(metrics))
    load_bundle(draft)


def calibrate_draft(directory: Path, cache: Path) -> Agreement:
    """Ranges and INT8 file of the draft from rendered instants of `dataset.CALIBRATION_SEEDS`."""
    data = dataset.open_or_make(cache, "calibration", dataset.CALIBRATION_SEEDS, CALIBRATION_PER_SEED)
    write_manifest(directory, VERSION, {})
    manifest = load_bundle(directory).manifest
    samples = [_sample(data, instant) for instant in range(len(data))]
    ranges, _ = quantize_file(directory / FP32_FILE, directory, manifest, samples, METHOD, PERCENTILE, seed=0)
    prepare_for_tensorrt(directory, ranges, samples)
    return measure_agreement(directory / FP32_FILE, directory / CPU_INT8_FILE, manifest, samples[:SPEED_SAMPLES])


def prepare_for_tensorrt(directory: Path, ranges: RangesFile, samples: list[Sample]) -> None:
    """Say in the draft's ranges which first layers its files for TensorRT leave in floating point."""
    fp32, spread_out = directory / FP32_FILE, samples[:: max(1, len(samples) // AGREEMENT_FEEDS)]
    graph, _ = open_graph(fp32)
    feeds = build_feeds(load_bundle(directory).manifest, spread_out, fp32)
    left = first_layers_in_float(graph, ranges, (directory / CPU_INT8_FILE).read_bytes(), feeds)
    replace(ranges, trt_float=left).save(directory / RANGES_FILE)


def tensorrt_agreement(directory: Path, held_out: TrainingSet) -> dict[str, float]:
    """Cosine by output of the file for TensorRT, emulated, with the CPU file, on instants spread over all seeds."""
    fp32, step = directory / FP32_FILE, max(1, len(held_out) // AGREEMENT_INSTANTS)
    samples = [_sample(held_out, instant) for instant in range(0, len(held_out), step)]
    feeds = build_feeds(load_bundle(directory).manifest, samples, fp32)
    ranges = RangesFile.load(directory / RANGES_FILE)
    graph, _ = open_graph(fp32)
    trt = emit_trt_qdq(graph, make_plan(graph, frozenset(ranges.trt_float)), ranges.tensors, "fp32")
    agreement = trt_agreement(onnx.load(str(directory / CPU_INT8_FILE)), trt, feeds)
    return {name: float(f"{value:.5g}") for name, value in agreement.items()}


def _sample(data: TrainingSet, instant: int) -> Sample:
    signals = {"vehicle.speed_mps": float(data.scalars["speed_mps"][instant])}
    return from_arrays(data.images[instant], signals, f"instant {instant}")


def main() -> None:
    """Command line; see the module's head."""
    parser = argparse.ArgumentParser(description="Calibrate a hydra_mini bundle again, and score and describe it.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cache", type=Path, default=dataset.default_cache_directory())
    arguments = parser.parse_args()
    data = dataset.open_or_make(arguments.cache, "held_out", dataset.HELD_OUT_SEEDS, dataset.HELD_OUT_PER_SEED)
    calibrate_and_describe(arguments.bundle, data, arguments.cache, Console())


if __name__ == "__main__":
    main()
