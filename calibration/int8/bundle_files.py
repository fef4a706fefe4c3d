"""The INT8 files of a bundle, emitted from one `ranges.json` into a folder of drafts and then put in place together.

| role | file | for |
|---|---|---|
| `ranges` | `ranges.json` | every emission; a person who audits |
| `cpu_int8` | `model.cpu.qdq.onnx` | ONNX Runtime on x86-64 and Arm |
| `trt_int8` | `model.trt.qdq.onnx` | TensorRT, floating point in FP32 |
| `trt_int8_fp16` | `model.trt.fp16.qdq.onnx` | TensorRT, floating point in FP16; left out where ranges do not fit |

Files are measured and checked as drafts. Putting them in place renames them and changes the manifest's `files:` block
last; while names change, the manifest lists none of them, so a run that is interrupted leaves a bundle that loads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto

from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.emit_trt import Body, emit_trt_qdq
from calibration.int8.feeds import build_feeds
from calibration.int8.graph import Graph, GraphError, fix_sizes, load_prepared
from calibration.int8.manifest_edit import set_files
from calibration.int8.plan import QuantizationPlan, make_plan
from calibration.int8.ranges import Feed, RangesError, RangesFile, collect_ranges, saturate
from calibration.int8.sampling import Sample, sample_hash
from calibration.int8.trt_lint import lint_trt
from calibration.int8.trt_plan import trt_tensors
from runtime.formats.durable_files import sha256_of
from runtime.inference.bundle import ModelBundle
from runtime.inference.manifest import MANIFEST_FILE, Manifest

RANGES_FILE = "ranges.json"
CPU_INT8_FILE = "model.cpu.qdq.onnx"
TRT_INT8_FILE = "model.trt.qdq.onnx"
TRT_FP16_FILE = "model.trt.fp16.qdq.onnx"
FILE_OF_ROLE = {
    "ranges": RANGES_FILE,
    "cpu_int8": CPU_INT8_FILE,
    "trt_int8": TRT_INT8_FILE,
    "trt_int8_fp16": TRT_FP16_FILE,
}

Progress = Callable[[int, int], None]


def open_graph(fp32: Path, manifest: Manifest | None = None) -> tuple[Graph, QuantizationPlan]:
    """The prepared graph and the plan with everything in INT8 that can be.

    Sizes that the export left open are those of `manifest`; without one they stay open, and TensorRT gets no files.

    Raises:
        GraphError: the graph cannot be prepared, or nothing in it can go to INT8.
    """
    shapes = {} if manifest is None else {entry.name: entry.shape for entry in manifest.inputs}
    graph = Graph(fix_sizes(load_prepared(fp32), shapes))
    plan = make_plan(graph)
    if not plan.layers:
        raise GraphError(f"{fp32}: has no layer with constant weights that could go to INT8; run it in FP32")
    return graph, plan


def needed_tensors(graph: Graph, plan: QuantizationPlan) -> list[str]:
    """Tensors whose ranges any mixture of `plan` and both its files may ask for, each once."""
    given = {item.tensor for item in plan.inputs}
    wanted = [*plan.tensors, *trt_tensors(graph, plan)]
    return [name for name in dict.fromkeys(wanted) if name not in given]


def measure_ranges(
    fp32: Path,
    graph: Graph,
    plan: QuantizationPlan,
    feeds: Sequence[Feed],
    method: str,
    percentile: float,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> RangesFile:
    """Run the FP32 network and say what each tensor's values are mapped from."""
    tensors = collect_ranges(graph.model, needed_tensors(graph, plan), feeds, method, percentile, progress)
    return RangesFile(
        model_sha256=sha256_of(fp32),
        method=method,
        percentile=percentile if method == "percentile" else None,
        samples=len(feeds),
        sample_sha256=sample_hash(feeds),
        seed=seed,
        tensors=tensors if method == "minmax" else saturate(graph, tensors),
    )


def write_drafts(
    directory: Path, graph: Graph, ranges: RangesFile, cpu_model: bytes | None
) -> tuple[list[str], list[str]]:
    """Write `ranges.json`, the CPU file when there is one, and the TensorRT files; their roles, and what to know."""
    ranges.save(directory / RANGES_FILE)
    roles = ["ranges"]
    notes: list[str] = []
    if cpu_model is not None:
        (directory / CPU_INT8_FILE).write_bytes(cpu_model)
        roles.append("cpu_int8")
    trt_plan = make_plan(graph, frozenset((*ranges.kept_float, *ranges.trt_float)))
    if ranges.trt_float:
        notes.append(f"left {', '.join(ranges.trt_float)} in floating point for TensorRT, to agree with the CPU file")
    bodies: tuple[tuple[str, Body], ...] = (("trt_int8", "fp32"), ("trt_int8_fp16", "fp16"))
    for role, body in bodies:
        if role in ranges.refused:
            notes.append(f"no {FILE_OF_ROLE[role]}: it failed the accuracy gate when it was calibrated")
            continue
        try:
            model = emit_trt_qdq(graph, trt_plan, ranges.tensors, body, notes)
            refuse_what_tensorrt_refuses(model)
        except (GraphError, RangesError) as error:
            # The other files are good without it; a vehicle that wants it is told by the report.
            notes.append(f"no {FILE_OF_ROLE[role]}: {error}")
        else:
            onnx.save(model, str(directory / FILE_OF_ROLE[role]))
            roles.append(role)
    return roles, list(dict.fromkeys(notes))


