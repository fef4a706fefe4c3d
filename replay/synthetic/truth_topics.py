"""Truth about the car and its lanes in every frame: topics of their own beside `/truth/events` and `/truth/<camera>`.

    /truth/ego    {"x_m", "y_m", "heading_rad", "along_m", "lane_offset_m", "heading_error_rad", "speed_mps",
                   "target_accel_mps2", "target_curvature_1pm", "lead_distance_m"?}
    /truth/lanes  {"borders": [[[x, y], ...], ...]}  right to left, vehicle frame, metres

They are no signals: a car has no bus that knows the truth, so nothing that replays signals may see them.
"""

from __future__ import annotations

import json

import numpy as np

from replay.synthetic.frame import EgoPose
from replay.synthetic.recording import FrameState
from replay.synthetic.road import LANE_COUNT, Road
from runtime.formats.topics import ChannelSpec

BORDER_AHEAD_M = np.arange(-10.0, 81.0, 5.0)


def _channel(topic: str, title: str) -> ChannelSpec:
    schema = json.dumps({"title": title, "type": "object"}, sort_keys=True).encode()
    return ChannelSpec(topic, title, "jsonschema", schema, "json")


EGO_CHANNEL = _channel("/truth/ego", "shadowrig.TruthEgo")
LANES_CHANNEL = _channel("/truth/lanes", "shadowrig.TruthLanes")


def ego_truth(road: Road, state: FrameState) -> dict[str, float]:
    """Where the car is, and what a faultless controller would do."""
    pose = _pose(road, state)
    values = {
        "x_m": round(pose.x_m, 4),
        "y_m": round(pose.y_m, 4),
        "heading_rad": round(pose.yaw_rad, 6),
        "along_m": round(state.ego_s_m, 4),
        "lane_offset_m": round(state.ego_d_m, 4),
        "heading_error_rad": round(state.ego_turn_rad, 6),
        "speed_mps": round(state.ego_speed_mps, 4),
        "target_accel_mps2": round(state.accel_target_mps2, 4),
        "target_curvature_1pm": round(state.curvature_target_1pm, 6),
    }
    if state.lead_gap_m is not None:
        values["lead_distance_m"] = round(state.lead_gap_m, 3)
    return values


def lane_truth(road: Road, state: FrameState) -> dict[str, list[list[list[float]]]]:
    """The borders of the lanes of the driving direction around the car."""
    pose = _pose(road, state)
    borders_d_m = [road.style.lane_centre_d_m(border - 0.5) for border in range(LANE_COUNT + 1)]
    along = state.ego_s_m + BORDER_AHEAD_M
    return {"borders": [np.round(pose.to_vehicle(road.points(along, d))[:, :2], 3).tolist() for d in borders_d_m]}


def _pose(road: Road, state: FrameState) -> EgoPose:
    return EgoPose.on_road(road, state.ego_s_m, state.ego_d_m, state.ego_turn_rad)
