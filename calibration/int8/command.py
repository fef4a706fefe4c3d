"""`shadowrig calibrate int8 BUNDLE --drives … --images …`: ranges and an INT8 file for any model bundle.

    report = calibrate_int8("models/yolox_nano", drives=["drives/model3_night"], samples=64)

Three quarters of the samples give the ranges, every fourth is kept back and shows how INT8 compares with FP32. Then
`ranges.json` and `model.cpu.qdq.onnx` are written and `model.yaml` is changed in its `files:` block only. The INT8 file
is *listed* there (and so used by `precision: auto`) only when it is faster than FP32 and keeps its answers; otherwise
it stays beside the others unlisted and the report says why. `list_anyway` overrules that.

All is measured on drafts in a folder of their own; then the files are renamed into the bundle, the manifest last. A
run that fails or is interrupted before that leaves the old bundle as it was.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

from calibration.int8.agreement import Agreement, measure_agreement
from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.feeds import build_feeds
from calibration.int8.graph import Graph, GraphError, load_prepared, opset_of
from calibration.int8.manifest_edit import set_files
from calibration.int8.plan import QuantizationPlan, make_plan
from calibration.int8.ranges import METHODS, RangesError, RangesFile, collect_ranges
from calibration.int8.sampling import Sample, sample_hash, sample_sources
from runtime.formats.durable_files import sha256_of
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.manifest import MANIFEST_FILE, Manifest

CPU_INT8_FILE = "model.cpu.qdq.onnx"
RANGES_FILE = "ranges.json"
DEFAULT_SAMPLES = 64
#: With 99.99 small, rare objects suffer first (traffic lights lost 12 points of AP on the bundled network): their
#: activations are the outliers that are cut.
DEFAULT_PERCENTILE = 99.999
#: Every n-th sample is kept back for the comparison.
HELD_OUT_EVERY = 4
LOWEST_KEPT_SHARE = 0.95
LOWEST_COSINE = 0.98

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Report:
    """What a calibration did and how good the result is."""

    bundle: str
    method: str
    percentile: float | None
    seed: int
    samples: int  # that ranges were measured on
    sample_sha256: str
    opset_before: int
    opset_after: int
    convolutions_int8: int
    convolutions_fp32: tuple[str, ...]
    tensors: int
    agreement: Agreement
    listed: bool
    doubts: tuple[str, ...]  # why it was not listed, or should not be

    def as_dict(self) -> dict[str, object]:
        """Plain data for `--json`."""
        derived = {"kept_share": self.agreement.kept_share, "speed_up": self.agreement.speed_up}
        return {**asdict(self), "agreement": {**asdict(self.agreement), **derived}}


def calibrate_int8(
    bundle_dir: str | Path,
    drives: Sequence[str | Path] = (),
    images: Sequence[str | Path] = (),
    method: str = "percentile",
    percentile: float = DEFAULT_PERCENTILE,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    json_path: str | Path | None = None,
    list_anyway: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Calibrate the bundle in `bundle_dir`.

    Raises:
        DocumentError: the bundle is not whole.
        SamplingError: sources that give nothing, all of them.
        RangesError, GraphError: wrong settings, or a graph that cannot be quantised.
    """
    _check_settings(method, percentile, samples)
    bundle = load_bundle(bundle_dir)
    if "fp32" not in bundle.graphs:
        raise RangesError(f"{bundle.directory}: has no fp32 file to start from; calibration needs the FP32 network")
    taken = sample_sources(
        bundle.manifest,
        [Path(path) for path in drives],
        [Path(path) for path in images],
        samples,
        seed,
        lambda done, total: progress("sampling", done, total),
    )
    report = _calibrate(bundle, taken, method, percentile, seed, list_anyway, progress)
    if json_path is not None:
        Path(json_path).write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
    return report


