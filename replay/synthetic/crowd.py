"""A random crowd around the car at one instant: traffic, parked cars, people, cyclists, signs and signal heads.

Used for labelled instants. (A drive moves its own traffic over time: see `traffic`.) Lamps tell what a driver is
doing, so that a single image shows it: brake lamps are lit on whoever slows down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from replay.synthetic import catalogue, vehicle_meshes
from replay.synthetic.atmosphere import Atmosphere
from replay.synthetic.frame import EgoPose
from replay.synthetic.materials import Material
from replay.synthetic.scenery import Scenery, junction_at, put_on_road
from replay.synthetic.things import Colour, Thing

EGO_FRONT_M = 3.75  # from the rear axle to the front bumper
BRAKING_MPS2 = -0.6
LIGHT_STATES = ("red", "yellow", "green")
LAMP_OF_STATE = {
    "red": Material.RED_LIGHT,
    "yellow": Material.YELLOW_LIGHT,
    "green": Material.GREEN_LIGHT,
}
SIGNAL_REACH_M = 70.0
SIGNAL_BEYOND_CENTRE_M = 5.0
KIND_WEIGHTS = (0.2, 0.33, 0.22, 0.07, 0.08, 0.06, 0.04)


@dataclass(slots=True)
class Crowd:
    """Things with labels, and what the controller must heed."""

    things: list[Thing] = field(default_factory=list)
    lead_gap_m: float | None = None
    lead_speed_mps: float = 0.0
    stop_gap_m: float | None = None


def random_kind(generator: np.random.Generator) -> str:
    """A vehicle kind; cars are commonest."""
    return str(generator.choice(vehicle_meshes.VEHICLE_KINDS, p=KIND_WEIGHTS))


def random_paint(generator: np.random.Generator) -> Colour:
    """A car's colour with a little variation."""
    base = vehicle_meshes.VEHICLE_PAINTS[int(generator.integers(len(vehicle_meshes.VEHICLE_PAINTS)))]
    red, green, blue = np.clip(np.array(base) + generator.uniform(-14, 14, 3), 6, 245).tolist()
    return (red, green, blue)


def vehicle_lamps(lamps_on: bool, braking: bool, indicator: int = 0, blink_on: bool = True) -> frozenset[Material]:
    """Which lamps of a vehicle shine; `indicator` is +1 left, -1 right, 0 none."""
    lit = {Material.HEADLAMP, Material.TAIL_LAMP} if lamps_on else set()
    if braking:
        lit.add(Material.BRAKE_LAMP)
    if indicator and blink_on:
        lit.add(Material.LEFT_INDICATOR if indicator > 0 else Material.RIGHT_INDICATOR)
    return frozenset(lit)


def random_crowd(
    scenery: Scenery,
    ego: EgoPose,
    lane: int,
    speed_mps: float,
    atmosphere: Atmosphere,
    generator: np.random.Generator,
) -> Crowd:
    """Everything that could move, or could be elsewhere, around a car at `ego` in `lane`."""
    crowd = Crowd()
    placer = _Placer(scenery, ego, atmosphere, generator, crowd)
    placer.traffic(lane, speed_mps)
    placer.oncoming()
    placer.parked()
    placer.people()
    placer.cyclists()
    placer.stop_signs()
    placer.signals(speed_mps)
    for number, thing in enumerate(crowd.things):
        thing.track_id = number
    return crowd


