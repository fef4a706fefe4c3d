"""What a simulation leaves behind: plain, small data from which every camera can be painted in any process.

The world is simulated first and painted afterwards, so that things which the script decides on the way (where a
junction is, which sign a branch hides) are in the picture long before the car gets there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from replay.synthetic.script import CameraFault
from replay.synthetic.things import Colour
from runtime.messages import SignalValue


@dataclass(frozen=True, slots=True)
class MoverState:
    """One moving vehicle in one frame."""

    track_id: int
    kind: str
    paint: Colour
    s_m: float
    d_m: float
    turn_rad: float
    braking: bool
    indicator: int


@dataclass(frozen=True, slots=True)
class FrameState:
    """The world at one frame's capture time."""

    time_s: float
    ego_s_m: float
    ego_d_m: float
    ego_turn_rad: float
    ego_speed_mps: float
    ego_accel_mps2: float
    curvature_target_1pm: float
    accel_target_mps2: float
    lead_gap_m: float | None
    movers: tuple[MoverState, ...]
    held_signals: tuple[tuple[float, str], ...]  # junction's place and colour; all others are green


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One message of one signal namespace."""

    time_s: float
    namespace: str
    values: dict[str, SignalValue]


@dataclass(frozen=True, slots=True)
class PlantedEvent:
    """A row of the truth."""

    time_s: float
    event: str
    detail: str
    until_s: float | None = None


@dataclass(slots=True)
class Furniture:
    """What the script put beside the road, in road coordinates."""

    junction_s_m: list[float] = field(default_factory=list)
    hidden_signs: list[tuple[float, float]] = field(default_factory=list)  # place; since when a gust sways its branch
    plain_sign_s_m: list[float] = field(default_factory=list)
    lone_parked_s_m: list[float] = field(default_factory=list)
    crossings: list[tuple[float, float]] = field(default_factory=list)  # zebra's place; when people set out


@dataclass(slots=True)
class Recording:
    """A simulated drive."""

    seed: int
    rate_hz: float
    weather: str
    road_length_m: float
    frames: list[FrameState] = field(default_factory=list)
    signals: list[SignalRow] = field(default_factory=list)
    events: list[PlantedEvent] = field(default_factory=list)
    faults: tuple[CameraFault, ...] = ()
    furniture: Furniture = field(default_factory=Furniture)
