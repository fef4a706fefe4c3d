"""What a replay found: the result as JSON, and as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from replay.truth import Grades
from runtime.messages import NANOSECONDS_PER_SECOND, Firing


@dataclass(slots=True)
class ReplayResult:
    """Facts of one replay."""

    drive: str
    start_ns: int
    duration_s: float
    cameras: tuple[str, ...]
    framesets: int
    framesets_dropped: int
    frames_missing: Mapping[str, int]
    wall_s: float
    firings: Sequence[Firing]
    clips: Mapping[int, Path]  # firing's sequence -> clip
    suppressed: Mapping[str, Mapping[str, int]]
    not_applicable: Mapping[str, str]
    latency_ms: Mapping[str, float | int | None]
    model: Mapping[str, str] | None
    second_model: Mapping[str, str] | None
    grades: Grades | None
    agreement: Mapping[str, Mapping[str, float]]
    camera_faults: Mapping[str, str]
    drive_faults: Sequence[str]
    not_understood: Mapping[str, int]  # by signal, values that were not what rules expect of it

    @property
    def real_time_factor(self) -> float:
        """Seconds of drive for each second of replay."""
        return self.duration_s / self.wall_s if self.wall_s > 0 else 0.0

    def elapsed_s(self, firing: Firing) -> float:
        """Seconds from the drive's start to a firing."""
        return (firing.time_ns - self.start_ns) / NANOSECONDS_PER_SECOND

    @property
    def notes(self) -> list[str]:
        """What went wrong without ending the replay, and what could not be asked: one line each."""
        return [
            *(f"drive: {fault}" for fault in self.drive_faults),
            *(f"camera {camera}: {fault}" for camera, fault in self.camera_faults.items()),
            *(f"camera {camera}: no frame at {count} ticks" for camera, count in self.frames_missing.items() if count),
            *(
                f"signal {name}: {count} values were not understood (text for a number, or no number), so unknown"
                for name, count in self.not_understood.items()
            ),
            *(f"rule {rule} is not applicable: {reason}" for rule, reason in self.not_applicable.items()),
        ]

    def to_json(self) -> dict[str, Any]:
        """The result in the shape that `--json` promises."""
        facts: dict[str, Any] = {
            "drive": self.drive,
            "duration_s": round(self.duration_s, 3),
            "cameras": list(self.cameras),
            "framesets": self.framesets,
            "framesets_dropped": self.framesets_dropped,
            "real_time_factor": round(self.real_time_factor, 2),
            "firings": [self._firing(firing) for firing in self.firings],
            "latency_ms": dict(self.latency_ms),
            "model": None if self.model is None else dict(self.model),
        }
        if self.second_model is not None:
            facts["second_model"] = dict(self.second_model)
            facts["agreement"] = {name: dict(agreement) for name, agreement in self.agreement.items()}
        if self.not_understood:
            facts["not_understood"] = dict(self.not_understood)
        if self.grades is not None:
            facts["truth"] = self.grades.totals()
        return facts

    def _firing(self, firing: Firing) -> dict[str, Any]:
        clip = self.clips.get(firing.sequence)
        return {
            "rule": firing.rule,
            "mono_ns": firing.time_ns,
            "elapsed_s": round(self.elapsed_s(firing), 3),
            "operands": dict(firing.operands),
            "clip": None if clip is None else str(clip),
        }


def print_result(result: ReplayResult) -> None:
    """Print the result for a person."""
    console = Console()
    console.print(_summary(result))
    if result.firings:
        console.print(_firings(result))
    else:
        console.print("no rule fired")
    for note in result.notes:
        console.print(note, style="yellow", markup=False)


def _summary(result: ReplayResult) -> Table:
    table = Table(title=f"Replay of {result.drive}", show_header=False, title_style="bold")
    table.add_row("drive", f"{result.duration_s:.1f} s, {len(result.cameras)} cameras")
    table.add_row("framesets", f"{result.framesets}, {result.framesets_dropped} dropped")
    table.add_row("speed", f"{result.real_time_factor:.1f} x real time")
    if result.latency_ms.get("p50") is not None:
        table.add_row("tick", f"p50 {result.latency_ms['p50']:.2f} ms, p99 {result.latency_ms['p99']:.2f} ms")
    if result.model is not None:
        table.add_row("model", f"{result.model['name']} ({result.model['precision']}, {result.model['backend']})")
    if result.second_model is not None:
        second = result.second_model
        table.add_row("second model", f"{second['name']} ({second['precision']}, {second['backend']})")
    if result.grades is not None:
        totals = result.grades.totals()
        table.add_row("truth", f"{totals['hit']} hit, {totals['missed']} missed, {totals['false']} false")
    for name, agreement in result.agreement.items():
        table.add_row(name, f"mean {agreement['mean_absolute']:.3g}, largest {agreement['largest_absolute']:.3g}")
    suppressed = sum(sum(reasons.values()) for reasons in result.suppressed.values())
    if suppressed:
        table.add_row("suppressed", f"{suppressed} events: {_reasons(result.suppressed)}")
    if result.clips:
        table.add_row("clips", f"{len(set(result.clips.values()))} in {next(iter(result.clips.values())).parent}")
    return table


def _reasons(suppressed: Mapping[str, Mapping[str, int]]) -> str:
    """`3 cooldown, 2 budget`, most frequent first."""
    counts: Counter[str] = Counter()
    for reasons in suppressed.values():
        counts.update(reasons)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _firings(result: ReplayResult) -> Table:
    table = Table(title="Firings", title_style="bold")
    table.add_column("at", justify="right")
    table.add_column("rule")
    table.add_column("operands", overflow="fold")
    for firing in result.firings:
        operands = ", ".join(f"{name}={_short(value)}" for name, value in firing.operands.items())
        table.add_row(f"{result.elapsed_s(firing):.2f} s", firing.rule, operands)
    return table


def _short(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
