"""The car itself: its motion, the controller that mostly drives it, and what its bus would report.

Motion is the kinematic bicycle model about the rear axle in road coordinates (s along, d to the left, heading against
the road). The powertrain and the steering follow commands with a first-order lag. The controller is adaptive cruise
control (IDM) with lane keeping (pure pursuit); errors can be planted on its commands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from replay.synthetic.idm import CONTROLLER, controller_acceleration, pursuit_curvature_1pm
from replay.synthetic.road import Road
from replay.synthetic.traffic import EgoPlace
from runtime.messages import SignalValue

WHEELBASE_M = 2.8
STEERING_RATIO = 15.0
ACCEL_LAG_S = 0.18
STEERING_LAG_S = 0.12
HANDS_ON_NM = 0.35


@dataclass(slots=True)
class Inputs:
    """What the driver does at one moment, and what is wrong with the controller. The script fills it anew each step."""

    engaged: bool = False
    brake_mps2: float | None = None  # braking by pedal, negative
    gas_mps2: float | None = None  # acceleration by pedal
    driver_curvature_1pm: float | None = None  # added by the driver's hands
    accel_error_mps2: float | None = None  # the controller commands this, whatever it should
    curvature_error_1pm: float = 0.0
    faulted: bool = False  # the controller has dropped out by itself


@dataclass(slots=True)
class Surroundings:
    """What the controller perceives."""

    lead_gap_m: float | None = None
    lead_speed_mps: float = 0.0
    stop_gap_m: float | None = None


class Ego:
    """State of the car; `step` moves it on."""

    def __init__(self, road: Road, s_m: float, speed_mps: float) -> None:
        self._road = road
        self.s_m, self.d_m, self.turn_rad = s_m, 0.0, 0.0
        self.speed_mps, self.accel_mps2, self.curvature_1pm = speed_mps, 0.0, road.curvature_1pm(s_m)
        self.accel_command_mps2 = 0.0
        self.curvature_command_1pm = 0.0
        self.inputs = Inputs()
        self.surroundings = Surroundings()

    @property
    def place(self) -> EgoPlace:
        """Where it is, for the others."""
        return EgoPlace(self.s_m, self.d_m, self.speed_mps)

    def step(self, dt_s: float, inputs: Inputs, surroundings: Surroundings) -> None:
        """Decide and move on for `dt_s`."""
        self.inputs, self.surroundings = inputs, surroundings
        wanted_mps2 = controller_acceleration(
            self.speed_mps, surroundings.lead_gap_m, surroundings.lead_speed_mps, surroundings.stop_gap_m
        )
        wanted_1pm = pursuit_curvature_1pm(self._road, self.s_m, self.d_m, self.turn_rad, self.speed_mps, 0.0)
        self._command(wanted_mps2, wanted_1pm)
        accel, curvature = self._applied(wanted_mps2, wanted_1pm)
        self._move(dt_s, accel, curvature)

    def _command(self, wanted_mps2: float, wanted_1pm: float) -> None:
        """The controller's commands; zero while it is off, as production stacks report it."""
        inputs = self.inputs
        if not inputs.engaged:
            self.accel_command_mps2 = self.curvature_command_1pm = 0.0
            return
        self.accel_command_mps2 = wanted_mps2 if inputs.accel_error_mps2 is None else inputs.accel_error_mps2
        self.curvature_command_1pm = wanted_1pm + inputs.curvature_error_1pm

    def _applied(self, wanted_mps2: float, wanted_1pm: float) -> tuple[float, float]:
        """Who wins: the driver's pedals and hands over the controller; without it the driver does what it would."""
        inputs = self.inputs
        accel = self.accel_command_mps2 if inputs.engaged else wanted_mps2
        curvature = self.curvature_command_1pm if inputs.engaged else wanted_1pm
        if inputs.gas_mps2 is not None:
            accel = max(accel, inputs.gas_mps2)
        if inputs.brake_mps2 is not None:
            accel = min(accel, inputs.brake_mps2)
        return accel, curvature + (inputs.driver_curvature_1pm or 0.0)

    def _move(self, dt_s: float, accel_mps2: float, curvature_1pm: float) -> None:
        self.accel_mps2 += (accel_mps2 - self.accel_mps2) * min(1.0, dt_s / ACCEL_LAG_S)
        self.curvature_1pm += (curvature_1pm - self.curvature_1pm) * min(1.0, dt_s / STEERING_LAG_S)
        before_mps = self.speed_mps
        self.speed_mps = max(0.0, before_mps + self.accel_mps2 * dt_s)
        if self.speed_mps == 0.0:
            self.accel_mps2 = max(self.accel_mps2, 0.0) if before_mps == 0.0 else self.accel_mps2
        distance = self.speed_mps * dt_s
        road_curvature = self._road.curvature_1pm(self.s_m)
        along = distance * math.cos(self.turn_rad) / (1.0 - road_curvature * self.d_m)
        self.s_m += along
        self.d_m += distance * math.sin(self.turn_rad)
        self.turn_rad += self.curvature_1pm * distance - road_curvature * along

    def vehicle_signals(self, accel_noise_mps2: float, torque_noise_nm: float, wiper: bool) -> dict[str, SignalValue]:
        """`vehicle.*` as the bus reports it."""
        inputs = self.inputs
        steering = inputs.driver_curvature_1pm is not None
        torque = math.copysign(2.6, inputs.driver_curvature_1pm or 1.0) if steering else HANDS_ON_NM
        return {
            "speed_mps": round(self.speed_mps, 4),
            "accel_mps2": round(self.accel_mps2 + accel_noise_mps2, 4),
            "yaw_rate_radps": round(self.curvature_1pm * self.speed_mps, 5),
            "steering_angle_deg": round(steering_angle_deg(self.curvature_1pm), 3),
            "steering_torque_nm": round(torque + torque_noise_nm, 3),
            "gas_pressed": inputs.gas_mps2 is not None,
            "brake_pressed": inputs.brake_mps2 is not None,
            "steering_pressed": steering,
            "left_blinker": False,
            "right_blinker": False,
            "standstill": self.speed_mps < 0.05,
            "gear": "drive",
            "wiper": wiper,
        }

    def controller_signals(self) -> dict[str, SignalValue]:
        """`controller.*` as the stack reports it."""
        inputs = self.inputs
        overriding = inputs.engaged and (inputs.gas_mps2 is not None or inputs.driver_curvature_1pm is not None)
        engaged_state = "overriding" if overriding else "engaged"
        disengaged_state = "fault" if inputs.faulted else "off"
        state = engaged_state if inputs.engaged else disengaged_state
        return {
            "enabled": inputs.engaged,
            "lateral_active": inputs.engaged and inputs.driver_curvature_1pm is None,
            "longitudinal_active": inputs.engaged and inputs.gas_mps2 is None,
            "accel_command_mps2": round(self.accel_command_mps2, 4),
            "curvature_command_1pm": round(self.curvature_command_1pm, 6),
            "steering_angle_command_deg": round(steering_angle_deg(self.curvature_command_1pm), 3),
            "set_speed_mps": CONTROLLER.desired_speed_mps,
            "state": state,
        }

    def lead_signals(self) -> dict[str, SignalValue]:
        """`lead.*` as the radar reports it; distances only while there is one."""
        gap_m = self.surroundings.lead_gap_m
        if gap_m is None:
            return {"present": False}
        relative = self.surroundings.lead_speed_mps - self.speed_mps
        return {"present": True, "distance_m": round(gap_m, 2), "relative_speed_mps": round(relative, 3)}


def steering_angle_deg(curvature_1pm: float) -> float:
    """Angle of the steering wheel for a curvature (bicycle model), left positive."""
    return math.degrees(math.atan(curvature_1pm * WHEELBASE_M)) * STEERING_RATIO
