"""The shadow action: what the candidate network would have commanded on this tick.

A network with a control head says it itself. For a detector without one, a car-following policy stands on top of
its tracks: the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000, https://arxiv.org/abs/cond-mat/0002177,
equations 2-4) towards the nearest vehicle in our lane. What neither can say stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.messages import Action, Prediction, SignalReader, Track

#: Classes that a car follows; the names of the bundled network, COCO and common exports.
VEHICLE_CLASSES = frozenset({"vehicle", "car", "truck", "bus", "motorcycle", "van"})


@dataclass(frozen=True, slots=True)
class CarFollowing:
    """Parameters of the Intelligent Driver Model; defaults are the paper's, with a comfortable braking of 2 m/s2."""

    time_headway_s: float = 1.5
    standstill_gap_m: float = 2.0
    max_accel_mps2: float = 1.0
    comfortable_braking_mps2: float = 2.0
    strongest_braking_mps2: float = 8.0

    def accel_mps2(self, speed_mps: float, set_speed_mps: float, gap_m: float | None, closing_mps: float) -> float:
        """Acceleration for a gap (None: free road) that shrinks at `closing_mps`."""
        free = 1.0 - (max(speed_mps, 0.0) / max(set_speed_mps, 0.1)) ** 4
        if gap_m is None:
            return max(self.max_accel_mps2 * free, -self.strongest_braking_mps2)
        root = 2.0 * math.sqrt(self.max_accel_mps2 * self.comfortable_braking_mps2)
        wanted_m = self.standstill_gap_m + max(0.0, speed_mps * self.time_headway_s + speed_mps * closing_mps / root)
        accel = self.max_accel_mps2 * (free - (wanted_m / max(gap_m, 0.1)) ** 2)
        return max(accel, -self.strongest_braking_mps2)


@dataclass(frozen=True, slots=True)
class Shadow:
    """The candidate's action and the lead vehicle that it saw."""

    action: Action
    lead_distance_m: float | None


class ShadowPolicy:
    """Turns a prediction and its tracks into the shadow action."""

    def __init__(self, following: CarFollowing | None = None) -> None:
        self._following = following or CarFollowing()

    def decide(self, prediction: Prediction | None, tracks: Sequence[Track], signals: SignalReader) -> Shadow:
        """The shadow on this tick; every field is None where it cannot be known."""
        if prediction is None:
            return Shadow(Action(), None)
        lead = nearest_lead(tracks)
        lead_distance_m = prediction.lead_distance_m
        if lead_distance_m is None and lead is not None:
            lead_distance_m = lead.distance_m
        if prediction.control is not None:
            return Shadow(prediction.control, lead_distance_m)
        return Shadow(Action(accel_mps2=self._follow(lead, signals)), lead_distance_m)

    def _follow(self, lead: Track | None, signals: SignalReader) -> float | None:
        """Car following needs a lead with distance and speed, our speed and the set speed; a free road proves nothing
        unless the network's distances are calibrated, so without a lead the answer is unknown."""
        speed_mps, set_speed_mps = signals.value("vehicle.speed_mps"), signals.value("controller.set_speed_mps")
        if lead is None or lead.distance_m is None or lead.speed_mps is None:
            return None
        if not isinstance(speed_mps, float) or not isinstance(set_speed_mps, float):
            return None
        return self._following.accel_mps2(speed_mps, set_speed_mps, lead.distance_m, speed_mps - lead.speed_mps)


def nearest_lead(tracks: Sequence[Track]) -> Track | None:
    """The nearest visible vehicle ahead in our own lane, or None."""
    ahead = [
        track
        for track in tracks
        if track.visible
        and track.lane == "ego"
        and track.class_name in VEHICLE_CLASSES
        and track.distance_m is not None
        and track.bearing_deg is not None
        and abs(track.bearing_deg) < 45.0
    ]
    return min(ahead, key=lambda track: track.distance_m or 0.0, default=None)