class _Placer:
    """Places one kind of thing at a time."""

    def __init__(
        self,
        scenery: Scenery,
        ego: EgoPose,
        atmosphere: Atmosphere,
        generator: np.random.Generator,
        crowd: Crowd,
    ) -> None:
        self._scenery, self._ego, self._atmosphere = scenery, ego, atmosphere
        self._generator, self._crowd = generator, crowd
        self._density = float(generator.choice([0.15, 0.5, 0.9], p=(0.3, 0.45, 0.25)))

    def traffic(self, ego_lane: int, ego_speed_mps: float) -> None:
        """The lanes of the driving direction, from behind the car to far ahead."""
        for lane in range(3):
            self._lane_behind(lane, ego_lane)
            self._lane_ahead(lane, ego_lane, ego_speed_mps)

    def _lane_behind(self, lane: int, ego_lane: int) -> None:
        s = self._ego.s_m - self._random(4.0 if lane == ego_lane else -8.0, 30.0)
        while s > self._ego.s_m - 65.0:
            if self._chance(self._density):
                kind = random_kind(self._generator)
                self._vehicle(kind, s - vehicle_meshes.vehicle_length_m(kind) / 2 - 1.5, lane, self._chance(0.15))
            s -= self._random(16.0, 45.0)

    def _lane_ahead(self, lane: int, ego_lane: int, ego_speed_mps: float) -> None:
        is_own = lane == ego_lane
        if is_own and self._chance(0.35):
            return  # a free road ahead
        near_m = 2.5 + ego_speed_mps * self._random(0.1, 2.2) if is_own else self._random(-4.0, 20.0)
        s = self._ego.s_m + EGO_FRONT_M + near_m
        first = True
        while s < self._ego.s_m + 120.0:
            if (is_own and first) or self._chance(self._density):
                kind = random_kind(self._generator)
                length = vehicle_meshes.vehicle_length_m(kind)
                braking = self._chance(0.25)
                self._vehicle(kind, s + length / 2, lane, braking)
                if is_own and first:
                    self._lead(s - self._ego.s_m - EGO_FRONT_M, ego_speed_mps, braking)
                s += length
                first = False
            s += self._random(7.0, 40.0)

    def _lead(self, gap_m: float, ego_speed_mps: float, braking: bool) -> None:
        """A braking vehicle ahead is mostly the slower one; a steady one is about as fast as the car."""
        if gap_m > 90.0:
            return
        slower = self._random(0.5, 6.0) if braking else float(self._generator.normal(0.2, 1.0))
        self._crowd.lead_gap_m = gap_m
        self._crowd.lead_speed_mps = max(0.0, ego_speed_mps - slower)

    def _vehicle(self, kind: str, s_m: float, lane: int, braking: bool) -> None:
        indicator = int(self._generator.choice([-1, 0, 1], p=(0.05, 0.9, 0.05)))
        lamps = vehicle_lamps(self._atmosphere.lamps_on, braking, indicator)
        thing = Thing(vehicle_meshes.vehicle(kind), 0, 0, 0, "vehicle", lit=lamps, paint=self._paint())
        sway = float(self._generator.normal(0.0, 0.2))
        self._put(thing, s_m, self._scenery.road.style.lane_centre_d_m(lane) + sway, self._small_turn(0.012))

    def oncoming(self) -> None:
        """The other carriageway."""
        style = self._scenery.road.style
        for lane in range(style.oncoming_lanes):
            s = self._ego.s_m - 60.0 + self._random(0.0, 30.0)
            while s < self._ego.s_m + 130.0:
                if self._chance(self._density * 0.8):
                    lamps = vehicle_lamps(self._atmosphere.lamps_on, self._chance(0.1))
                    mesh = vehicle_meshes.vehicle(random_kind(self._generator))
                    thing = Thing(mesh, 0, 0, 0, "vehicle", lit=lamps, paint=self._paint())
                    self._put(thing, s, style.oncoming_centre_d_m(lane), math.pi + self._small_turn(0.012))
                s += self._random(14.0, 50.0)

    def parked(self) -> None:
        """Cars along the right kerb."""
        share = self._random(0.0, 0.9)
        style = self._scenery.road.style
        middle = (style.right_edge_d_m + style.kerb_d_m) / 2 - 0.1
        s = self._ego.s_m - 50.0
        while s < self._ego.s_m + 110.0:
            kind = str(self._generator.choice(vehicle_meshes.VEHICLE_KINDS[:5]))
            length = vehicle_meshes.vehicle_length_m(kind)
            if self._chance(share) and not junction_at(self._scenery, s, 6.0):
                thing = Thing(vehicle_meshes.vehicle(kind), 0, 0, 0, "vehicle", paint=self._paint())
                self._put(thing, s, middle + self._small_turn(0.1), self._small_turn(0.03))
            s += length + self._random(0.8, 4.0)

    def people(self) -> None:
        """On both pavements, some beside parked cars, and on the zebra crossings."""
        style = self._scenery.road.style
        for _ in range(int(self._generator.poisson(7))):
            right = self._chance(0.65)
            edge = style.kerb_d_m if right else style.oncoming_d_m[1] + 3.5
            d = edge - self._random(0.2, style.pavement_width_m)
            self._person(self._ego.s_m + self._random(-25.0, 75.0), d, self._random(0.0, 2 * math.pi))
        if self._chance(0.25):
            d = self._random(style.right_edge_d_m - 2.5, style.right_edge_d_m + 1.0)
            self._person(self._ego.s_m + self._random(6.0, 45.0), d, self._random(0.0, 2 * math.pi))
        for junction in self._scenery.junctions:
            if abs(junction.centre_s_m - self._ego.s_m) < 70.0 and self._chance(0.6):
                for _ in range(int(self._generator.integers(1, 4))):
                    d = self._random(style.right_edge_d_m, style.left_edge_d_m)
                    turn = math.pi / 2 if self._chance(0.5) else -math.pi / 2
                    self._person(junction.stop_line_s_m + self._random(1.2, 3.2), d, turn)

    def _person(self, s_m: float, d_m: float, turn_rad: float) -> None:
        if abs(s_m - self._ego.s_m) < 5.0 and abs(d_m - self._ego.d_m) < 1.6:
            return
        thing = Thing(catalogue.pedestrian(int(self._generator.integers(4))), 0, 0, 0, "pedestrian")
        thing.paint = random_clothes(self._generator)
        thing.scale = self._random(0.72, 1.08)
        self._put(thing, s_m, d_m, turn_rad)

    def cyclists(self) -> None:
        """Along the right edge, on the pavement, some oncoming."""
        style = self._scenery.road.style
        for _ in range(int(self._generator.poisson(2.2))):
            s = self._ego.s_m + self._random(-30.0, 60.0)
            right = self._chance(0.7)
            d = style.right_edge_d_m - self._random(-0.3, 0.5) if right else style.oncoming_d_m[1] - 0.4
            if abs(s - self._ego.s_m) < 7.0 and abs(d - self._ego.d_m) < 1.8:
                continue
            thing = Thing(catalogue.cyclist(), 0, 0, 0, "cyclist", paint=random_clothes(self._generator))
            self._put(thing, s, d, (0.0 if right else math.pi) + self._small_turn(0.06))

    def stop_signs(self) -> None:
        """Beside the road, facing traffic more or less; some half hidden by a branch."""
        style = self._scenery.road.style
        for _ in range(int(self._generator.choice([0, 1, 2], p=(0.35, 0.5, 0.15)))):
            s = self._ego.s_m + self._random(6.0, 60.0)
            d = style.kerb_d_m - self._random(0.3, 1.2) if self._chance(0.8) else style.left_edge_d_m + 0.6
            turn = math.pi + self._random(-0.5, 0.7)
            thing = Thing(catalogue.stop_sign(), 0, 0, 0, "stop_sign", must_face=True, scale=self._random(0.85, 1.15))
            self._put(thing, s, d, turn)
            if self._chance(0.25):
                branch = Thing(catalogue.branch(), 0, 0, 0, scale=thing.scale)
                self._put(branch, s - 0.5, d + self._random(-0.9, 0.9), math.pi)

    def signals(self, speed_mps: float) -> None:
        """The heads of every junction; a red one ahead is something to stop for."""
        for junction in self._scenery.junctions:
            state = LIGHT_STATES[int(self._generator.choice(3, p=(0.4, 0.2, 0.4)))]
            for thing in signal_heads(self._scenery, junction.centre_s_m, junction.heads, state):
                self._crowd.things.append(thing)
            gap_m = junction.stop_line_s_m - self._ego.s_m - EGO_FRONT_M
            if state != "green" and 1.0 < gap_m < SIGNAL_REACH_M and gap_m > speed_mps**2 / 10.0:
                self._crowd.stop_gap_m = gap_m

    def _put(self, thing: Thing, s_m: float, d_m: float, turn_rad: float) -> None:
        put_on_road(self._scenery.road, thing, s_m, d_m, turn_rad)
        self._crowd.things.append(thing)

    def _paint(self) -> dict[Material, Colour]:
        return {Material.PAINT: random_paint(self._generator)}

    def _random(self, low: float, high: float) -> float:
        return float(self._generator.uniform(low, high))

    def _chance(self, share: float) -> bool:
        return bool(self._generator.random() < share)

    def _small_turn(self, spread: float) -> float:
        return float(self._generator.normal(0.0, spread))


