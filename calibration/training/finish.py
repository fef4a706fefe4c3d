"""From trained weights to a whole bundle: export, calibrate on seeds of their own, evaluate both files, describe."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from calibration.int8.agreement import Agreement, measure_agreement
from calibration.int8.bundle_files import CPU_INT8_FILE, quantize_file
from calibration.int8.command import DEFAULT_PERCENTILE
from calibration.int8.sampling import Sample, from_arrays
from calibration.training import dataset
from calibration.training.bundle import FP32_FILE, write_manifest
from calibration.training.dataset import TrainingSet
from calibration.training.evaluate import compare_files, metrics_table
from calibration.training.export import export_onnx
from calibration.training.model_card import write_model_card
from calibration.training.network import HydraMini
from runtime.inference.bundle import load_bundle

VERSION = "1"
#: Chosen on training seeds: min-max costs 0.3 points of any score there at most, percentile 99.999 costs 2.1 of
#: traffic lights and 99.99 costs 12, because what small, rare objects excite is the tail that a percentile cuts.
METHOD = "minmax"
CALIBRATION_PER_SEED = 8
SPEED_SAMPLES = 4


def make_bundle(network: HydraMini, held_out: TrainingSet, directory: Path, cache: Path, console: Console) -> None:
    """Write the bundle; a directory that exists is replaced when the new one is whole."""
    draft = directory.with_name(directory.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    export_onnx(network, draft / FP32_FILE)
    console.print("exported FP32; measuring activation ranges")
    agreement = calibrate_draft(draft, cache)
    console.print("evaluating FP32 and INT8 on held-out seeds")
    metrics = compare_files(draft, held_out, lambda done, total: None)
    metrics["int8_speed_up_one_thread"] = float(f"{agreement.speed_up:.3g}")
    write_manifest(draft, VERSION, metrics)
    write_model_card(draft, metrics)
    console.print(metrics_table(metrics))
    load_bundle(draft)
    shutil.rmtree(directory, ignore_errors=True)
    draft.rename(directory)


def calibrate_draft(directory: Path, cache: Path) -> Agreement:
    """Ranges and INT8 file of the draft from rendered instants of `dataset.CALIBRATION_SEEDS`."""
    data = dataset.open_or_make(cache, "calibration", dataset.CALIBRATION_SEEDS, CALIBRATION_PER_SEED)
    write_manifest(directory, VERSION, {})
    manifest = load_bundle(directory).manifest
    samples = [_sample(data, instant) for instant in range(len(data))]
    quantize_file(directory / FP32_FILE, directory, manifest, samples, METHOD, DEFAULT_PERCENTILE, seed=0)
    return measure_agreement(directory / FP32_FILE, directory / CPU_INT8_FILE, manifest, samples[:SPEED_SAMPLES])


def _sample(data: TrainingSet, instant: int) -> Sample:
    signals = {"vehicle.speed_mps": float(data.scalars["speed_mps"][instant])}
    return from_arrays(data.images[instant], signals, f"instant {instant}")
