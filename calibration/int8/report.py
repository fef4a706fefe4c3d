"""What a calibration did, how good the result is and what to run: for people as tables, for programs as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from calibration.int8.agreement import SpeedComparison
from calibration.int8.gate import GateResult
from calibration.int8.sensitivity import LayerEffect
from calibration.int8.trade import TradePoint, trade_table
from calibration.int8.trt_judgement import TrtJudgement

WORST_SHOWN = 8
FOR_TENSORRT = {"trt_int8": "an FP32-body file", "trt_int8_fp16": "an FP16-body file"}


@dataclass(frozen=True, slots=True)
class Report:
    """The whole account of one calibration."""

    bundle: str
    method: str
    percentile: float | None
    seed: int
    samples: int  # network runs that ranges were measured on
    sets: tuple[int, int, int]  # samples that were measured, chosen on, and judged
    sample_sha256: str
    tensors: int
    notes: tuple[str, ...]  # what was done to the graph and to the files
    effects: tuple[LayerEffect, ...]  # worst first
    trade: tuple[TradePoint, ...]
    chosen: int  # of `trade`
    kept_float: tuple[str, ...]  # layers that the search left in floating point
    choice: GateResult  # of the chosen mixture, on the samples it was chosen on
    gate: GateResult  # of the chosen mixture, on samples that nothing else saw: what decides
    tensorrt: tuple[TrtJudgement, ...]  # files for TensorRT, emulated, on the same samples
    speed: SpeedComparison
    doubts: tuple[str, ...]  # why INT8 should not be run on this machine's CPU, or at all
    refused: bool  # nothing was written into the bundle
    listed: bool  # the CPU file is in the manifest, and so in use
    files: dict[str, str]  # written, by role
    removed: tuple[str, ...]  # files of an earlier calibration that were taken out of the bundle

    @property
    def recommendation(self) -> str:
        """What to run on this machine's CPU: "cpu_int8" or "fp32"."""
        return "fp32" if self.doubts else "cpu_int8"

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        if self.refused:
            return "refused: nothing was written into the bundle; run FP32"
        if not self.listed:
            kept = [FOR_TENSORRT[role] for role in self.files if role in FOR_TENSORRT]
            there = f"; for TensorRT there is {' and '.join(kept)}" if kept else ""
            return f"INT8 cannot win on this network on this CPU: run FP32 (its INT8 file is not in the bundle){there}"
        return (
            "run INT8 (cpu_int8)" if not self.doubts else "INT8 is listed because you asked for it, against the doubts"
        )

    def as_dict(self) -> dict[str, object]:
        """Plain data for `--json`."""
        own = ("effects", "trade", "choice", "gate", "tensorrt", "speed")
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in own}
        return {
            **plain,
            "recommendation": self.recommendation,
            "verdict": self.verdict,
            "choice": self.choice.as_dict(),
            "gate": self.gate.as_dict(),
            "tensorrt": {
                entry.role: {"agreement": entry.agreement, "gate": entry.gate.as_dict()} for entry in self.tensorrt
            },
            "speed": {**asdict(self.speed), "statement": self.speed.statement},
            "trade": [asdict(point) for point in self.trade],
            "effects": [{**asdict(effect), "sqnr_db": effect.sqnr_db} for effect in self.effects],
        }


def report_table(report: Report) -> Table:
    """What was done and what came of it."""
    table = Table(title=f"INT8 of {report.bundle}", show_header=False)
    method = report.method if report.percentile is None else f"{report.method} {report.percentile:g}"
    table.add_row("ranges", f"{method}, {report.samples} runs, {report.tensors} tensors, seed {report.seed}")
    table.add_row("samples", sets_told(report))
    for note in report.notes:
        table.add_row("done", note)
    point = report.trade[report.chosen]
    table.add_row("layers", f"{point.layers_int8} in INT8, {point.layers_float} in floating point")
    for score in report.gate.scores:
        if score.value is not None:
            limit = "" if score.limit is None else f", limit {score.limit:g}"
            truth = " against truth" if score.against == "truth" else ""
            mark = "" if score.passes else "  FAILS"
            table.add_row(f"{score.head}: {score.metric}", f"{score.value:.4f}{limit}{truth}{mark}")
    table.add_row("headroom", f"{report.gate.headroom:+.2f} where judged, {report.choice.headroom:+.2f} where chosen")
    for note in report.gate.notes:
        table.add_row("note", note)
    table.add_row("speed", report.speed.statement)
    for judgement in report.tensorrt:
        table.add_row(judgement.role, judgement.statement)
    for role, name in report.files.items():
        table.add_row("written", f"{name} ({role})")
    for name in report.removed:
        table.add_row("removed", f"{name}: of an earlier calibration; it belonged to other ranges")
    for doubt in report.doubts:
        table.add_row("doubt", doubt)
    table.add_row("verdict", report.verdict)
    return table


def sets_told(report: Report) -> str:
    """How many samples were for what."""
    measured, chosen_on, judged = report.sets
    return f"{measured} measured, {chosen_on} chosen on, {judged} judged"


def effects_table(effects: Sequence[LayerEffect]) -> Table:
    """The layers whose INT8 alone hurts most."""
    table = Table("layer", "operator", "signal to noise, dB", "worst output", title="Most sensitive layers, each alone")
    for effect in effects[:WORST_SHOWN]:
        table.add_row(effect.layer, effect.operator, f"{effect.sqnr_db:.1f}", effect.output)
    return table


def print_report(report: Report, console: Console | None = None) -> None:
    """All three tables."""
    target = console or Console()
    target.print(effects_table(report.effects))
    target.print(trade_table(report.trade, report.chosen))
    target.print(report_table(report))
