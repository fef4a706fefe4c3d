"""The simulation: car, traffic and script in steps of about ten milliseconds, recorded frame by frame.

The step divides the frame period exactly, so that every capture time is a simulated moment and nothing has to be
interpolated. Randomness comes from one generator, in a fixed order: the same seed gives the same drive.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from replay.synthetic.atmosphere import Atmosphere, random_atmosphere
from replay.synthetic.crowd import BRAKING_MPS2, EGO_FRONT_M
from replay.synthetic.ego import Ego, Surroundings
from replay.synthetic.idm import CONTROLLER, controller_acceleration, pursuit_curvature_1pm
from replay.synthetic.recording import FrameState, Furniture, MoverState, PlantedEvent, Recording, SignalRow
from replay.synthetic.road import Road, RoadStyle
from replay.synthetic.scenery import random_junction_places
from replay.synthetic.script import write_script
from replay.synthetic.stage import Stage
from replay.synthetic.traffic import Traffic

STEPS_PER_SECOND = 100.0
START_S_M = 80.0
ROAD_MARGIN_M = 400.0
JUNCTION_SPACING_M = 240.0
PLAIN_SIGN_SPACING_M = 330.0
LEAD_RANGE_M = 100.0
ACCEL_NOISE_MPS2 = 0.02
TORQUE_NOISE_NM = 0.04
VEHICLE_EVERY_STEPS = 2
ROAD_STREAM, SCRIPT_STREAM, TRAFFIC_STREAM, SIGNAL_STREAM, ATMOSPHERE_STREAM = 21, 22, 23, 24, 31


def stream(seed: int, number: int) -> np.random.Generator:
    """An independent generator of a drive: adding randomness to one part does not change another."""
    return np.random.Generator(np.random.PCG64([number, seed]))


def drive_road(seed: int, length_m: float) -> Road:
    """The road of a drive; the same in the simulation and in every painter."""
    style = RoadStyle(median_width_m=2.0, oncoming_lanes=2)
    return Road(length_m, style, stream(seed, ROAD_STREAM))


def drive_atmosphere(seed: int, weather: str) -> Atmosphere:
    """The weather of a drive; the same for the wiper's signal and for every painter."""
    return random_atmosphere(weather, stream(seed, ATMOSPHERE_STREAM))


def simulate(seed: int, duration_s: float, rate_hz: float, weather: str) -> Recording:
    """Simulate a drive of `duration_s` with frames at `rate_hz`."""
    length_m = START_S_M + duration_s * CONTROLLER.desired_speed_mps * 1.15 + ROAD_MARGIN_M
    recording = Recording(seed, rate_hz, weather, length_m)
    run = _Run(recording, duration_s)
    steps_per_frame = max(1, round(STEPS_PER_SECOND / rate_hz))
    frames = int(duration_s * rate_hz)
    for step in range(frames * steps_per_frame):
        time_s = step / (rate_hz * steps_per_frame)
        run.step(time_s, 1.0 / (rate_hz * steps_per_frame), step)
        if step % steps_per_frame == 0:
            run.record_frame(time_s)
    run.finish(frames / rate_hz)
    return recording


