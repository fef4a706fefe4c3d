"""One replay: a drive's recorded cameras and signals through the runtime's own tick, as fast as it goes.

Time is the drive's own. For every instant of the grid all packets and signal samples up to it are taken in first,
then the tick runs; so nothing is ever late and two replays of a drive fire alike. A drive without cameras ticks at
the asked rate on its clock.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from replay.cameras import ReplayCameras
from replay.clips import ReplayClips
from replay.report import ReplayResult
from replay.truth import grade
from runtime.capabilities import SourceFacts
from runtime.capture.camera_watch import CameraWatch
from runtime.composition import (
    CompositionError,
    ModelChoice,
    Openings,
    compose_tick,
    describe_provenance,
    find_bundle,
    model_facts,
    open_network,
    open_rig,
    open_rules,
    open_signals,
)
from runtime.drives import Drive, DriveVideoError, open_drive
from runtime.health.histogram import LatencyHistogram
from runtime.inference.network import Network
from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Firing, SignalSample
from runtime.recording.provenance import CameraProvenance
from runtime.shadow.scoreboard import Scoreboard

MAX_RATE_HZ = 240.0


class ReplayError(ValueError):
    """The replay cannot be made as asked; the text says why and what to do."""


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


def replay_drive(request: ReplayRequest, show_progress: bool = False) -> ReplayResult:
    """Replay a drive. Raises DocumentError for bad files and ReplayError for parts that do not fit."""
    if not 0 < request.rate_hz <= MAX_RATE_HZ:
        raise ReplayError(f"--rate is {request.rate_hz:g}; choose more than 0 and at most {MAX_RATE_HZ:g}")
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
        rig = openings.open(lambda: open_rig(request.rig or (rig_beside(drive) if drive is not None else None)))
        bundle = openings.open(lambda: None if request.model is None else find_bundle(request.model))
        openings.settle()
        assert drive is not None
        assert rules is not None
        self._drive = drive
        watches = [CameraWatch(name, opened_ns=drive.start_ns) for name in drive.cameras]
        self._network = self._open_network(bundle)
        self._table = open_signals({})
        reference, self._grid_start_ns = self._first_capture()
        known = frozenset(drive.signal_kinds) if drive.knows_all_signals else None
        self._parts = compose_tick(
            watches, self._network, rig, self._table, rules, 0, request.rate_hz, reference,
            SourceFacts(known, is_replay=True), measures_images=request.out_dir is not None,
        )  # fmt: skip
        self._cameras = ReplayCameras(
            self._drive, watches, self._parts.assembler, request.out_dir is not None, os.cpu_count() or 1
        )
        self._samples = _SampleFeed(self._drive)
        self._clips = self._open_clips()
        self._watches = watches

    def _open_network(self, bundle: Path | None) -> Network | None:
        if bundle is None or not self._drive.cameras:
            return None
        try:
            return open_network(ModelChoice(bundle, threads=self._request.threads), tuple(self._drive.cameras))
        except CompositionError as error:
            raise ReplayError(str(error)) from error

    def _open_clips(self) -> ReplayClips | None:
        if self._request.out_dir is None:
            return None
        fingerprint = hashlib.sha256(repr(self._request).encode()).hexdigest()
        cameras = {name: CameraProvenance() for name in self._drive.cameras}
        provenance = describe_provenance(
            f"replay-{self._drive.name}", fingerprint, self._parts.rules, self._network, self._request.rig, cameras
        )
        return ReplayClips(self._request.out_dir, provenance, time.time_ns())

    def run(self, show_progress: bool) -> ReplayResult:
        """Every instant of the drive, in order."""
        began_s = time.perf_counter()
        firings: list[Firing] = []
        latency, scoreboard = LatencyHistogram(), Scoreboard()
        framesets = 0
        for instant, time_ns in self._instants(show_progress):
            packets = self._cameras.feed_until(time_ns)
            samples = self._samples.until(time_ns)
            for sample in samples:
                self._table.offer(sample)
            report = self._parts.pipeline.tick(instant, self._parts.grid.time_of(instant), time_ns)
            framesets += report.frameset is not None and not report.frameset.is_empty
            latency.record_ns(round(sum(report.timings_ms.values()) * NANOSECONDS_PER_MILLISECOND))
            firings += report.firings
            if report.comparison is not None:
                scoreboard.add(report.comparison)
            if self._clips is not None:
                self._clips.record(packets, samples, report)
                self._clips.tell(self._parts.engine, report.time_ns)
        clips = {} if self._clips is None else self._clips.finish(self._drive.end_ns, firings)
        if self._clips is not None:
            self._clips.tell(self._parts.engine, self._drive.end_ns)
        return self._result(firings, clips, framesets, latency, scoreboard, time.perf_counter() - began_s)

    def _instants(self, show_progress: bool) -> Iterator[tuple[int, int]]:
        """Instants with the time up to which frames and signals belong to them: windows end a quarter period late."""
        grid, drive = self._parts.grid, self._drive
        grid.start(self._grid_start_ns)
        instant = 0
        with Progress(
            TextColumn("replaying {task.fields[drive]}"), BarColumn(), TimeRemainingColumn(), disable=not show_progress
        ) as progress:
            task = progress.add_task("", total=drive.duration_s, drive=drive.name)
            while (window_end_ns := grid.time_of(instant) + grid.period_ns // 4) <= drive.end_ns:
                yield instant, window_end_ns
                progress.update(task, completed=(window_end_ns - drive.start_ns) / NANOSECONDS_PER_SECOND)
                instant += 1

    def _first_capture(self) -> tuple[str | None, int]:
        """The reference camera, the first that has a frame, and the time of that frame, where the grid begins."""
        for name, camera in self._drive.cameras.items():
            try:
                packet = next(iter(camera.packets()), None)
            except DriveVideoError:
                continue  # reported where the camera is played
            if packet is not None:
                return name, packet.time_ns
        return None, self._drive.start_ns

    def _result(
        self,
        firings: list[Firing],
        clips: dict[int, Path],
        framesets: int,
        latency: LatencyHistogram,
        scoreboard: Scoreboard,
        wall_s: float,
    ) -> ReplayResult:
        parts, drive = self._parts, self._drive
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
            model=model_facts(self._network),
            grades=grades,
            agreement=scoreboard.to_dict(),
            camera_faults={
                watch.name: watch.error for watch in self._watches if watch.connection == "failed" and watch.error
            },
            drive_faults=tuple(drive.faults),
        )

    def close(self) -> None:
        """Give everything back."""
        self._cameras.close()
        if self._clips is not None:
            self._clips.close()
        if self._network is not None:
            self._network.close()


class _SampleFeed:
    """The drive's signal samples, in portions."""

    def __init__(self, drive: Drive) -> None:
        self._samples = drive.signal_samples()
        self._next = next(self._samples, None)

    def until(self, time_ns: int) -> list[SignalSample]:
        """Every sample up to `time_ns` that has not been given yet."""
        portion: list[SignalSample] = []
        while self._next is not None and self._next.time_ns <= time_ns:
            portion.append(self._next)
            self._next = next(self._samples, None)
        return portion


def rig_beside(drive: Drive) -> Path | None:
    """The calibration that lies in the drive's own folder, if any."""
    folder = drive.path if drive.path.is_dir() else drive.path.parent
    path = folder / "rig.yaml"
    return path if path.is_file() else None
