"""`shadowrig calibrate int8 BUNDLE --drives … --images …`: ranges and INT8 files for any model bundle.

    report = calibrate_int8("models/yolox_nano", drives=["drives/model3_night"], samples=64)

Samples make three sets that share no instant (`sample_sets`): ranges are measured on the first; each layer's effect on
the outputs is measured, and the worst are left in floating point until the gate passes with headroom on the second; the
gate that decides looks at the third, once, when all is chosen. Every mixture that was tried is timed against FP32 in
one run, and what was chosen once more by itself (`agreement`). What is written depends on what came of it:

| the gate | INT8 on this CPU | written |
|---|---|---|
| passes | faster | `ranges.json` and all INT8 files, all listed in `model.yaml` |
| passes | not faster | the same without the CPU file: FP32 stays in use on CPUs, TensorRT has its files |
| fails | any | nothing, unless `list_anyway`; drafts can be kept in a folder to look at |

Files for TensorRT face the same gate by themselves, emulated (`trt_judgement`), and one that fails is left out.

All is measured on drafts; a run that fails or is interrupted leaves the bundle as it was.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from calibration.int8.agreement import SpeedComparison, compare_speed
from calibration.int8.bundle_files import (
    CPU_INT8_FILE,
    FILE_OF_ROLE,
    emit_from_ranges,
    left_behind,
    measure_ranges,
    open_graph,
    put_in_place,
    write_drafts,
)
from calibration.int8.feeds import build_feeds
from calibration.int8.gate import AccuracyGate, GateLimits, GateResult
from calibration.int8.graph import preparation_notes
from calibration.int8.histograms import METHODS
from calibration.int8.mixed_precision import search_both
from calibration.int8.preconditions import (
    DRAFTS_PREFIX,
    check_bundle,
    check_memory,
    free_memory_bytes,
    remove_leftovers,
)
from calibration.int8.ranges import Feed, RangesError
from calibration.int8.report import Report
from calibration.int8.sample_sets import split_samples
from calibration.int8.sampling import Sample, sample_sources
from calibration.int8.sensitivity import measure_effects, spread
from calibration.int8.trade import choose, measure_trade
from calibration.int8.trt_judgement import AGREEMENT_FEEDS, judge_trt_drafts
from calibration.int8.trt_mixture import first_layers_in_float
from runtime.drives import open_drive
from runtime.inference.bundle import ModelBundle, load_bundle

DEFAULT_SAMPLES = 64
#: With 99.99 small, rare objects suffer first (traffic lights lost 12 points of AP on the bundled network): their
#: activations are the outliers that are cut.
DEFAULT_PERCENTILE = 99.999
#: Samples that files are timed on.
SPEED_FEEDS = 4

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to calibrate; checked all at once by `check`."""

    method: str = "percentile"
    percentile: float = DEFAULT_PERCENTILE
    samples: int = DEFAULT_SAMPLES
    seed: int = 0
    limits: tuple[str, ...] = ()  # of the gate, `HEAD=VALUE` or `HEAD.METRIC=VALUE`
    truth_drives: tuple[Path, ...] = ()  # with ground truth, to judge both files on
    list_anyway: bool = False
    drafts_dir: Path | None = None  # where files are kept that were refused

    def check(self) -> None:
        """Raise `RangesError` with everything that is wrong."""
        faults = []
        if self.method not in METHODS:
            faults.append(f"method is {self.method!r}; use one of {', '.join(METHODS)}")
        if not 90.0 <= self.percentile <= 100.0:
            faults.append(
                f"percentile is {self.percentile}; it must be 90 to 100, {DEFAULT_PERCENTILE} is a good start"
            )
        if not 1 <= self.samples <= 10_000:
            faults.append(f"samples is {self.samples}; it must be 1 to 10000, {DEFAULT_SAMPLES} is a good start")
        if self.seed < 0:
            faults.append(f"seed is {self.seed}; it must be 0 or more")
        if faults:
            raise RangesError("\n".join(faults))


