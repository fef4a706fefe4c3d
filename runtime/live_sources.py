"""Makes live camera and signal sources out of a configuration.

A recorded drive named as `drive:` gives one paced camera for each of its own and all of its signals; sources listed
one by one are added to it. Every source of one drive shares one epoch, so that cameras and signals stay together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from runtime.capture.paced_sources import DriveCameraSource, video_file_source
from runtime.capture.rtsp import RtspSource
from runtime.capture.sources import CameraSource
from runtime.capture.v4l2 import V4l2Source
from runtime.capture.zeromq import ZeromqCameraSource
from runtime.clock import Clock
from runtime.config import sources as configured
from runtime.config.rig_config import RigConfig
from runtime.drives import Drive, DriveEpoch, open_drive
from runtime.formats.documents import DocumentError, Problem, suggest
from runtime.formats.signal_names import SignalKind
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.openings import Openings
from runtime.signals.can_bus import CanBusSource
from runtime.signals.recorded import RecordedSignalSource
from runtime.signals.sources import SignalSource
from runtime.signals.zeromq import ZeromqSignalSource

#: Paced sources begin this long after they are made: threads have started by then, and nothing is late at once.
LEAD_IN_NS = NANOSECONDS_PER_SECOND


@dataclass(frozen=True, slots=True)
class LiveCamera:
    """One camera of the rig and what is expected of it."""

    name: str
    source: CameraSource
    rate_hz: float | None = None
    size: tuple[int, int] | None = None


@dataclass(slots=True)
class LiveSources:
    """Everything that a configuration names as a source."""

    cameras: list[LiveCamera] = field(default_factory=list)
    signals: list[SignalSource] = field(default_factory=list)
    epoch: DriveEpoch | None = None  # of the drive that is played, if one is
    signal_names: frozenset[str] | None = frozenset()  # that the sources can give; None: one of them may send any


class SourceBuilder:
    """Opens drives once each and builds sources. Raises DocumentError with the problems of all sources."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drives: dict[Path, Drive] = {}
        self._start_ns = 0

    def camera_names(self, config: RigConfig) -> tuple[str, ...]:
        """The rig's cameras in order: those of the played drive, then those listed."""
        played = () if config.drive is None else tuple(self._drive(config.drive).cameras)
        return (*played, *config.cameras)

    def build(self, config: RigConfig, start_ns: int | None = None) -> LiveSources:
        """All cameras and signal sources of a configuration; recorded ones play from `start_ns` on (soon, without it).

        None of them is opened by this, so that two processes may build them and open some each.
        """
        self._start_ns = self._clock.now_ns() + LEAD_IN_NS if start_ns is None else start_ns
        openings = Openings()
        played = openings.open(lambda: self._played(config)) or LiveSources()
        cameras = [openings.open(partial(self._camera, *named)) for named in config.cameras.items()]
        signals = [
            openings.open(partial(self._signal, source, config.signals.declared)) for source in config.signals.sources
        ]
        openings.settle()
        played.cameras += [camera for camera in cameras if camera is not None]
        played.signals += [signal for signal in signals if signal is not None]
        played.signal_names = self.signal_names(config)
        return played

    def signal_names(self, config: RigConfig) -> frozenset[str] | None:
        """Of recorded drives their signals, of a bus what is mapped; what a sender over ZeroMQ sends is not known."""
        paths = [] if config.drive is None else [config.drive]
        names: set[str] = set()
        for source in config.signals.sources:
            if isinstance(source, configured.ZeromqSignalSource):
                return None
            if isinstance(source, configured.CanSource):
                names.update(source.signals)
            else:
                paths.append(source.path)
        for path in paths:
            if not self._drive(path).knows_all_signals:
                return None
            names.update(self._drive(path).signal_kinds)
        return frozenset(names)

    def _played(self, config: RigConfig) -> LiveSources:
        """The cameras and signals of the drive that the configuration plays as a whole."""
        if config.drive is None:
            return LiveSources()
        drive = self._drive(config.drive)
        epoch = self._epoch(drive)
        twice = sorted(set(drive.cameras) & set(config.cameras))
        if twice:
            message = f"has cameras that the rig lists too: {', '.join(twice)}"
            raise DocumentError([Problem(str(drive.path), 0, 0, message, None, "rename them in the rig")])
        cameras = [
            LiveCamera(name, DriveCameraSource(camera, self._clock, epoch)) for name, camera in drive.cameras.items()
        ]
        return LiveSources(cameras, [RecordedSignalSource(drive, self._clock, epoch)], epoch)

    def _drive(self, path: Path) -> Drive:
        if path not in self._drives:
            self._drives[path] = open_drive(path)
        return self._drives[path]

    def _epoch(self, drive: Drive) -> DriveEpoch:
        return DriveEpoch(drive.start_ns, self._start_ns)

    def _camera(self, name: str, camera: configured.CameraConfig) -> LiveCamera:
        size = (camera.width, camera.height) if camera.width and camera.height else None
        return LiveCamera(name, self._camera_source(name, camera.source), camera.rate_hz, size)

    def _camera_source(self, name: str, source: configured.CameraSourceConfig) -> CameraSource:
        if isinstance(source, configured.DriveCameraSource):
            return self._drive_camera(name, source)
        if isinstance(source, configured.VideoSource):
            return video_file_source(name, source.path, self._clock, loop=source.loop, live_start_ns=self._start_ns)
        if isinstance(source, configured.RtspSource):
            return RtspSource(name, source.address, self._clock, transport=source.transport)
        if isinstance(source, configured.V4l2Source):
            return V4l2Source(name, source.device, self._clock, input_format=source.input_format)
        return ZeromqCameraSource(name, source.address, self._clock, bind=source.bind)

    def _drive_camera(self, name: str, source: configured.DriveCameraSource) -> CameraSource:
        drive = self._drive(source.path)
        wanted = source.camera or name
        if wanted not in drive.cameras:
            message = f"has no camera {wanted!r}, which camera {name!r} of the rig asks for"
            raise DocumentError([Problem(str(drive.path), 0, 0, message, None, suggest(wanted, drive.cameras))])
        return DriveCameraSource(drive.cameras[wanted], self._clock, self._epoch(drive), name)

    def _signal(self, source: configured.SignalSourceConfig, declared: Mapping[str, SignalKind]) -> SignalSource:
        if isinstance(source, configured.DriveSignalSource):
            drive = self._drive(source.path)
            return RecordedSignalSource(drive, self._clock, self._epoch(drive))
        if isinstance(source, configured.CanSource):
            return CanBusSource(
                source.interface, source.channel, source.dbc, source.signals, self._clock, source.strict, declared
            )
        return ZeromqSignalSource(source.address, self._clock, bind=source.bind)
