"""The demo's closing table: what a person reads first."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from deploy.demo.facts import DemoFacts

MEBIBYTE = 1024 * 1024


def print_facts(facts: DemoFacts, console: Console) -> None:
    """Print the whole result, from frames to where to look next."""
    console.print(_run_table(facts))
    console.print(_camera_table(facts))
    console.print(_firing_table(facts))
    console.print(_next_steps(facts))
    for problem in facts.problems:
        console.print(f"[bold red]problem:[/] {problem}")


def _run_table(facts: DemoFacts) -> Table:
    table = Table(title="Shadowrig demo", show_header=False, title_style="bold")
    latency = facts.latency_ms
    share = 100.0 * facts.bytes_home / facts.bytes_seen if facts.bytes_seen else 0.0
    table.add_row("framesets", f"{facts.framesets} in {facts.seconds:.0f} s, {facts.framesets_dropped} dropped")
    table.add_row(
        "capture → result",
        f"p50 {latency['p50']:.1f} ms   p99 {latency['p99']:.1f} ms   "
        f"p99.9 {latency['p99_9']:.1f} ms   max {latency['max']:.1f} ms\n"
        f"of {latency['count']:.0f} ticks: those since the phase was chosen, which takes some 12 s",
    )
    table.add_row("model", f"{facts.model['name']} ({facts.model['precision']}, {facts.model['backend']})")
    table.add_row(
        "clips",
        f"{facts.clips_sealed} sealed, {facts.clips_delivered} delivered, {facts.clips_verified} verified",
    )
    home, seen = facts.bytes_home / MEBIBYTE, facts.bytes_seen / MEBIBYTE
    table.add_row("bytes home / seen", f"{home:.1f} of {seen:.1f} MiB ({share:.0f} %: events are planted densely here)")
    table.add_row("real-time rights", facts.realtime)
    return table


def _camera_table(facts: DemoFacts) -> Table:
    table = Table(title="Cameras", title_style="bold")
    for heading in ("camera", "frames", "missing from their tick"):
        table.add_column(heading, justify="left" if heading == "camera" else "right")
    for camera, received in facts.frames_received.items():
        missing = facts.frames_missing[camera]
        table.add_row(camera, str(received), f"[yellow]{missing}[/]" if missing else "0")
    return table


def _firing_table(facts: DemoFacts) -> Table:
    table = Table(title="Firings against the drive's planted truth", title_style="bold")
    for heading in ("rule", "firings", "hit", "missed", "false"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for rule in sorted({*facts.firings, *facts.grades.by_rule}):
        grade = facts.grades.by_rule.get(rule)
        counts = (f"[green]{grade.hit}[/]", _bad(grade.missed), _bad(grade.false)) if grade else ("", "", "")
        table.add_row(rule, str(facts.firings.get(rule, 0)), *counts)
    return table


def _bad(count: int) -> str:
    return f"[bold red]{count}[/]" if count else "0"


def _next_steps(facts: DemoFacts) -> Panel:
    lines = [f"drive          {facts.drive_path}"]
    lines += [f"clip           {path}" for path in facts.clip_paths[:3]]
    if len(facts.clip_paths) > 3:
        lines.append(f"               … and {len(facts.clip_paths) - 3} more beside them")
    if facts.contact_sheet is not None:
        lines.append(f"contact sheet  {facts.contact_sheet}")
    if facts.clip_paths:
        lines += [
            "",
            f"look inside    shadowrig clip inspect {facts.clip_paths[0]}",
            "open           drag the clip into Foxglove or Lichtblick, or: rerun CLIP.mcap",
        ]
    return Panel("\n".join(lines), title="Where to look next", title_align="left", expand=False)
