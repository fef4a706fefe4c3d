"""The stage: plays the script's acts on the simulation, step by step, and writes down what really happened.

Acts begin when their time has come and their conditions hold. Each running act changes the driver's inputs, plants an
error on the controller, directs a vehicle or builds furniture ahead. Takeovers are written down at the step in
which the controller is first off, overrides from the first to the last step of the pedal or the hands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from replay.synthetic.crowd import EGO_FRONT_M
from replay.synthetic.ego import Ego, Inputs
from replay.synthetic.recording import Furniture, PlantedEvent
from replay.synthetic.scenery import JUNCTION_HALF_WIDTH_M, STOP_LINE_SETBACK_M
from replay.synthetic.script import FIRST_ENGAGE_S, PATIENCE_S, Act, Script
from replay.synthetic.traffic import Traffic, Vehicle

FREE_ROAD_M = 42.0
CLEARING_S = 9.0  # the lane ahead is kept clear this long before an act that needs it
PEDAL_S = 1.3
FAULT_SHOWN_S = 1.5  # how long a controller that dropped out says so
HANDS_S = 0.9
PHANTOM_BRAKE_MPS2 = -3.0
DRIFT_1PM = 0.009
HARD_BRAKE_MPS2 = -6.5
HUMAN_FOR_S = 2.0  # the driver has been driving this long before braking hard
YELLOW_S = 2.2
CROSSING_BEYOND_LINE_M = 1.9
FLICKER_DETAIL = "a branch sways before a stop sign"
STANDING_S = 3.5
STANDING_MPS = 1.0  # the last metre of an approach by IDM takes long
GUST_AFTER_S = 1.0
SIGN_PASSED_M = 3.0
SIGN_BEYOND_LINE_M = 26.0
PARKED_AHEAD_M = 55.0


@dataclass(slots=True)
class _Running:
    act: Act
    start_s: float


@dataclass(slots=True)
class RedLight:
    """A junction whose signal the script holds."""

    centre_s_m: float
    stop_line_s_m: float
    yellow_until_s: float
    standing_since_s: float | None = None

    @property
    def sign_s_m(self) -> float:
        """Where the half hidden stop sign stands."""
        return self.stop_line_s_m + SIGN_BEYOND_LINE_M

    def state(self, time_s: float) -> str:
        """The colour at this time."""
        return "yellow" if time_s < self.yellow_until_s else "red"


@dataclass(slots=True)
class Stage:
    """Plays one script."""

    script: Script
    ego: Ego
    traffic: Traffic
    furniture: Furniture
    duration_s: float
    events: list[PlantedEvent] = field(default_factory=list)
    engaged: bool = False
    red_light: RedLight | None = None
    _waiting: list[Act] = field(default_factory=list)
    _running: list[_Running] = field(default_factory=list)
    _engage_at_s: float | None = FIRST_ENGAGE_S
    _cut_in: tuple[Vehicle, float] | None = None
    _taken_over_s: float = 0.0
    _swaying: list[tuple[float, float]] = field(default_factory=list)  # sign's place, since when

    def __post_init__(self) -> None:
        self._waiting = list(self.script.acts)

    def held_signals(self, time_s: float) -> tuple[tuple[float, str], ...]:
        """Places and colours of the signals that the script holds; all others are green for the car."""
        light = self.red_light
        return () if light is None else ((light.centre_s_m, light.state(time_s)),)

    def stop_line_s_m(self, time_s: float) -> float | None:
        """Where traffic must stop now, or None."""
        light = self.red_light
        return None if light is None else light.stop_line_s_m

    def keeps_clear(self, time_s: float) -> bool:
        """Whether the lane ahead must be free now or soon."""
        soon = [act for act in self._waiting if act.start_s - time_s < CLEARING_S]
        on = soon + [running.act for running in self._running]
        return any(act.needs_free_road or act.kind == "red_light" for act in on)

    def inputs(self, time_s: float) -> Inputs:
        """What driver and controller faults do in this step; begins and ends acts."""
        self._begin_due(time_s)
        if self._engage_at_s is not None and time_s >= self._engage_at_s:
            self.engaged, self._engage_at_s = True, None
            self._note(time_s, "engage", "driver sets cruise control and lane keeping")
        inputs = Inputs(engaged=self.engaged)
        for running in self._running:
            self._play(running, time_s, inputs)
        self._running = [r for r in self._running if time_s < r.start_s + r.act.length_s]
        self._direct_cut_in(time_s)
        self._mind_red_light(time_s)
        self._mind_hidden_signs(time_s)
        return inputs

    def _begin_due(self, time_s: float) -> None:
        for act in [act for act in self._waiting if time_s >= act.start_s]:
            if time_s > act.start_s + PATIENCE_S or time_s + act.length_s > self.duration_s - 1.0:
                self._waiting.remove(act)  # its conditions never held: it did not happen
            elif self._may_begin(act, time_s):
                self._waiting.remove(act)
                self._begin(act, time_s)

    def _may_begin(self, act: Act, time_s: float) -> bool:
        if self.ego.speed_mps < act.least_speed_mps:
            return False
        if act.kind in ("takeover", "override", "phantom_brake", "drift") and not self.engaged:
            return False
        if act.kind == "hard_brake" and (self.engaged or time_s - self._taken_over_s < HUMAN_FOR_S):
            return False
        if act.kind == "cut_in" and self._cut_in_candidate() is None and time_s < act.start_s + 1.0:
            return False
        lead = self.traffic.lead(self.ego.place)
        return not act.needs_free_road or lead is None or lead[0] > FREE_ROAD_M

    def _begin(self, act: Act, time_s: float) -> None:
        self._running.append(_Running(act, time_s))
        end_s = time_s + act.length_s
        if act.kind == "takeover":
            self.engaged, self._taken_over_s = False, time_s
            self._engage_at_s = end_s if end_s < self.duration_s - 2.0 else None
            self._note(time_s, "driver_takeover", TAKEOVER_DETAILS[act.variant])
        elif act.kind == "override":
            self._note(time_s, "driver_override", f"driver's {act.variant} while the controller stays engaged", end_s)
        elif act.kind == "phantom_brake":
            detail = f"controller commands {PHANTOM_BRAKE_MPS2} m/s2 on a free road"
            self._note(time_s, "shadow_accel_disagreement", detail, end_s)
        elif act.kind == "drift":
            detail = f"controller drifts to the {act.variant} of its lane"
            self._note(time_s, "shadow_steering_disagreement", detail, end_s)
        elif act.kind == "hard_brake":
            self._note(time_s, "unforeseen_hard_braking", "driver brakes hard on an empty road", end_s)
        elif act.kind == "cut_in":
            self._begin_cut_in(time_s)
        elif act.kind == "red_light":
            self._begin_red_light(time_s)
        elif act.kind == "parked_car":
            self._begin_parked_car(time_s)

    def _play(self, running: _Running, time_s: float, inputs: Inputs) -> None:
        kind, variant, age_s = running.act.kind, running.act.variant, time_s - running.start_s
        if kind == "takeover" and variant == "brake" and age_s < PEDAL_S:
            inputs.brake_mps2 = -2.2
        elif kind == "takeover" and variant == "gas" and age_s < PEDAL_S:
            inputs.gas_mps2 = 1.2
        elif kind == "takeover" and variant == "steering" and age_s < HANDS_S:
            inputs.driver_curvature_1pm = 0.004 * math.sin(2 * math.pi * age_s / HANDS_S)
        elif kind == "takeover" and variant == "dropout" and age_s < FAULT_SHOWN_S:
            inputs.faulted = True
        elif kind == "override" and variant == "gas":
            inputs.gas_mps2 = 1.3
        elif kind == "override":
            inputs.driver_curvature_1pm = 0.003 * math.sin(2 * math.pi * age_s / running.act.length_s)
        elif kind == "phantom_brake":
            inputs.accel_error_mps2 = PHANTOM_BRAKE_MPS2
        elif kind == "drift":
            inputs.curvature_error_1pm = DRIFT_1PM if variant == "left" else -DRIFT_1PM
        elif kind == "hard_brake":
            inputs.brake_mps2 = HARD_BRAKE_MPS2

    def _cut_in_candidate(self) -> Vehicle | None:
        """Somebody in the next lane who is a little ahead."""
        for vehicle in self.traffic.vehicles:
            gap = vehicle.s_m - vehicle.length_m / 2 - self.ego.s_m - EGO_FRONT_M
            if not vehicle.oncoming and vehicle.lane in (0, 2) and vehicle.old_lane is None and 10.0 < gap < 18.0:
                return vehicle
        return None

    def _begin_cut_in(self, time_s: float) -> None:
        vehicle = self._cut_in_candidate()
        if vehicle is None:
            s = self.ego.s_m + EGO_FRONT_M + 15.0
            nearby = [v for v in self.traffic.vehicles if v.lane == 2 and not v.oncoming and abs(v.s_m - s) < 14.0]
            for other in nearby:
                self.traffic.vehicles.remove(other)
            vehicle = self.traffic.add(s, 2, speed_mps=self.ego.speed_mps)
        vehicle.scripted = True
        vehicle.speed_mps = max(vehicle.speed_mps, self.ego.speed_mps - 0.5)
        side = "left" if vehicle.lane == 2 else "right"
        self.traffic.change_lane(vehicle, 1)
        self._cut_in = (vehicle, time_s)
        self._note(time_s, "cut_in", f"a {vehicle.kind} cuts in from the {side}", time_s + 3.0)

    def _direct_cut_in(self, time_s: float) -> None:
        """Who cut in goes on to the next lane after a moment, so that the road is free again."""
        if self._cut_in is None or time_s - self._cut_in[1] < 3.6:
            return
        vehicle = self._cut_in[0]
        vehicle.scripted = False
        if vehicle.lane == 1 and vehicle.old_lane is None and vehicle in self.traffic.vehicles:
            target = 2 if vehicle.kind in ("van", "truck", "bus") else 0
            others = [v for v in self.traffic.vehicles if not v.oncoming and target in v.lanes]
            if all(abs(v.s_m - vehicle.s_m) > 9.0 for v in others):
                self.traffic.change_lane(vehicle, target)
                self._cut_in = None

    def _begin_red_light(self, time_s: float) -> None:
        """A junction ahead turns yellow, then red; beyond it stands a stop sign behind a swaying branch."""
        stop_line = self.ego.s_m + EGO_FRONT_M + max(45.0, self.ego.speed_mps * 3.6 + 8.0)
        self.furniture.junction_s_m = [s for s in self.furniture.junction_s_m if abs(s - stop_line) > 90.0]
        centre = stop_line + JUNCTION_HALF_WIDTH_M + STOP_LINE_SETBACK_M
        self.furniture.junction_s_m.append(centre)
        self.red_light = RedLight(centre, stop_line, time_s + YELLOW_S)
        sign = (self.red_light.sign_s_m, time_s + GUST_AFTER_S)
        self.furniture.hidden_signs.append(sign)
        self._swaying.append(sign)
        self.furniture.crossings.append((stop_line + CROSSING_BEYOND_LINE_M, self.red_light.yellow_until_s))

    def _mind_red_light(self, time_s: float) -> None:
        light = self.red_light
        if light is None:
            return
        if light.standing_since_s is None and self.ego.speed_mps < STANDING_MPS:
            light.standing_since_s = time_s
        if light.standing_since_s is not None and time_s - light.standing_since_s > STANDING_S:
            self.red_light = None

    def _mind_hidden_signs(self, time_s: float) -> None:
        """While the wind sways the branch and until the car has passed, detections of the sign flicker."""
        passed = [(s, since) for s, since in self._swaying if s - self.ego.s_m < SIGN_PASSED_M]
        for sign in passed:
            self._swaying.remove(sign)
            self._note(sign[1], "detection_flicker", FLICKER_DETAIL, time_s)

    def finish(self, time_s: float) -> None:
        """The drive ends here: close what is still going on."""
        for _, since_s in self._swaying:
            self._note(since_s, "detection_flicker", FLICKER_DETAIL, time_s)

    def _begin_parked_car(self, time_s: float) -> None:
        place = self.ego.s_m + PARKED_AHEAD_M
        self.furniture.lone_parked_s_m.append(place)
        self._note(time_s, "parked_car", "a car parked alone at the right kerb", time_s + 5.0)

    def _note(self, time_s: float, event: str, detail: str, until_s: float | None = None) -> None:
        self.events.append(PlantedEvent(time_s, event, detail, until_s))


TAKEOVER_DETAILS = {
    "brake": "brake pedal while engaged",
    "steering": "driver takes the wheel while engaged",
    "gas": "driver accelerates away while engaged",
    "cancel": "cancelled at the stalk",
    "dropout": "the controller drops out by itself",
}