def random_clothes(generator: np.random.Generator) -> dict[Material, Colour]:
    """What a person wears, and skin and hair."""
    coat, trousers = generator.uniform(20, 225, 3), generator.uniform(20, 130, 3)
    skin = np.array([206, 160, 132]) * generator.uniform(0.45, 1.1)
    return {
        Material.PAINT: (float(coat[0]), float(coat[1]), float(coat[2])),
        Material.TROUSERS: (float(trousers[0]), float(trousers[1]), float(trousers[2])),
        Material.SKIN: (float(skin[0]), float(skin[1]), float(skin[2])),
    }


def signal_heads(
    scenery: Scenery, centre_s_m: float, heads: tuple[tuple[float, float, float], ...], state: str
) -> list[Thing]:
    """The signal heads of a junction, on its far side, facing the car."""
    things = []
    for d, height, mast_d in heads:
        head = Thing(catalogue.traffic_light(height), 0, 0, 0, "traffic_light", state=state, must_face=True)
        head.lit = frozenset({LAMP_OF_STATE[state]})
        put_on_road(scenery.road, head, centre_s_m + SIGNAL_BEYOND_CENTRE_M, d, math.pi)
        post_d = mast_d or d
        post = Thing(catalogue.signal_post(height, d - post_d), 0, 0, 0)
        put_on_road(scenery.road, post, centre_s_m + SIGNAL_BEYOND_CENTRE_M, post_d, math.pi)
        things += [post, head]
    return things
