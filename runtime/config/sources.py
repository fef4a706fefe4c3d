"""Where cameras and signals come from, as a configuration says it. One class for each `kind`.

The classes hold validated values only. Opening them is the work of `runtime.capture` and `runtime.signals`, which
an entry point calls with these values: the stages do not know the configuration.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from runtime.config.places import (
    ExistingFile,
    ExistingPath,
    ResolvedPath,
    RtspAddress,
    ZeromqAddress,
)
from runtime.config.quantities import Seconds
from runtime.formats.documents import Mistake
from runtime.formats.signal_names import CANONICAL_SIGNALS, KIND_OF_TYPE, SignalKind
from runtime.formats.topics import RESERVED_NAMESPACES as TAKEN_TOPICS

MAX_RATE_HZ = 240.0
MAX_SIDE_PX = 8192

#: Written by the runtime itself: a source that filled them would forge what rules see.
RESERVED_NAMESPACES = (
    "ab", "classifier", "diff", "diff_b", "embedding", "heads", "heads_b", "health", "shadow", "shadow_b",
)  # fmt: skip
MAX_DECLARED_SIGNALS = 1024

_SIGNAL_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_CAMERA_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def camera_name(value: str) -> str:
    """Camera names become MCAP topics and file names."""
    if _CAMERA_NAME.fullmatch(value) is None:
        fix = "write a name of small letters, digits and '_', at most 32 long"
        raise Mistake(f"{value!r} cannot name a camera", fix)
    return value


def signal_name(value: str) -> str:
    """Canonical names of signals: `namespace.name_unit`."""
    if _SIGNAL_NAME.fullmatch(value) is None:
        raise Mistake(f"{value!r} cannot name a signal", "write namespace.name with its unit, as vehicle.speed_mps")
    return value


def source_signal_name(value: str) -> str:
    """A signal that a source may provide."""
    namespace = signal_name(value).split(".")[0]
    if namespace in RESERVED_NAMESPACES:
        raise Mistake(f"signals {namespace}.* are computed here and cannot come from a source", "use another namespace")
    if namespace in TAKEN_TOPICS:
        raise Mistake(f"/{namespace} is another topic of recordings", "use another namespace")
    return value


CameraName = Annotated[str, AfterValidator(camera_name)]
SignalName = Annotated[str, AfterValidator(signal_name)]
SourceSignalName = Annotated[str, AfterValidator(source_signal_name)]
RateHz = Annotated[float, Field(gt=0, le=MAX_RATE_HZ)]
SidePx = Annotated[int, Field(ge=16, le=MAX_SIDE_PX)]


class Section(BaseModel):
    """A part of a configuration: immutable, and every key in it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DriveCameraSource(Section):
    """One camera of a recorded drive, paced by its capture times."""

    kind: Literal["drive"]
    path: ExistingPath = Field(description="drive folder, drive.yaml or .mcap")
    camera: str | None = Field(default=None, description="its name in the drive; the camera's own name when not given")


class VideoSource(Section):
    """A video file, paced by its frame times."""

    kind: Literal["video"]
    path: ExistingFile = Field(description="any video file that FFmpeg reads")
    loop: bool = Field(default=False, description="start again at the end")


class RtspSource(Section):
    """A network camera. It may be unreachable at start: the runtime keeps trying."""

    kind: Literal["rtsp"]
    address: RtspAddress = Field(examples=["rtsp://127.0.0.1:8554/front"])
    transport: Literal["tcp", "udp"] = "tcp"


class V4l2Source(Section):
    """A local camera device. It may be missing at start: the runtime keeps trying."""

    kind: Literal["v4l2"]
    device: ResolvedPath = Field(examples=["/dev/video0"])
    input_format: str | None = Field(
        default=None, description="mjpeg, yuyv422, h264, ...; the driver's choice when not given"
    )


class ZeromqCameraSource(Section):
    """Frames from another process or a test bench."""

    kind: Literal["zeromq"]
    address: ZeromqAddress = Field(examples=["tcp://127.0.0.1:5570"])
    bind: bool = Field(default=False, description="true: listen at the address instead of connecting to it")


CameraSourceConfig = Annotated[
    DriveCameraSource | VideoSource | RtspSource | V4l2Source | ZeromqCameraSource, Field(discriminator="kind")
]


class CameraConfig(Section):
    """One camera: its source, and what is expected of it."""

    source: CameraSourceConfig
    rate_hz: RateHz | None = Field(default=None, description="frames a second; as the source says when not given")
    width: SidePx | None = Field(default=None, description="another width is reported as the fault wrong_size")
    height: SidePx | None = None


class CanSignal(Section):
    """Where one canonical signal is on the bus, and how it becomes its unit: `value * scale + offset`."""

    message: str = Field(min_length=1, examples=["SPEED"])
    signal: str = Field(min_length=1, examples=["SPEED"])
    bus: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    invert: bool = False


class DriveSignalSource(Section):
    """All signals of a recorded drive, paced by their times."""

    kind: Literal["drive"]
    path: ExistingPath


class CanSource(Section):
    """A CAN bus, received only."""

    kind: Literal["can"]
    interface: str = Field(min_length=1, examples=["socketcan"])
    channel: str = Field(min_length=1, examples=["can0"])
    dbc: ExistingFile
    strict: bool = Field(default=False, description="true: refuse a DBC whose signals overlap")
    signals: dict[SourceSignalName, CanSignal] = Field(min_length=1)


class ZeromqSignalSource(Section):
    """Signals from another process or a test bench, received only."""

    kind: Literal["zeromq"]
    address: ZeromqAddress = Field(examples=["tcp://127.0.0.1:5571"])
    bind: bool = Field(default=False, description="true: listen at the address instead of connecting to it")


SignalSourceConfig = Annotated[DriveSignalSource | CanSource | ZeromqSignalSource, Field(discriminator="kind")]


class SignalsConfig(Section):
    """Every signal source, and how long a value stays known when no newer one comes.

    `declared` names signals beyond the canonical ones, so that rules may read them: a rule that reads any other name
    is a mistake that is told with the nearest known name.
    """

    default_timeout_s: Seconds = 1.0
    timeouts_s: dict[SignalName, Seconds] = Field(default_factory=dict)
    declared: dict[SourceSignalName, SignalKind] = Field(
        default_factory=dict, max_length=MAX_DECLARED_SIGNALS, examples=["{trailer.is_attached: boolean}"]
    )
    sources: tuple[SignalSourceConfig, ...] = Field(default=(), max_length=16)

    @field_validator("declared")
    @classmethod
    def _own_signals_only(cls, declared: dict[str, SignalKind]) -> dict[str, SignalKind]:
        for name in declared:
            known = CANONICAL_SIGNALS.get(name)
            if known is not None:
                message = f"{name!r} is a canonical signal: a {KIND_OF_TYPE[known.type]}"
                raise Mistake(message, "remove it, or choose another name", at=(name,))
        return declared