def split_samples(taken: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Samples to measure on, and those kept back; a single sample has to do for both."""
    held_out = list(taken[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])
    measured = [sample for index, sample in enumerate(taken) if index % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    return measured, held_out or [measured[-1]]


def quantize_file(
    fp32: Path,
    directory: Path,
    manifest: Manifest,
    measured: Sequence[Sample],
    method: str,
    percentile: float,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[RangesFile, QuantizationPlan]:
    """Write `ranges.json` and the INT8 file for an FP32 file into `directory`."""
    model = load_prepared(fp32)
    graph = Graph(model)
    plan = make_plan(graph)
    if not plan.convolutions:
        raise GraphError(f"{fp32}: has no convolution with constant weights that could go to INT8; run it in FP32")
    feeds = build_feeds(manifest, measured, fp32)
    ranges = RangesFile(
        model_sha256=sha256_of(fp32),
        method=method,
        percentile=percentile if method == "percentile" else None,
        samples=len(feeds),
        sample_sha256=sample_hash(feeds),
        seed=seed,
        tensors=collect_ranges(model, plan.measured, feeds, method, percentile, progress),
    )
    ranges.save(directory / RANGES_FILE)
    onnx.save(emit_cpu_qdq(graph, plan, ranges.tensors), str(directory / CPU_INT8_FILE))
    return ranges, plan


def report_table(report: Report) -> Table:
    """The report as a person reads it."""
    agreement = report.agreement
    table = Table(title=f"INT8 of {report.bundle}", show_header=False)
    method = report.method if report.percentile is None else f"{report.method} {report.percentile:g}"
    table.add_row("ranges", f"{method}, {report.samples} runs, {report.tensors} tensors")
    table.add_row("convolutions", f"{report.convolutions_int8} in INT8, {len(report.convolutions_fp32)} kept in FP32")
    table.add_row("opset", f"{report.opset_before} -> {report.opset_after}")
    for name, value in agreement.cosine.items():
        table.add_row(f"cosine of {name}", f"{value:.5f}")
    table.add_row("detections kept", f"{agreement.detections_kept} of {agreement.detections}")
    table.add_row("best score", f"FP32 {agreement.best_score_fp32:.3f}, INT8 {agreement.best_score_int8:.3f}")
    speed = f"FP32 {agreement.fp32_ms:.2f} ms, INT8 {agreement.int8_ms:.2f} ms, {agreement.speed_up:.2f} times as fast"
    table.add_row("one thread", speed)
    table.add_row("listed in model.yaml", "yes" if report.listed else "no: FP32 stays in use")
    for doubt in report.doubts:
        table.add_row("doubt", doubt)
    return table


def print_report(report: Report, console: Console | None = None) -> None:
    """Print `report_table`."""
    (console or Console()).print(report_table(report))


def _calibrate(
    bundle: ModelBundle,
    taken: Sequence[Sample],
    method: str,
    percentile: float,
    seed: int,
    list_anyway: bool,
    progress: Progress,
) -> Report:
    measured, held_out = split_samples(taken)
    fp32 = bundle.file("fp32")
    with tempfile.TemporaryDirectory(prefix=".calibration-", dir=bundle.directory) as folder:
        draft = Path(folder)
        ranges, plan = quantize_file(
            fp32, draft, bundle.manifest, measured, method, percentile, seed, lambda d, t: progress("ranges", d, t)
        )
        progress("comparing", 0, len(held_out))
        agreement = measure_agreement(fp32, draft / CPU_INT8_FILE, bundle.manifest, held_out)
        doubts = tuple(doubts_of(agreement))
        listed = list_anyway or not doubts
        _put_in_place(bundle, draft, listed)
    return Report(
        bundle=bundle.manifest.name,
        method=method,
        percentile=ranges.percentile,
        seed=seed,
        samples=ranges.samples,
        sample_sha256=ranges.sample_sha256,
        opset_before=opset_of(onnx.load(str(fp32), load_external_data=False)),
        opset_after=opset_of(onnx.load(str(bundle.directory / CPU_INT8_FILE))),
        convolutions_int8=len(plan.convolutions),
        convolutions_fp32=tuple(plan.kept_float),
        tensors=len(plan.tensors),
        agreement=agreement,
        listed=listed,
        doubts=doubts,
    )


def doubts_of(agreement: Agreement) -> list[str]:
    """Why the INT8 file should not replace FP32."""
    doubts = []
    if agreement.speed_up <= 1.0:
        doubts.append(f"INT8 is not faster than FP32 on this machine ({agreement.speed_up:.2f} times); run FP32")
    if agreement.kept_share < LOWEST_KEPT_SHARE:
        doubts.append(f"INT8 keeps {agreement.kept_share:.1%} of FP32's detections, {LOWEST_KEPT_SHARE:.0%} are wanted")
    for name, value in agreement.cosine.items():
        if value < LOWEST_COSINE:
            doubts.append(f"output {name} has cosine {value:.4f} with FP32, {LOWEST_COSINE} is wanted")
    return doubts


def _put_in_place(bundle: ModelBundle, draft: Path, listed: bool) -> None:
    """Rename the drafts into the bundle and change its manifest.

    While the names change, the manifest speaks of the old INT8 file; so it is taken off the list first.
    """
    files = {role: {"path": entry.path, "sha256": entry.sha256} for role, entry in bundle.manifest.files.items()}
    for role in ("cpu_int8", "ranges"):
        files.pop(role, None)
    set_files(bundle.directory / MANIFEST_FILE, files)
    for name in (RANGES_FILE, CPU_INT8_FILE):
        os.replace(draft / name, bundle.directory / name)
    files["ranges"] = {"path": RANGES_FILE, "sha256": sha256_of(bundle.directory / RANGES_FILE)}
    if listed:
        files["cpu_int8"] = {"path": CPU_INT8_FILE, "sha256": sha256_of(bundle.directory / CPU_INT8_FILE)}
    set_files(bundle.directory / MANIFEST_FILE, files)


def _check_settings(method: str, percentile: float, samples: int) -> None:
    faults = []
    if method not in METHODS:
        faults.append(f"method is {method!r}; use one of {', '.join(METHODS)}")
    if not 90.0 <= percentile <= 100.0:
        faults.append(f"percentile is {percentile}; it must be 90 to 100, {DEFAULT_PERCENTILE} is a good start")
    if not 1 <= samples <= 10_000:
        faults.append(f"samples is {samples}; it must be 1 to 10000, {DEFAULT_SAMPLES} is a good start")
    if faults:
        raise RangesError("\n".join(faults))
