"""The loop that replay and backtest share: a drive's cameras and signals through the runtime's own tick.

Time is the drive's own. For every instant of the grid all packets and signal samples up to it are taken in first,
then the tick runs; so nothing is ever late and two plays of a drive are alike. A drive without cameras ticks at the
asked rate on its clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from replay.cameras import ReplayCameras
from runtime.capabilities import SourceFacts
from runtime.capture.camera_watch import CameraWatch
from runtime.composition import CompositionError, ModelChoice, compose_tick, open_network, open_signals
from runtime.controller_objects import SIGNAL as OBJECTS_SIGNAL
from runtime.drives import Drive, DriveVideoError
from runtime.inference.network import Network
from runtime.messages import NANOSECONDS_PER_SECOND, Packet, SignalSample, TickReport
from runtime.pipeline import RuleEvaluation
from runtime.rig import Rig
from triggers import RuleEngine, RuleSet

MAX_RATE_HZ = 240.0


class ReplayError(ValueError):
    """The replay cannot be made as asked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class PlayedTick:
    """What went into one tick and what came out."""

    packets: Sequence[Packet]  # clip-ready, where packets are kept
    samples: Sequence[SignalSample]
    report: TickReport


class DrivePlayer:
    """The parts of one play.

    `keep_packets` hands on what clips need; `measures_images` is for whoever records what rules may ask later;
    `wrap_rules` puts something between the tick and its rules; `second` is shadowed beside `network`.
    """

    def __init__(
        self,
        drive: Drive,
        network: Network | None,
        rig: Rig | None,
        rules: RuleSet,
        rate_hz: float,
        keep_packets: bool = False,
        measures_images: bool = False,
        wrap_rules: Callable[[RuleEngine], RuleEvaluation] | None = None,
        second: Network | None = None,
    ) -> None:
        self._drive = drive
        self.network, self.second = network, second
        self.watches = [CameraWatch(name, opened_ns=drive.start_ns) for name in drive.cameras]
        self._table = open_signals({})
        reference, self._grid_start_ns = first_capture(drive)
        known = frozenset(drive.signal_kinds) if drive.knows_all_signals else None
        self.parts = compose_tick(
            self.watches, network, rig, self._table, rules, 0, rate_hz, reference,
            SourceFacts(known, is_replay=True, has_objects=drive.may_hold(OBJECTS_SIGNAL)), measures_images, wrap_rules,
            second,
        )  # fmt: skip
        images = None if self.parts.second is None else self.parts.second.images
        self.cameras = ReplayCameras(
            drive, self.watches, self.parts.assembler, keep_packets, os.cpu_count() or 1, images
        )
        self._samples = SampleFeed(drive)

    def ticks(self, show_progress: bool = False) -> Iterator[PlayedTick]:
        """Every instant of the drive, in order."""
        parts = self.parts
        for instant, time_ns in self._instants(show_progress):
            packets = self.cameras.feed_until(time_ns)
            samples = self._samples.until(time_ns)
            for sample in samples:
                self._table.offer(sample)
            report = parts.pipeline.tick(instant, parts.grid.time_of(instant), time_ns)
            yield PlayedTick(packets, samples, report)

    def _instants(self, show_progress: bool) -> Iterator[tuple[int, int]]:
        """Instants with the time up to which frames and signals belong to them: windows end a quarter period late."""
        grid, drive = self.parts.grid, self._drive
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

    @property
    def camera_faults(self) -> dict[str, str]:
        """What is wrong with cameras that failed, by name."""
        return {watch.name: watch.error for watch in self.watches if watch.connection == "failed" and watch.error}

    def close(self) -> None:
        """Give everything back."""
        self.cameras.close()
        self.parts.pipeline.close()
        if self.network is not None:
            self.network.close()
        if self.second is not None:
            self.second.close()


class SampleFeed:
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


def first_capture(drive: Drive) -> tuple[str | None, int]:
    """The reference camera, the first that has a frame, and the time of that frame, where the grid begins."""
    for name, camera in drive.cameras.items():
        try:
            packet = next(iter(camera.packets()), None)
        except DriveVideoError:
            continue  # reported where the camera is played
        if packet is not None:
            return name, packet.time_ns
    return None, drive.start_ns


def network_for(drive: Drive, bundle: Path | None, threads: int, rig: Rig | None) -> Network | None:
    """The network over a drive's cameras; None without one of either. Raises ReplayError where they do not fit."""
    if bundle is None or not drive.cameras:
        return None
    try:
        return open_network(ModelChoice(bundle, threads=threads), tuple(drive.cameras), rig)
    except CompositionError as error:
        raise ReplayError(str(error)) from error


def check_rate(rate_hz: float) -> None:
    """Raises ReplayError for a rate that cannot be ticked at."""
    if not 0 < rate_hz <= MAX_RATE_HZ:
        raise ReplayError(f"--rate is {rate_hz:g}; choose more than 0 and at most {MAX_RATE_HZ:g}")


def rig_beside(drive: Drive) -> Path | None:
    """The calibration that lies in the drive's own folder, if any."""
    folder = drive.path if drive.path.is_dir() else drive.path.parent
    path = folder / "rig.yaml"
    return path if path.is_file() else None
