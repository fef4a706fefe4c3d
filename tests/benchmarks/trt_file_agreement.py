"""How far the file for TensorRT says what the CPU file says, head by head, from the one calibration of a bundle.

    python tests/benchmarks/trt_file_agreement.py [--held-out 6] [--json FILE]

Emits both files for TensorRT from the bundled network's own ranges, with the layers in floating point that those name,
and runs them emulated (calibration/int8/emulation.py) beside the bundle's CPU file, on instants that it was not
calibrated on. Prints the cosine of every output and exits with 1 when one lies below 0.999. Where `tensorrt_rtx` is
installed it also builds both files and counts the convolutions in INT8.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from calibration.int8.bundle_files import CPU_INT8_FILE, RANGES_FILE, open_graph
from calibration.int8.emit_trt import emit_trt_qdq
from calibration.int8.lint_command import describe
from calibration.int8.plan import make_plan
from calibration.int8.ranges import Feed, RangesFile
from calibration.int8.rtx_check import RtxNotInstalledError, build_with_rtx
from calibration.int8.trt_agreement import trt_agreement
from calibration.training import dataset
from calibration.training.bundle import FP32_FILE
from replay.synthetic import labelled_instants

BUNDLE = Path(__file__).resolve().parents[2] / "runtime" / "models" / "hydra_mini"
LOWEST_COSINE = 0.999
#: A seed of synthetic instants that no other set uses.
HELD_OUT_SEED = 9911


def synthetic_feeds(seed: int, count: int) -> list[Feed]:
    """Feeds of the bundled network from synthetic instants."""
    data = dataset.pack(labelled_instants(seed=seed, count=count, size=dataset.SOURCE_SIZE), seed, count)
    speeds = [np.array([[speed]], np.float32) for speed in data.scalars["speed_mps"]]
    return [{"images": np.asarray(data.images[i]), "speed_mps": speed} for i, speed in enumerate(speeds)]


def files_of(bundle: Path) -> dict[str, ModelProto]:
    """The CPU file as it lies in the bundle, and both files for TensorRT, all from the same ranges."""
    graph, _ = open_graph(bundle / FP32_FILE)
    ranges = RangesFile.load(bundle / RANGES_FILE)
    plan = make_plan(graph, frozenset((*ranges.kept_float, *ranges.trt_float)))
    return {
        "cpu": onnx.load(str(bundle / CPU_INT8_FILE)),
        "trt_fp32": emit_trt_qdq(graph, plan, ranges.tensors, "fp32"),
        "trt_fp16": emit_trt_qdq(graph, plan, ranges.tensors, "fp16"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Agreement of the TensorRT files with the CPU file.")
    parser.add_argument("--held-out", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files = files_of(BUNDLE)
    held_out = synthetic_feeds(HELD_OUT_SEED, options.held_out)
    found = {role: trt_agreement(files["cpu"], files[role], held_out) for role in ("trt_fp32", "trt_fp16")}
    for role, values in found.items():
        for name, value in values.items():
            print(f"{role:10s} {name:16s} {value:.5f}")
    _print_builds(files)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    low = [(role, name) for role, values in found.items() for name, value in values.items() if value < LOWEST_COSINE]
    for role, name in low:
        print(f"{role}: output {name} has cosine {found[role][name]:.5f}, {LOWEST_COSINE} is wanted", file=sys.stderr)
    return 1 if low else 0


def _print_builds(files: dict[str, ModelProto]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for role in ("trt_fp32", "trt_fp16"):
            path = Path(folder) / f"{role}.onnx"
            onnx.save(files[role], str(path))
            try:
                report = build_with_rtx(path)
            except RtxNotInstalledError as error:
                print(f"{role}: not built: {error}")
                continue
            print(f"{role:10s} {'; '.join(report.errors) or describe(report)}")


if __name__ == "__main__":
    sys.exit(main())
