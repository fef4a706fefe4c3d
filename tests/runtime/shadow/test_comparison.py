"""Shadow against controller: signs, sides and unknowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from runtime.messages import Action, Detections, Prediction, SignalSample, SignalValue, Track
from runtime.shadow.comparison import Comparator
from runtime.shadow.policy import CarFollowing
from runtime.shadow.scoreboard import Scoreboard


class Signals:
    def __init__(self, values: Mapping[str, SignalValue]) -> None:
        self._values = values

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return ()

    def names(self) -> Sequence[str]:
        return list(self._values)


def prediction(control: Action | None = None, lead_distance_m: float | None = None) -> Prediction:
    return Prediction(0, Detections.empty(), ("vehicle",), control=control, lead_distance_m=lead_distance_m)


def lead_track(distance_m: float, speed_mps: float | None) -> Track:
    return Track(1, "front", "vehicle", 0.9, (0, 0, 10, 10), 0, 0, True,
                 distance_m=distance_m, bearing_deg=0.0, lane="ego", speed_mps=speed_mps)  # fmt: skip


ENGAGED = {
    "controller.enabled": True,
    "controller.accel_command_mps2": 0.5,
    "controller.curvature_command_1pm": 0.01,
    "vehicle.speed_mps": 20.0,
    "vehicle.accel_mps2": -1.0,
}


def test_difference_is_shadow_minus_the_engaged_controllers_command() -> None:
    comparison = Comparator().compare([], prediction(Action(-2.5, 0.012)), Signals(ENGAGED), 5)
    assert comparison.values["diff.accel_mps2"] == pytest.approx(-3.0)
    assert comparison.values["diff.curvature_1pm"] == pytest.approx(0.002)
    assert comparison.values["diff.lateral_accel_mps2"] == pytest.approx(0.8)


def test_human_is_judged_by_the_cars_motion_when_the_controller_is_off() -> None:
    human = {**ENGAGED, "controller.enabled": False, "vehicle.yaw_rate_radps": 0.2}
    comparison = Comparator().compare([], prediction(Action(0.0, 0.0)), Signals(human), 5)
    assert comparison.controller == Action(-1.0, 0.01)
    assert comparison.values["diff.accel_mps2"] == pytest.approx(1.0)


def test_unknown_sides_leave_no_difference() -> None:
    without_command = {name: value for name, value in ENGAGED.items() if name != "controller.accel_command_mps2"}
    comparison = Comparator().compare([], prediction(Action(1.0, float("nan"))), Signals(without_command), 5)
    assert "diff.accel_mps2" not in comparison.values
    assert "shadow.curvature_1pm" not in comparison.values
    assert not any(name.startswith("diff.") for name in comparison.values)


def test_nothing_is_known_while_controller_state_is_unknown() -> None:
    comparison = Comparator().compare([], prediction(Action(1.0, 0.0)), Signals({}), 5)
    assert comparison.controller == Action()
    assert set(comparison.values) == {"shadow.accel_mps2", "shadow.curvature_1pm"}


def test_detector_without_control_head_follows_the_lead_with_idm() -> None:
    signals = Signals({**ENGAGED, "controller.set_speed_mps": 25.0, "lead.present": True, "lead.distance_m": 21.0})
    comparison = Comparator().compare([lead_track(20.0, 10.0)], prediction(), signals, 5)
    assert comparison.values["shadow.accel_mps2"] < -3.0
    assert comparison.values["diff.lead_distance_m"] == pytest.approx(-1.0)


def test_detector_without_a_calibrated_lead_claims_nothing() -> None:
    signals = Signals({**ENGAGED, "controller.set_speed_mps": 25.0})
    assert "shadow.accel_mps2" not in Comparator().compare([lead_track(20.0, None)], prediction(), signals, 5).values


def test_idm_equilibrium_gap_gives_no_acceleration() -> None:
    model = CarFollowing()
    speed_mps, set_speed_mps = 20.0, 30.0
    wanted_m = model.standstill_gap_m + speed_mps * model.time_headway_s
    gap_m = wanted_m / (1.0 - (speed_mps / set_speed_mps) ** 4) ** 0.5
    assert model.accel_mps2(speed_mps, set_speed_mps, gap_m, 0.0) == pytest.approx(0.0, abs=1e-9)


def test_scoreboard_counts_known_differences_only() -> None:
    board, comparator = Scoreboard(), Comparator()
    for accel_mps2 in (0.0, 1.0, float("nan")):
        board.add(comparator.compare([], prediction(Action(accel_mps2)), Signals(ENGAGED), 0))
    assert board.to_dict()["diff.accel_mps2"] == {"count": 2, "mean_absolute": 0.5, "largest_absolute": 0.5}