def calibrate_int8(
    bundle_dir: str | Path,
    drives: Sequence[str | Path] = (),
    images: Sequence[str | Path] = (),
    settings: Settings | None = None,
    json_path: str | Path | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Calibrate the bundle in `bundle_dir`.

    Raises:
        DocumentError: the bundle is not whole, or a drive with ground truth cannot be opened.
        SamplingError: sources that give nothing, all of them.
        LimitError: limits for heads or metrics that are not there, all of them.
        RangesError, GraphError: wrong settings, a bundle that cannot take the files, or a graph that cannot be
            quantised.
    """
    settings = settings or Settings()
    settings.check()
    bundle = load_bundle(bundle_dir)
    check_bundle(bundle, FILE_OF_ROLE)
    limits = GateLimits.parse(settings.limits, bundle.manifest.heads)
    for path in settings.truth_drives:
        open_drive(path)  # a search of many minutes must not end at a drive that cannot be opened
    taken = sample_sources(
        bundle.manifest,
        [Path(path) for path in drives],
        [Path(path) for path in images],
        settings.samples,
        settings.seed,
        lambda done, total: progress("sampling", done, total),
    )
    check_memory(bundle.manifest, taken, free_memory_bytes())
    remove_leftovers(bundle)
    report = _calibrate(bundle, taken, settings, limits, progress)
    if json_path is not None:
        Path(json_path).write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
    return report


def emit_bundle(bundle_dir: str | Path) -> tuple[dict[str, str], list[str]]:
    """Write all INT8 files again from the bundle's `ranges.json`, without drives; files by role, and what to know.

    The CPU file stays listed where it was, and is not listed where it was not: whether it is faster was measured then.

    Raises:
        DocumentError: the bundle is not whole.
        RangesError, GraphError: the ranges do not fit the network.
    """
    bundle = load_bundle(bundle_dir)
    check_bundle(bundle, FILE_OF_ROLE)
    with tempfile.TemporaryDirectory(prefix=DRAFTS_PREFIX, dir=bundle.directory) as folder:
        roles, notes = emit_from_ranges(bundle, Path(folder))
        if "cpu_int8" not in bundle.manifest.files:
            roles.remove("cpu_int8")
            notes.append("no CPU file: the calibration found FP32 better there")
        return put_in_place(bundle, Path(folder), roles, roles), notes


def doubts_of(result: GateResult, speed: SpeedComparison) -> list[str]:
    """Why the INT8 file should not replace FP32 on this machine's CPU."""
    doubts = list(result.reasons)
    if not speed.is_faster:
        doubts.append(
            "INT8 cannot win here: at the accuracy that is wanted it is not faster than FP32 beyond doubt on this "
            f"machine ({speed.statement}); run FP32"
        )
    return doubts


def _calibrate(
    bundle: ModelBundle, taken: Sequence[Sample], settings: Settings, limits: GateLimits, progress: Progress
) -> Report:
    sets = split_samples(taken)
    fp32, manifest = bundle.file("fp32"), bundle.manifest
    graph, plan = open_graph(fp32, manifest)
    feeds = build_feeds(manifest, sets.measured, fp32)
    method = (settings.method, settings.percentile, settings.seed)
    ranges = measure_ranges(fp32, graph, plan, feeds, *method, lambda d, t: progress("ranges", d, t))
    effects = measure_effects(graph, plan, ranges.tensors, feeds, lambda d, t: progress("sensitivity", d, t))
    progress("mixed precision", 0, 1)
    worst_first = [effect.layer for effect in effects]
    choosing = AccuracyGate(fp32, manifest, sets.chosen_on, (), limits)
    candidates = search_both(
        graph, ranges.tensors, choosing, worst_first, lambda d, t: progress("mixed precision", d, t)
    )
    timed: list[Feed] = spread(choosing.feeds, SPEED_FEEDS)
    trade = measure_trade(fp32, candidates, timed, manifest.heads, progress=lambda d, t: progress("trade", d, t))
    chosen = choose(trade)
    best = candidates[chosen - 1]
    speed = compare_speed(fp32, best.model, timed, progress=lambda d, t: progress("speed", d, t))
    progress("judging", 0, 1)
    judge = AccuracyGate(fp32, manifest, sets.judged, settings.truth_drives, limits)
    result = judge.measure(best.model)
    doubts = doubts_of(result, speed)
    refused = not result.passes and not settings.list_anyway
    listed = settings.list_anyway or not doubts
    with tempfile.TemporaryDirectory(prefix=DRAFTS_PREFIX, dir=bundle.directory) as folder:
        drafts = Path(folder)
        ranges = replace(ranges, kept_float=best.kept_float)
        trt_float = first_layers_in_float(graph, ranges, best.model, spread(choosing.feeds, AGREEMENT_FEEDS))
        ranges = replace(ranges, trt_float=trt_float)
        roles, notes = write_drafts(drafts, graph, ranges, best.model)
        progress("judging", 1, 2)
        judgements = judge_trt_drafts(drafts, roles, best.model, judge)
        failed = tuple(entry.role for entry in judgements if not entry.gate.passes and not settings.list_anyway)
        if failed and not refused:
            ranges = replace(ranges, refused=failed)
            roles, notes = write_drafts(drafts, graph, ranges, best.model)
        progress("judging", 2, 2)
        placed = [role for role in roles if listed or role != "cpu_int8"]
        removed = () if refused else tuple(left_behind(bundle, placed))
        files = _keep_or_place(bundle, drafts, placed, refused, listed, settings.drafts_dir)
    return Report(
        bundle=manifest.name,
        method=settings.method,
        percentile=ranges.percentile,
        seed=settings.seed,
        samples=ranges.samples,
        sets=sets.sizes,
        sample_sha256=ranges.sample_sha256,
        tensors=len(ranges.tensors),
        notes=(*preparation_notes(onnx.load(str(fp32)), graph.model), *notes, *filter(None, [sets.note])),
        effects=tuple(effects),
        trade=tuple(trade),
        chosen=chosen,
        kept_float=best.kept_float,
        choice=best.result,
        gate=result,
        tensorrt=tuple(judgements),
        speed=speed,
        doubts=tuple(doubts),
        refused=refused,
        listed=listed and not refused,
        files=files,
        removed=removed,
    )


def _keep_or_place(
    bundle: ModelBundle, drafts: Path, placed: list[str], refused: bool, listed: bool, drafts_dir: Path | None
) -> dict[str, str]:
    """Files into the bundle, or, when refused, into the folder for drafts if there is one; the bundle's by role."""
    if drafts_dir is not None and (refused or not listed):
        shutil.copytree(drafts, drafts_dir, dirs_exist_ok=True)
    return {} if refused else put_in_place(bundle, drafts, placed, placed)


__all__ = ["CPU_INT8_FILE", "Report", "Settings", "calibrate_int8", "doubts_of", "emit_bundle"]
