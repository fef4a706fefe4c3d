"""From trained weights to a whole bundle: export, calibrate on seeds of their own, evaluate both files, write the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
from rich.console import Console

from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.graph import Graph, load_prepared
from calibration.int8.plan import make_plan
from calibration.int8.ranges import RangesFile, collect_ranges
from calibration.int8.sampling import sample_hash
from calibration.training import dataset
from calibration.training.bundle import CPU_INT8_FILE, FP32_FILE, RANGES_FILE, sha256_of, write_manifest
from calibration.training.dataset import TrainingSet
from calibration.training.evaluate import compare_files, metrics_table
from calibration.training.export import export_onnx
from calibration.training.network import HydraMini

VERSION = "1"
METHOD = "percentile"
PERCENTILE = 99.99
CALIBRATION_PER_SEED = 8


def make_bundle(network: HydraMini, held_out: TrainingSet, directory: Path, cache: Path, console: Console) -> None:
    """Write the bundle; a directory that exists is replaced when the new one is whole."""
    draft = directory.with_name(directory.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    export_onnx(network, draft / FP32_FILE)
    console.print("exported FP32; measuring activation ranges")
    calibrate_draft(draft, cache)
    console.print("evaluating FP32 and INT8 on held-out seeds")
    metrics = compare_files(draft, held_out, lambda done, total: None)
    write_manifest(draft, VERSION, metrics)
    console.print(metrics_table(metrics))
    shutil.rmtree(directory, ignore_errors=True)
    draft.rename(directory)


def calibrate_draft(directory: Path, cache: Path) -> None:
    """Ranges and INT8 file of the draft from rendered instants of `dataset.CALIBRATION_SEEDS`."""
    data = dataset.open_or_make(cache, "calibration", dataset.CALIBRATION_SEEDS, CALIBRATION_PER_SEED)
    feeds = [
        {"images": data.images[instant], "speed_mps": data.scalars["speed_mps"][instant].reshape(1, 1)}
        for instant in range(len(data))
    ]
    model = load_prepared(directory / FP32_FILE)
    graph = Graph(model)
    plan = make_plan(graph)
    ranges = collect_ranges(model, plan.measured, feeds, METHOD, PERCENTILE)
    digest = sample_hash(feeds)
    RangesFile(
        model_sha256=sha256_of(directory / FP32_FILE),
        method=METHOD,
        percentile=PERCENTILE,
        samples=len(feeds),
        sample_sha256=digest,
        seed=0,
        tensors=ranges,
    ).save(directory / RANGES_FILE)
    onnx.save(emit_cpu_qdq(graph, plan, ranges), str(directory / CPU_INT8_FILE))
