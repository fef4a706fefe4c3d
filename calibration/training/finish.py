"""From trained weights to a whole bundle: export, calibrate on synthetic drives, evaluate both files, describe.

Calibration is the command's own (`shadowrig calibrate int8`), on drives of seeds that are neither trained nor evaluated
on: day, dusk, rain and night, judged on two further drives against their truth.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from calibration.int8.bundle_files import FILE_OF_ROLE
from calibration.int8.command import Settings, calibrate_int8
from calibration.int8.report import Report, print_report
from calibration.int8.trt_judgement import TRT_ROLES
from calibration.training.bundle import FP32_FILE, write_manifest
from calibration.training.dataset import TrainingSet
from calibration.training.evaluate import compare_files, metrics_table
from calibration.training.export import export_onnx
from calibration.training.model_card import write_model_card
from calibration.training.network import HydraMini
from replay.synthetic.drive_writer import synthesize_drive
from runtime.inference.bundle import load_bundle

VERSION = "1"
METHOD = "percentile"
#: Between two harms: what small, rare objects excite is the tail that a percentile cuts (99.999 costs traffic lights
#: most), and what a tail stretches is what symmetric int8 has too few steps for (`minmax` leaves the embedding of the
#: TensorRT file at a cosine of 0.997).
PERCENTILE = 99.9995
SAMPLES = 128
#: Seed and weather of each drive.
CALIBRATION_DRIVES = ((101, "clear"), (102, "night"), (103, "rain"), (104, "dusk"))
TRUTH_DRIVES = ((7, "clear"), (7, "night"))
DRIVE_SECONDS, DRIVE_RATE_HZ = 40.0, 10.0


def make_bundle(network: HydraMini, held_out: TrainingSet, directory: Path, cache: Path, console: Console) -> None:
    """Write the bundle; a directory that exists is replaced when the new one is whole."""
    draft = directory.with_name(directory.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    export_onnx(network, draft / FP32_FILE)
    console.print("exported FP32; making synthetic drives and calibrating on them")
    report = calibrate_draft(draft, cache)
    print_report(report, console)
    console.print("evaluating FP32 and INT8 on held-out seeds")
    metrics = compare_files(draft, held_out, lambda done, total: None)
    metrics["int8_speed_up_one_thread"] = float(f"{report.speed.speed_up:.3g}")
    metrics["trt_int8_cosine"] = {name: float(f"{value:.5g}") for name, value in report.tensorrt[0].agreement.items()}
    write_manifest(draft, VERSION, metrics)
    write_model_card(draft, metrics)
    console.print(metrics_table(metrics))
    load_bundle(draft)
    shutil.rmtree(directory, ignore_errors=True)
    draft.rename(directory)


def calibrate_draft(directory: Path, cache: Path) -> Report:
    """Ranges and INT8 files of the draft; files for TensorRT are emitted on demand and do not stay."""
    write_manifest(directory, VERSION, {})
    settings = Settings(METHOD, PERCENTILE, SAMPLES, truth_drives=tuple(make_drives(cache, TRUTH_DRIVES)))
    report = calibrate_int8(directory, drives=make_drives(cache, CALIBRATION_DRIVES), settings=settings)
    if not report.listed:
        raise RuntimeError(f"{directory}: {report.verdict}; {'; '.join(report.doubts)}")
    for role in TRT_ROLES:
        (directory / FILE_OF_ROLE[role]).unlink(missing_ok=True)
    return report


def make_drives(cache: Path, drives: Sequence[tuple[int, str]]) -> list[Path]:
    """Synthetic drives in the cache, each rendered once; their paths."""
    return [
        synthesize_drive(cache / "drives", seed, DRIVE_SECONDS, rate_hz=DRIVE_RATE_HZ, weather=weather)
        for seed, weather in drives
    ]
