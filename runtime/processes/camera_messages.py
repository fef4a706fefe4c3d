"""What the runtime and its cameras' process say to each other over a socket pair, pickled.

Both ends are one program and one user's: pickle is safe here, and nobody else can reach the sockets.

    runtime -> cameras   Assignment, then Begin; Stop, or the end of the stream, when it is over
    cameras -> runtime   Built, then Reports: one at once, then every `REPORT_PERIOD_S` (or period, if that is shorter)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runtime.capture.assembler import FrameCounters
from runtime.capture.camera_watch import WatchReport
from runtime.capture.phase import GridSegment
from runtime.config.rig_config import RigConfig
from runtime.formats.image_spec import ImageSpec
from runtime.health.realtime import RealtimeReport
from runtime.messages import Packet

#: Packets reach history, and health the tick, this much later than they would from a thread.
REPORT_PERIOD_S = 0.03


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which cameras to run, and into which memory."""

    config: RigConfig
    cameras: tuple[str, ...]
    specs: tuple[ImageSpec, ...]  # of the rings; none where no network looks
    descriptors: tuple[int, ...]  # of `CameraMemory`
    period_ns: int
    reference_camera: str | None


@dataclass(frozen=True, slots=True)
class Built:
    """Everything that takes long is done: `Begin` may come."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Play recorded sources from `start_ns` on; the grid of instants is this one.

    `resume_after_ns` has, for each camera, the capture time of the last packet that an earlier process handed over:
    nothing up to there is fed or recorded again, and what never came counts as lost.
    """

    start_ns: int
    segments: tuple[GridSegment, ...]
    resume_after_ns: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """End, and report what is left."""


@dataclass(frozen=True, slots=True)
class Report:
    """What has happened since the last one."""

    packets: list[Packet] = field(default_factory=list)
    refused: int = 0  # packets that the queue of this report had no room for, since the start
    ready: list[tuple[str, int]] = field(default_factory=list)  # camera, and how long after its instant (ns); bounded
    watches: list[WatchReport] = field(default_factory=list)  # in the order of the assignment's cameras
    frames: dict[str, FrameCounters] = field(default_factory=dict)
    segments: tuple[GridSegment, ...] = ()
    realtime: RealtimeReport = field(default_factory=RealtimeReport)
    encoder: dict[str, Any] = field(default_factory=dict)
