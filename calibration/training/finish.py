"""From trained weights to a whole bundle: export, then all that `calibrate` makes of an FP32 file."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from calibration.training.bundle import FP32_FILE
from calibration.training.calibrate import calibrate_and_describe
from calibration.training.dataset import TrainingSet
from calibration.training.export import export_onnx
from calibration.training.network import HydraMini


def make_bundle(network: HydraMini, held_out: TrainingSet, directory: Path, cache: Path, console: Console) -> None:
    """Write the bundle; a directory that exists is replaced when the new one is whole."""
    draft = directory.with_name(directory.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    export_onnx(network, draft / FP32_FILE)
    console.print("exported FP32")
    calibrate_and_describe(draft, held_out, cache, console)
    shutil.rmtree(directory, ignore_errors=True)
    draft.rename(directory)
