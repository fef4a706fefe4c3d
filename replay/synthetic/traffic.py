"""Traffic that moves: vehicles on the car's carriageway (IDM and MOBIL lane changes) and on the oncoming one.

Places are along the road: `s_m` is a vehicle's middle. The traffic lives around the car only: vehicles that fall far
behind or run far ahead leave, new ones come at the edges of that range, so their number is bounded. While the script
keeps the lane ahead clear, nobody changes into it and those in it leave as soon as it is safe. Lorries, buses and vans
keep out of the right lane, where they would hide the roadside.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from replay.synthetic import vehicle_meshes
from replay.synthetic.crowd import EGO_FRONT_M, random_kind, random_paint
from replay.synthetic.idm import FREE_GAP_M, HARDEST_BRAKING_MPS2, Driver, idm_acceleration, wants_to_change
from replay.synthetic.road import LANE_COUNT, RoadStyle
from replay.synthetic.things import Colour

EGO_REAR_M = 0.95  # from the rear axle back to the bumper
AHEAD_LIMIT_M, BEHIND_LIMIT_M = 185.0, 85.0
ENTRY_GAP_M = 22.0
DECISION_PERIOD_S = 0.5
LANE_CHANGE_S = 3.0
CLEAR_AHEAD_M = 130.0
TALL_KINDS = ("van", "truck", "bus")
MOST_VEHICLES = 60
COMFORTABLE_STOP_MPS2 = 3.5
HURRIED_BRAKING_MPS2 = 4.5  # what others put up with from somebody who must leave the lane
HURRIED_SPEED_MPS = 19.0


@dataclass(slots=True, eq=False)
class Vehicle:
    """One other vehicle."""

    track_id: int
    kind: str
    paint: Colour
    lane: int  # the lane it is in, or changing to
    s_m: float
    d_m: float
    speed_mps: float
    driver: Driver
    oncoming: bool = False
    accel_mps2: float = 0.0
    length_m: float = 4.6
    old_lane: int | None = None  # the lane it is leaving
    change_s: float = 0.0
    change_from_d_m: float = 0.0
    scripted: bool = False  # its lane is the script's business

    @property
    def indicator(self) -> int:
        """+1 while changing to the left, -1 to the right."""
        return 0 if self.old_lane is None else (1 if self.lane > self.old_lane else -1)

    @property
    def lanes(self) -> tuple[int, ...]:
        """The lanes it takes up."""
        return (self.lane,) if self.old_lane is None else (self.lane, self.old_lane)


#: Middle, length, speed, and the vehicle, or None for the car itself.
RowEntry: TypeAlias = "tuple[float, float, float, Vehicle | None]"


@dataclass(slots=True)
class EgoPlace:
    """What others need to know of the car."""

    s_m: float
    d_m: float
    speed_mps: float
    lane: int = 1


@dataclass(slots=True)
class Traffic:
    """All other vehicles."""

    style: RoadStyle
    generator: np.random.Generator
    vehicles: list[Vehicle] = field(default_factory=list)
    _next_id: int = 0
    _clock_s: float = 0.0

    def populate(self, ego: EgoPlace) -> None:
        """Vehicles around the car to begin with; its own lane is free for 25 m ahead and 15 m behind."""
        for lane in range(LANE_COUNT):
            s = ego.s_m - 65.0
            while s < ego.s_m + AHEAD_LIMIT_M - 10:
                s += float(self.generator.uniform(18.0, 60.0))
                if lane != ego.lane or not -15.0 < s - ego.s_m < 25.0:
                    self.add(s, lane)
        for lane in range(self.style.oncoming_lanes):
            s = ego.s_m - 60.0
            while s < ego.s_m + AHEAD_LIMIT_M:
                s += float(self.generator.uniform(25.0, 80.0))
                self.add(s, lane, oncoming=True)

    def add(self, s_m: float, lane: int, oncoming: bool = False, speed_mps: float | None = None) -> Vehicle:
        """One more vehicle in the middle of a lane."""
        generator = self.generator
        kind = random_kind(generator)
        if lane == 0 and not oncoming and kind in TALL_KINDS:
            kind = "sedan"
        wanted = 13.0 + lane * 0.4 if oncoming else float(generator.uniform(12.0, 15.5))
        d = self.style.oncoming_centre_d_m(lane) if oncoming else self.style.lane_centre_d_m(lane)
        vehicle = Vehicle(
            track_id=self._next_id,
            kind=kind,
            paint=random_paint(generator),
            lane=lane,
            s_m=s_m,
            d_m=d,
            speed_mps=wanted * 0.95 if speed_mps is None else speed_mps,
            driver=Driver(desired_speed_mps=wanted, time_gap_s=float(generator.uniform(1.0, 1.8))),
            oncoming=oncoming,
            length_m=vehicle_meshes.vehicle_length_m(kind),
        )
        self._next_id += 1
        self.vehicles.append(vehicle)
        return vehicle

    def lead(self, ego: EgoPlace, lateral_reach_m: float = 1.9) -> tuple[float, Vehicle] | None:
        """The nearest vehicle ahead whose body is in the car's way, and the gap between the bumpers."""
        front = ego.s_m + EGO_FRONT_M
        nearest: tuple[float, Vehicle] | None = None
        for vehicle in self.vehicles:
            gap = vehicle.s_m - vehicle.length_m / 2 - front
            in_way = not vehicle.oncoming and abs(vehicle.d_m - ego.d_m) < lateral_reach_m
            if in_way and gap > -vehicle.length_m and (nearest is None or gap < nearest[0]):
                nearest = (max(gap, 0.1), vehicle)
        return nearest

    def step(self, dt_s: float, ego: EgoPlace, stop_line_s_m: float | None, keep_clear: bool) -> None:
        """Everybody drives on for `dt_s`; `stop_line_s_m` is a red light's, for all lanes."""
        before = int(self._clock_s / DECISION_PERIOD_S)
        self._clock_s += dt_s
        decides = int(self._clock_s / DECISION_PERIOD_S) != before
        rows = self._rows(ego)
        for vehicle in self.vehicles:
            if not vehicle.oncoming:
                hurries = keep_clear and ego.lane in vehicle.lanes and vehicle.s_m > ego.s_m and not vehicle.scripted
                vehicle.accel_mps2 = self._acceleration(vehicle, rows, stop_line_s_m, hurries)
                if decides:
                    self._consider_change(vehicle, rows, ego, keep_clear)
        for vehicle in self.vehicles:
            self._move(vehicle, dt_s)
        if decides:
            self._come_and_go(ego, keep_clear)

    def change_lane(self, vehicle: Vehicle, lane: int) -> None:
        """Begin a lane change."""
        vehicle.old_lane, vehicle.lane = vehicle.lane, lane
        vehicle.change_s, vehicle.change_from_d_m = 0.0, vehicle.d_m

    def _rows(self, ego: EgoPlace) -> list[list[RowEntry]]:
        """By lane: (middle, length, speed, vehicle or None for the car), in order along the road."""
        rows: list[list[RowEntry]] = [[] for _ in range(LANE_COUNT)]
        for vehicle in self.vehicles:
            if not vehicle.oncoming:
                for lane in vehicle.lanes:
                    rows[lane].append((vehicle.s_m, vehicle.length_m, vehicle.speed_mps, vehicle))
        middle = ego.s_m + (EGO_FRONT_M - EGO_REAR_M) / 2
        rows[ego.lane].append((middle, EGO_FRONT_M + EGO_REAR_M, ego.speed_mps, None))
        for row in rows:
            row.sort(key=lambda entry: entry[0])
        return rows

    def _acceleration(
        self,
        vehicle: Vehicle,
        rows: list[list[RowEntry]],
        stop_line_s_m: float | None,
        hurries: bool,
    ) -> float:
        accel = min(self._follow(vehicle, rows[lane], vehicle.s_m, hurries) for lane in vehicle.lanes)
        if stop_line_s_m is not None:
            gap = stop_line_s_m - vehicle.s_m - vehicle.length_m / 2
            if gap > max(0.5, vehicle.speed_mps**2 / (2 * COMFORTABLE_STOP_MPS2)):
                accel = min(accel, idm_acceleration(vehicle.driver, vehicle.speed_mps, gap, vehicle.speed_mps))
        return accel

    def _follow(self, vehicle: Vehicle, row: list[RowEntry], s_m: float, hurries: bool = False) -> float:
        """IDM behind whoever is next ahead in a lane."""
        driver = replace(vehicle.driver, desired_speed_mps=HURRIED_SPEED_MPS) if hurries else vehicle.driver
        for middle, length, speed, other in row:
            if middle > s_m and other is not vehicle:
                gap = middle - s_m - (length + vehicle.length_m) / 2
                return idm_acceleration(driver, vehicle.speed_mps, gap, vehicle.speed_mps - speed)
        return idm_acceleration(driver, vehicle.speed_mps, FREE_GAP_M, 0.0)

    def _consider_change(
        self,
        vehicle: Vehicle,
        rows: list[list[RowEntry]],
        ego: EgoPlace,
        keep_clear: bool,
    ) -> None:
        if vehicle.old_lane is not None or vehicle.scripted or vehicle.speed_mps < 3.0:
            return
        ahead_m = vehicle.s_m - ego.s_m
        must_leave = keep_clear and vehicle.lane == ego.lane and 0 < ahead_m < CLEAR_AHEAD_M
        for lane in (vehicle.lane - 1, vehicle.lane + 1):
            if not 0 <= lane < LANE_COUNT or (lane == 0 and vehicle.kind in TALL_KINDS):
                continue
            if lane == ego.lane and (keep_clear or -25.0 < ahead_m < 45.0):
                continue
            limit = HURRIED_BRAKING_MPS2 if must_leave else vehicle.driver.safe_braking_mps2
            loss = self._follower_loss(vehicle, rows[lane], limit)
            there = self._follow(vehicle, rows[lane], vehicle.s_m)
            if loss is None or there < -limit:
                continue
            if must_leave or wants_to_change(vehicle.driver, vehicle.accel_mps2, there, loss):
                self.change_lane(vehicle, lane)
                return

    def _follower_loss(self, vehicle: Vehicle, row: list[RowEntry], limit_mps2: float) -> float | None:
        """What a change costs whoever would then be behind; None where it would not be safe."""
        behind = [entry for entry in row if entry[0] <= vehicle.s_m and entry[3] is not vehicle]
        ahead = [entry for entry in row if entry[0] > vehicle.s_m]
        if ahead and ahead[0][0] - vehicle.s_m < (ahead[0][1] + vehicle.length_m) / 2 + 3.0:
            return None
        if not behind:
            return 0.0
        middle, length, speed, other = behind[-1]
        gap = vehicle.s_m - middle - (length + vehicle.length_m) / 2
        driver = other.driver if other is not None else Driver()
        after = idm_acceleration(driver, speed, gap, speed - vehicle.speed_mps) if gap > 3.0 else HARDEST_BRAKING_MPS2
        return None if after < -limit_mps2 else max(0.0, -after)

    def _move(self, vehicle: Vehicle, dt_s: float) -> None:
        if vehicle.oncoming:
            vehicle.s_m -= vehicle.speed_mps * dt_s
            return
        vehicle.speed_mps = max(0.0, vehicle.speed_mps + vehicle.accel_mps2 * dt_s)
        vehicle.s_m += vehicle.speed_mps * dt_s
        if vehicle.old_lane is None:
            return
        vehicle.change_s += dt_s
        share = min(1.0, vehicle.change_s / LANE_CHANGE_S)
        goal = self.style.lane_centre_d_m(vehicle.lane)
        vehicle.d_m = vehicle.change_from_d_m + (goal - vehicle.change_from_d_m) * share * share * (3 - 2 * share)
        if share >= 1.0:
            vehicle.old_lane = None

    def _come_and_go(self, ego: EgoPlace, keep_clear: bool) -> None:
        """Drop who is out of range; let others in at the edges."""
        self.vehicles = [v for v in self.vehicles if -BEHIND_LIMIT_M < v.s_m - ego.s_m < AHEAD_LIMIT_M + 5]
        for lane in range(LANE_COUNT):
            if self.generator.random() < 0.10 and not (lane == ego.lane and keep_clear):
                self._enter(ego.s_m + AHEAD_LIMIT_M - 5, lane, ego)
            if self.generator.random() < 0.06:
                self._enter(ego.s_m - BEHIND_LIMIT_M + 10, lane, ego)
        for lane in range(self.style.oncoming_lanes):
            if self.generator.random() < 0.22:
                self._enter(ego.s_m + AHEAD_LIMIT_M - 5, lane, ego, oncoming=True)

    def _enter(self, s_m: float, lane: int, ego: EgoPlace, oncoming: bool = False) -> None:
        near = (v for v in self.vehicles if v.oncoming == oncoming and lane in v.lanes)
        if len(self.vehicles) < MOST_VEHICLES and all(abs(v.s_m - s_m) > ENTRY_GAP_M for v in near):
            self.add(s_m, lane, oncoming, None if oncoming else max(6.0, min(14.0, ego.speed_mps + 1.0)))