class _Run:
    """One simulation on its way."""

    def __init__(self, recording: Recording, duration_s: float) -> None:
        self._recording = recording
        self._wiper = drive_atmosphere(recording.seed, recording.weather).wiper
        self._road = drive_road(recording.seed, recording.road_length_m)
        self._ego = Ego(self._road, START_S_M, CONTROLLER.desired_speed_mps * 0.8)
        self._traffic = Traffic(self._road.style, stream(recording.seed, TRAFFIC_STREAM))
        self._traffic.populate(self._ego.place)
        self._noise = stream(recording.seed, SIGNAL_STREAM)
        script_generator = stream(recording.seed, SCRIPT_STREAM)
        script = write_script(duration_s, script_generator)
        recording.furniture = _furniture(recording.road_length_m, script_generator)
        recording.faults = script.faults
        self._stage = Stage(script, self._ego, self._traffic, recording.furniture, duration_s)

    def step(self, time_s: float, dt_s: float, step: int) -> None:
        """Everybody acts; signals are published as they stand after the step's decisions."""
        inputs = self._stage.inputs(time_s)
        self._ego.step(dt_s, inputs, self._surroundings(time_s))
        place = self._ego.place
        self._traffic.step(dt_s, place, self._stage.stop_line_s_m(time_s), self._stage.keeps_clear(time_s))
        if step % VEHICLE_EVERY_STEPS == 0:
            self._publish(time_s, step)

    def _surroundings(self, time_s: float) -> Surroundings:
        around = Surroundings()
        lead = self._traffic.lead(self._ego.place)
        if lead is not None and lead[0] < LEAD_RANGE_M:
            around.lead_gap_m, around.lead_speed_mps = lead[0], lead[1].speed_mps
        stop_line = self._stage.stop_line_s_m(time_s)
        if stop_line is not None:
            gap = stop_line - self._ego.s_m - EGO_FRONT_M
            around.stop_gap_m = gap if gap > 0.3 else None
        return around

    def _publish(self, time_s: float, step: int) -> None:
        noise = self._noise.standard_normal(2) * (ACCEL_NOISE_MPS2, TORQUE_NOISE_NM)
        vehicle = self._ego.vehicle_signals(float(noise[0]), float(noise[1]), self._wiper)
        rows = self._recording.signals
        rows.append(SignalRow(time_s, "vehicle", vehicle))
        rows.append(SignalRow(time_s, "controller", self._ego.controller_signals()))
        if step % (2 * VEHICLE_EVERY_STEPS) == 0:
            rows.append(SignalRow(time_s, "lead", self._ego.lead_signals()))

    def record_frame(self, time_s: float) -> None:
        """The world as the cameras see it now."""
        ego, around = self._ego, self._ego.surroundings
        goal_1pm = pursuit_curvature_1pm(self._road, ego.s_m, ego.d_m, ego.turn_rad, ego.speed_mps, 0.0)
        goal_mps2 = controller_acceleration(ego.speed_mps, around.lead_gap_m, around.lead_speed_mps, around.stop_gap_m)
        self._recording.frames.append(
            FrameState(
                time_s=time_s,
                ego_s_m=ego.s_m,
                ego_d_m=ego.d_m,
                ego_turn_rad=ego.turn_rad,
                ego_speed_mps=ego.speed_mps,
                ego_accel_mps2=ego.accel_mps2,
                curvature_target_1pm=goal_1pm,
                accel_target_mps2=goal_mps2,
                lead_gap_m=around.lead_gap_m,
                movers=self._movers(),
                held_signals=self._stage.held_signals(time_s),
            )
        )

    def _movers(self) -> tuple[MoverState, ...]:
        return tuple(
            MoverState(
                track_id=vehicle.track_id,
                kind=vehicle.kind,
                paint=vehicle.paint,
                s_m=round(vehicle.s_m, 4),
                d_m=round(vehicle.d_m, 4),
                turn_rad=math.pi if vehicle.oncoming else 0.06 * vehicle.indicator,
                braking=vehicle.accel_mps2 < BRAKING_MPS2 or vehicle.speed_mps < 0.1,
                indicator=vehicle.indicator,
            )
            for vehicle in self._traffic.vehicles
        )

    def finish(self, end_s: float) -> None:
        """The truth, in order of time and inside the drive."""
        self._stage.finish(end_s)
        events = self._stage.events + [
            PlantedEvent(fault.start_s, "camera_fault", f"{fault.camera} {FAULT_WORDS[fault.kind]}", fault.end_s)
            for fault in self._recording.faults
        ]
        bounded = [replace(e, until_s=None if e.until_s is None else min(e.until_s, end_s)) for e in events]
        self._recording.events = sorted(bounded, key=lambda event: (event.time_s, event.event))


FAULT_WORDS = {"freeze": "freezes: the same image again and again", "drop": "drops all frames"}


def _furniture(road_length_m: float, generator: np.random.Generator) -> Furniture:
    furniture = Furniture(random_junction_places(road_length_m, JUNCTION_SPACING_M, generator))
    place = START_S_M + float(generator.uniform(60.0, 200.0))
    while place < road_length_m:
        furniture.plain_sign_s_m.append(place)
        place += PLAIN_SIGN_SPACING_M * float(generator.uniform(0.7, 1.3))
    return furniture