def refuse_what_tensorrt_refuses(model: ModelProto) -> None:
    """Raise `GraphError` with what the linter finds in a file for TensorRT."""
    findings = lint_trt(model)
    if findings:
        raise GraphError("; ".join(findings))


def emit_from_ranges(bundle: ModelBundle, directory: Path) -> tuple[list[str], list[str]]:
    """All files of a bundle again from its `ranges.json`, as drafts in `directory`; roles, and what to know.

    Raises:
        RangesError: there are no ranges, or they are of another FP32 file.
    """
    listed = bundle.manifest.files.get("ranges")
    path = bundle.directory / (RANGES_FILE if listed is None else listed.path)
    if not path.exists():
        raise RangesError(f"{path}: is not there; measure ranges first: shadowrig calibrate int8 {bundle.directory}")
    ranges = RangesFile.load(path)
    fp32 = bundle.file("fp32")
    found = sha256_of(fp32)
    if ranges.model_sha256 != found:
        raise RangesError(
            f"{path}: was measured on an FP32 file with SHA-256 {ranges.model_sha256[:12]}…, {fp32.name} has "
            f"{found[:12]}…; calibrate again: shadowrig calibrate int8 {bundle.directory}"
        )
    graph, everything = open_graph(fp32, bundle.manifest)
    unknown = [name for name in ranges.kept_float if name not in everything.layers]
    if unknown:
        raise RangesError(f"{path}: kept_float names {unknown[0]!r}, which is no layer of {fp32.name}; calibrate again")
    plan = make_plan(graph, frozenset(ranges.kept_float))
    wanted = [*plan.measured, *trt_tensors(graph, plan)]
    missing = [name for name in wanted if name not in ranges.tensors]
    if missing:
        raise RangesError(
            f"{path}: has no range for {missing[0]} and {len(missing) - 1} more, which a file for TensorRT needs "
            f"(older versions did not measure them); calibrate again: shadowrig calibrate int8 {bundle.directory}"
        )
    cpu_model = emit_cpu_qdq(graph, plan, ranges.tensors).SerializeToString()
    return write_drafts(directory, graph, ranges, cpu_model)


def left_behind(bundle: ModelBundle, roles: Sequence[str]) -> list[str]:
    """Files of an earlier calibration that one with files of `roles` removes, because they belong to other ranges."""
    return [name for role, name in FILE_OF_ROLE.items() if role not in roles and (bundle.directory / name).exists()]


def put_in_place(bundle: ModelBundle, drafts: Path, roles: Sequence[str], listed: Sequence[str]) -> dict[str, str]:
    """Rename the drafts of `roles` into the bundle and list those of `listed`; the bundle's file of each role.

    What is `left_behind` is taken off the list and removed.
    """
    files = {role: {"path": entry.path, "sha256": entry.sha256} for role, entry in bundle.manifest.files.items()}
    for role in FILE_OF_ROLE:
        files.pop(role, None)
    set_files(bundle.directory / MANIFEST_FILE, files)
    for role, name in FILE_OF_ROLE.items():
        if role in roles:
            os.replace(drafts / name, bundle.directory / name)
        else:
            (bundle.directory / name).unlink(missing_ok=True)
    for role in listed:
        path = bundle.directory / FILE_OF_ROLE[role]
        files[role] = {"path": path.name, "sha256": sha256_of(path)}
    set_files(bundle.directory / MANIFEST_FILE, files)
    return {role: FILE_OF_ROLE[role] for role in roles}


def quantize_file(
    fp32: Path,
    directory: Path,
    manifest: Manifest,
    measured: Sequence[Sample],
    method: str,
    percentile: float,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> tuple[RangesFile, QuantizationPlan]:
    """Ranges and CPU file of an FP32 file into `directory`, everything in INT8 that can be, judged by nobody.

    Files for TensorRT can be emitted from the ranges at any time (`emit_from_ranges`).
    """
    graph, plan = open_graph(fp32, manifest)
    feeds = build_feeds(manifest, measured, fp32)
    ranges = measure_ranges(fp32, graph, plan, feeds, method, percentile, seed, progress)
    ranges.save(directory / RANGES_FILE)
    onnx.save(emit_cpu_qdq(graph, plan, ranges.tensors), str(directory / CPU_INT8_FILE))
    return ranges, plan
