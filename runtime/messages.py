"""The vocabulary: every value that one stage of Shadowrig hands to another.

Stages (capture, signals, inference, shadow, recording, ...) never import one another; they meet here. This
module needs only the standard library and NumPy, does no I/O and reads no clock.

Time is an integer of nanoseconds on the vehicle's monotonic clock, taken at capture (`time_ns`); wall time
(`wall_ns`, Unix epoch) is carried beside it for people. A value that is not known is `None` or NaN and stays
unknown: it is never replaced by false or zero. Units stand last in a name (`speed_mps`, `pre_s`).

Images are planar `[3, height, width]` in the colour order that the model bundle asks for. Boxes are
`x0, y0, x1, y1` in pixels of the camera's *source* image, top-left origin, x right, y down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

NANOSECONDS_PER_SECOND = 1_000_000_000
NANOSECONDS_PER_MILLISECOND = 1_000_000

#: History outlasts the longest clip by so much. It is cut once records from half a second after its end are there, two
#: seconds later where a camera lags; its first second may be half gone by then, and begins with a key frame before it.
CUT_MARGIN_S = 5.0

SignalValue: TypeAlias = bool | float | str

#: Codecs whose packets may enter a clip untouched (Foxglove's CompressedVideo knows no others of ours).
PASS_THROUGH_CODECS = ("h264", "h265")


class Priority(str, Enum):
    """How much a firing matters, most first; delivery and eviction follow this order."""

    SAFETY = "safety"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    BACKGROUND = "background"

    @property
    def rank(self) -> int:
        """0 for `safety` up to 4 for `background`: smaller goes first."""
        return list(Priority).index(self)


@dataclass(frozen=True, slots=True)
class Packet:
    """One compressed access unit of one camera, as it came from the source or from our encoder."""

    camera: str
    sequence: int
    time_ns: int
    wall_ns: int
    codec: str  # FFmpeg's name: "h264", "hevc" is always written "h265", "mjpeg", "gif", ...
    is_key: bool
    data: bytes
    transcoded: bool = False  # True when Shadowrig encoded it because the source could not go into a clip as it was


@dataclass(frozen=True, slots=True)
class SignalSample:
    """One value of one signal. `name` is canonical and carries its unit: `vehicle.speed_mps`."""

    name: str
    time_ns: int
    value: SignalValue


class SignalReader(Protocol):
    """Signals as they stood at one instant; what rules and the comparison read."""

    def value(self, name: str) -> SignalValue | None:
        """The newest value at or before the instant, or None while unknown (never seen, or stale)."""

    def samples(self, name: str) -> Sequence[SignalSample]:
        """Every sample since the previous tick, oldest first: a pulse shorter than a tick is not lost."""

    def names(self) -> Sequence[str]:
        """Every signal that has been seen or declared."""


@dataclass(slots=True)
class Frameset:
    """The time-aligned frames of one instant. Arrays have one row per camera, in the order of `cameras`."""

    sequence: int
    time_ns: int
    cameras: tuple[str, ...]
    present: NDArray[np.bool_]  # [N]
    frame_time_ns: NDArray[np.int64]  # [N], 0 where missing
    frame_sequence: NDArray[np.int64]  # [N], -1 where missing
    images: NDArray[np.uint8]  # [N, 3, H, W], a view of the batch ring; missing cameras hold the pad value
    #: [N] frames that the network's backend prepares itself (`runtime.formats.source_image.SourceImage`), None where
    #: `images` has the camera's image, or it is missing. A row of `images` with a source holds its image from the end
    #: of the network's run on. None: capture has prepared all of them.
    sources: Sequence[object | None] | None = None

    @property
    def is_empty(self) -> bool:
        """True when no camera delivered a frame for this instant."""
        return not bool(self.present.any())


@dataclass(slots=True)
class Detections:
    """What a detection head found over all cameras of one frameset: K rows."""

    camera: NDArray[np.int32]  # [K] row in Frameset.cameras
    class_id: NDArray[np.int32]  # [K] index into the bundle's class names
    score: NDArray[np.float32]  # [K] 0..1
    box_px: NDArray[np.float32]  # [K, 4] pixels of the source image
    state: list[str | None] = field(default_factory=list)  # [K] e.g. a traffic light's "red"; None where it has none
    #: [K] what the network says of each object besides its box, NaN where unknown; None: it has no such output.
    distance_m: NDArray[np.float32] | None = None
    speed_mps: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return int(self.score.shape[0])

    @staticmethod
    def empty() -> Detections:
        """No detections."""
        return Detections(
            camera=np.zeros(0, np.int32),
            class_id=np.zeros(0, np.int32),
            score=np.zeros(0, np.float32),
            box_px=np.zeros((0, 4), np.float32),
        )


@dataclass(frozen=True, slots=True)
class Action:
    """A longitudinal and lateral command; None where the source does not say. Left curves are positive."""

    accel_mps2: float | None = None
    curvature_1pm: float | None = None


@dataclass(slots=True)
class Prediction:
    """What the network says about one frameset."""

    time_ns: int
    detections: Detections
    class_names: tuple[str, ...]
    control: Action | None = None
    lead_distance_m: float | None = None
    #: Scalar heads by name ("rain_probability": 0.93), published to rules as `heads.<name>`.
    scalars: Mapping[str, SignalValue] = field(default_factory=dict)
    #: Raw outputs by head ("embedding", "lane_mask", ...): views into the backend's ring, valid for that ring's length.
    heads: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    #: The row of each camera of the frameset in heads with a row per camera; empty: the cameras' own order.
    camera_rows: tuple[int, ...] = ()
    infer_ns: int = 0


@dataclass(slots=True)
class Track:
    """One object followed over time in one camera. None means not known (no calibration, too young, ...)."""

    track_id: int
    camera: str
    class_name: str
    score: float
    box_px: tuple[float, float, float, float]
    first_seen_ns: int
    last_seen_ns: int
    visible: bool  # False while the tracker coasts over ticks in which the network did not see it
    state: str | None = None
    distance_m: float | None = None
    lateral_m: float | None = None  # left of the car is positive
    speed_mps: float | None = None  # over ground
    bearing_deg: float | None = None  # 0 ahead, left positive
    lane: str | None = None  # "ego", "left", "right", "other"
    predicted_speed_mps: float | None = None  # what the network says of this object, besides where it is
    predicted_distance_m: float | None = None  # from a depth head; `distance_m` is from the box and the ground
    closing_speed_mps: float | None = None  # how fast the distance shrinks; negative while it grows
    lateral_speed_mps: float | None = None  # over ground, across the car's heading; to the left is positive
    #: Other cameras whose image holds this object's place on the road, and how many of these follow an object there.
    overlapping_cameras: int | None = None
    confirming_cameras: int | None = None
    #: By how much the bearings of this camera and the nearest confirming one differ: left of it is positive.
    confirming_gap_deg: float | None = None


@dataclass(slots=True)
class ControllerObject:
    """One entry of the active controller's own object list, for controllers that publish one."""

    object_id: int
    class_name: str
    score: float | None = None
    first_seen_ns: int | None = None
    distance_m: float | None = None
    lateral_m: float | None = None  # left of the car is positive
    speed_mps: float | None = None  # over ground
    closing_speed_mps: float | None = None
    bearing_deg: float | None = None  # 0 ahead, left positive
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class CameraView:
    """How one camera stands at a tick: its health and what its image is like. None: no image on this tick."""

    camera: str
    state: str  # "ok", or the fault: "frozen", "dropping", "corrupt", "ended", "failed", "late", ...
    is_missing: bool  # no frame on this tick
    latency_ms: float | None = None  # from capture until the tick took the frame
    luma: float | None = None  # mean brightness, 0..255
    luma_std: float | None = None  # contrast, 0..128
    dark_share: float | None = None  # of pixels darker than 16
    bright_share: float | None = None  # of pixels brighter than 240
    sharpness: float | None = None  # variance of the Laplacian at the network's image size
    misalignment_deg: float | None = None  # slow mean of `confirming_gap_deg` over this camera's tracks


