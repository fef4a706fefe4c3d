"""One replay: a drive through the shared loop (`playing`), with everything that a report wants to know of it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from replay.clips import ReplayClips
from replay.playing import DrivePlayer, ReplayError, check_rate, network_for, rig_beside
from replay.report import ReplayResult
from replay.truth import grade
from runtime.composition import (
    describe_provenance,
    find_bundle,
    model_facts,
    open_rig,
    open_rules,
)
from runtime.drives import open_drive
from runtime.health.histogram import LatencyHistogram
from runtime.messages import NANOSECONDS_PER_MILLISECOND, Firing
from runtime.openings import Openings
from runtime.recording.calibrations import calibrated_cameras
from runtime.recording.provenance import CameraProvenance
from runtime.rig import RigCamera
from runtime.shadow.scoreboard import Scoreboard

__all__ = ["ReplayError", "ReplayRequest", "replay_drive"]


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to replay, and with what. `model` None: signals only."""

    drive: Path
    model: str | None
    rules: tuple[str, ...] = ("library",)
    rig: Path | None = None
    rate_hz: float = 20.0
    threads: int = 1
    out_dir: Path | None = None
    second_model: str | None = None  # another candidate beside it


def replay_drive(request: ReplayRequest, show_progress: bool = False) -> ReplayResult:
    """Replay a drive. Raises DocumentError for bad files and ReplayError for parts that do not fit."""
    check_rate(request.rate_hz)
    session = _Session(request)
    try:
        return session.run(show_progress)
    finally:
        session.close()


class _Session:
    """The parts of one replay."""

    def __init__(self, request: ReplayRequest) -> None:
        self._request = request
        openings = Openings()
        drive = openings.open(lambda: open_drive(request.drive))
        declared = None if drive is None else drive.declared
        rules = openings.open(lambda: open_rules(request.rules, declared))
        self._rig_path = request.rig or (rig_beside(drive) if drive is not None else None)
        rig = openings.open(lambda: open_rig(self._rig_path))
        bundle = openings.open(lambda: None if request.model is None else find_bundle(request.model))
        second = openings.open(lambda: None if request.second_model is None else find_bundle(request.second_model))
        openings.settle()
        assert drive is not None
        assert rules is not None
        self._drive = drive
        network = network_for(drive, bundle, request.threads, rig)
        records = request.out_dir is not None
        other = network_for(drive, second, request.threads, rig)
        self._player = DrivePlayer(
            drive, network, rig, rules, request.rate_hz, records, measures_images=records, second=other
        )
        self._clips = self._open_clips(calibrated_cameras(rig, drive.cameras))

    def _open_clips(self, calibrated: tuple[RigCamera, ...]) -> ReplayClips | None:
        if self._request.out_dir is None:
            return None
        fingerprint = hashlib.sha256(repr(self._request).encode()).hexdigest()
        known = {camera.name for camera in calibrated}
        cameras = {name: CameraProvenance(calibrated=name in known) for name in self._drive.cameras}
        rules, player = self._player.parts.rules, self._player
        provenance = describe_provenance(
            f"replay-{self._drive.name}", fingerprint, rules, player.network, self._rig_path, cameras, player.second
        )
        return ReplayClips(self._request.out_dir, provenance, time.time_ns(), calibrated)

    def run(self, show_progress: bool) -> ReplayResult:
        """Every instant of the drive, in order."""
        began_s = time.perf_counter()
        firings: list[Firing] = []
        latency, scoreboard = LatencyHistogram(), Scoreboard()
        framesets = 0
        for played in self._player.ticks(show_progress):
            report = played.report
            framesets += report.frameset is not None and not report.frameset.is_empty
            latency.record_ns(round(sum(report.timings_ms.values()) * NANOSECONDS_PER_MILLISECOND))
            firings += report.firings
            if report.comparison is not None:
                scoreboard.add(report.comparison)
            if report.second is not None:
                scoreboard.add(report.second.comparison)
            if self._clips is not None:
                self._clips.record(played.packets, played.samples, report)
                self._clips.tell(self._player.parts.engine)
        clips = {} if self._clips is None else self._clips.finish(self._drive.end_ns, firings)
        if self._clips is not None:
            self._clips.tell(self._player.parts.engine)
        return self._result(firings, clips, framesets, latency, scoreboard, time.perf_counter() - began_s)

    def _result(
        self,
        firings: list[Firing],
        clips: dict[int, Path],
        framesets: int,
        latency: LatencyHistogram,
        scoreboard: Scoreboard,
        wall_s: float,
    ) -> ReplayResult:
        parts, drive = self._player.parts, self._drive
        counters = {} if parts.assembler is None else parts.assembler.counters()
        grades = None
        if drive.truth is not None:
            times = [(firing.rule, firing.time_ns) for firing in firings]
            grades = grade(drive.truth, times, [rule.name for rule in parts.rules.rules])
        return ReplayResult(
            drive=drive.name,
            start_ns=drive.start_ns,
            duration_s=drive.duration_s,
            cameras=tuple(drive.cameras),
            framesets=framesets,
            framesets_dropped=0,  # a replay waits for every frame: it never skips an instant
            frames_missing={camera: counter.missing for camera, counter in counters.items()},
            wall_s=wall_s,
            firings=firings,
            clips=clips,
            suppressed=parts.engine.suppressed,
            not_applicable=parts.not_applicable,
            latency_ms=latency.to_dict(),
            model=model_facts(self._player.network),
            second_model=model_facts(self._player.second),
            grades=grades,
            agreement=scoreboard.to_dict(),
            camera_faults=self._player.camera_faults,
            drive_faults=tuple(drive.faults),
            not_understood=parts.engine.not_understood,
        )

    def close(self) -> None:
        """Give everything back."""
        self._player.close()
        if self._clips is not None:
            self._clips.close()
