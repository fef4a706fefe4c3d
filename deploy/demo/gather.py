"""Gathers what a demo run left behind: status files, the spool's ledger, and the clips that came home."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.demo.facts import DemoFacts
from deploy.demo.paths import DemoPaths
from replay.truth import Grades, grade
from runtime.drives import TruthEvent, open_drive
from runtime.health.status import read_status
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.pictures import contact_sheet
from runtime.recording.verify import verify_clip

#: A planted event this close to the end of the run cannot be held against it: its rule may need that long.
GRADED_MARGIN_S = 2.0


def gather_facts(paths: DemoPaths, drive_path: Path, seconds: float, problems: Sequence[str]) -> DemoFacts:
    """The facts of the run in `paths`: every number comes from what the processes wrote, or from the clips."""
    runtime = read_status(paths.status / "runtime.json") or {}
    recorder = read_status(paths.status / "recorder.json") or {}
    clips = tuple(sorted(paths.received.glob("clips/*/*/*.mcap")))
    sound, broken = _verify(clips)
    receiver = read_status(paths.received / "receiver.json") or {}
    verified = min(len(sound), int(receiver.get("verified", 0)))
    cameras: Mapping[str, Any] = runtime.get("cameras", {})
    model = runtime.get("model") or {}
    shutil.copytree(paths.status, paths.folder / "status", dirs_exist_ok=True)
    sheet = contact_sheet(sound[0], paths.folder / "contact_sheet.png").path if sound else None
    firings = runtime.get("firings", [])
    return DemoFacts(
        drive_path=drive_path,
        seconds=seconds,
        framesets=int(runtime.get("framesets", 0)),
        framesets_dropped=int(runtime.get("framesets_dropped", 0)),
        frames_missing={name: int(camera["missing"]) for name, camera in cameras.items()},
        frames_received={name: int(camera["received"]) for name, camera in cameras.items()},
        latency_ms=_latency(runtime),
        firings=dict(sorted(Counter(firing["rule"] for firing in firings).items())),
        grades=_grade(drive_path, runtime, firings, seconds),
        clips_sealed=int(recorder.get("spool", {}).get("sealed", 0)),
        clips_delivered=len(clips),
        clips_verified=verified,
        bytes_seen=sum(int(camera["bytes"]) for camera in cameras.values()),
        bytes_home=sum(clip.stat().st_size for clip in clips),
        model={key: str(model.get(key, "none")) for key in ("name", "backend", "precision", "sha256")},
        realtime=_realtime(runtime.get("realtime", [])),
        clip_paths=clips,
        contact_sheet=sheet,
        problems=(*problems, *broken),
    )


def _verify(clips: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The clips that keep every promise, and what is wrong with the others: the receiver's verdict, checked again."""
    reports = [(clip, verify_clip(clip)) for clip in clips]
    broken = [f"{clip}: {problem}" for clip, report in reports for problem in report.problems]
    return [clip for clip, report in reports if report.ok], broken


def _latency(runtime: Mapping[str, Any]) -> dict[str, float]:
    """Of the ticks at the phase that was chosen; a run too short for a choice has only those before it."""
    chosen, measuring = runtime.get("latency_ms", {}), runtime.get("latency_while_measuring_ms", {})
    figures = chosen if chosen.get("count") else measuring
    return {name: float(figures.get(name) or 0.0) for name in ("count", "p50", "p99", "p99_9", "max")}


def _grade(
    drive_path: Path, runtime: Mapping[str, Any], firings: Sequence[Mapping[str, Any]], seconds: float
) -> Grades:
    """Firings are on the live clock; the runtime's status says where the drive lies on it."""
    drive = open_drive(drive_path)
    epoch = runtime.get("epoch") or {"drive_start_ns": drive.start_ns, "live_start_ns": drive.start_ns}
    end_ns = drive.start_ns + int((seconds - GRADED_MARGIN_S) * NANOSECONDS_PER_SECOND)
    events: list[TruthEvent] = [event for event in drive.truth or () if event.time_ns < end_ns]
    offset_ns = int(epoch["drive_start_ns"]) - int(epoch["live_start_ns"])
    times = [(str(firing["rule"]), int(firing["mono_ns"]) + offset_ns) for firing in firings]
    return grade(events, times, runtime.get("rules", []))


def _realtime(settings: Sequence[Mapping[str, Any]]) -> str:
    """One phrase for each kind of wish: eight cameras' threads ask for the same."""
    told: dict[str, None] = {}
    for setting in settings:
        wish = str(setting["setting"])
        wish = f"capture: {wish.partition(': ')[2]}" if wish.startswith("camera ") else wish
        told[f"{wish} granted" if setting["applied"] else f"{wish} not granted ({setting['reason']})"] = None
    return "; ".join(told) or "none asked for"