@dataclass(slots=True)
class Comparison:
    """Shadow against controller on one tick: values for `shadow.*` and `diff.*`; absent means unknown."""

    time_ns: int
    shadow: Action
    controller: Action
    values: Mapping[str, float]


@dataclass(slots=True)
class SecondLook:
    """What a second candidate, shadowed beside the first (A/B), said on one tick."""

    prediction: Prediction
    tracks: Sequence[Track]
    #: With the controller (`shadow_b.*`, `diff_b.*`) and with the first candidate (`ab.*`).
    comparison: Comparison


class ClipVariant(str, Enum):
    """How much of its window a clip holds."""

    FULL = "full"  # every packet of the chosen cameras, and the chosen topics
    THUMBNAILS = "thumbnails"  # a small JPEG of each camera about once a second, and signals: the rest can be asked for


@dataclass(frozen=True, slots=True)
class CaptureWindow:
    """What a firing asks to keep around its moment. Empty tuples mean all (of what the variant holds)."""

    pre_s: float = 10.0
    post_s: float = 5.0
    cameras: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    variant: ClipVariant = ClipVariant.FULL


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule that went off, and why."""

    rule: str
    rule_version: str  # hash of the rule's definition
    sequence: int  # counts this process's firings from 0
    time_ns: int
    wall_ns: int
    operands: Mapping[str, SignalValue | None]
    priority: Priority
    capture: CaptureWindow
    sample_probability: float = 1.0
    score: float | None = None  # the rule's `score` at this moment: what a value-ranked budget chose by
    campaign: str = ""  # "name@version" of the campaign that brought the rule; empty: the vehicle's own rules
    #: Events of this rule so far, this one included, by what became of them ("kept", "cooldown", "sample", "budget",
    #: "score", "campaign", "disk", "history"): with them the clips alone give unbiased rates.
    tally: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class TickReport:
    """The result of one tick, published as data."""

    sequence: int
    time_ns: int
    frameset: Frameset | None
    prediction: Prediction | None
    tracks: Sequence[Track] | None  # None: nothing looked for objects on this tick
    comparison: Comparison | None
    firings: Sequence[Firing]
    #: Milliseconds by stage: "take", "infer", "decode", "track", "compare", "second", "learned", "views", "rules".
    timings_ms: Mapping[str, float]
    wall_ns: int = 0
    objects: Sequence[ControllerObject] | None = None  # None: the controller publishes none, or none that can be read
    cameras: Sequence[CameraView] | None = None  # None: there are no cameras
    #: What the tick itself says to rules (`heads.*`, `shadow.*`, `diff.*`, `health.*`), beside the outside signals.
    signals: Mapping[str, SignalValue] = field(default_factory=dict)
    second: SecondLook | None = None  # None: there is no second candidate, or it was skipped on this tick
