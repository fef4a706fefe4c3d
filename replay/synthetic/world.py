"""The world of a drive: a recording dressed with scenery and people, ready to be painted at any of its frames.

Built alike in every painting process from the recording alone. Vehicles come from the recording; people and cyclists
walk and ride on fixed lines that follow from the seed; the script's furniture (junctions, half hidden signs, the lone
parked car) stands where the simulation decided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from replay.synthetic import catalogue, vehicle_meshes
from replay.synthetic.atmosphere import Atmosphere
from replay.synthetic.crowd import random_clothes, random_paint, signal_heads, vehicle_lamps
from replay.synthetic.frame import AHEAD_M, BEHIND_M, EgoPose, Frame, build_frame
from replay.synthetic.materials import Material
from replay.synthetic.recording import FrameState, MoverState, Recording
from replay.synthetic.road import Road
from replay.synthetic.scenery import Scenery, build_scenery, junction_at, put_on_road
from replay.synthetic.simulation import drive_atmosphere, drive_road, stream
from replay.synthetic.things import Colour, Thing

SCENERY_STREAM, PEOPLE_STREAM = 32, 33
WALKING_MPS, CYCLING_MPS = 1.3, 4.2
STRIDE_M = 0.38  # per phase of the walking mesh
PEOPLE_PER_100_M, CYCLISTS_PER_100_M = 5.0, 0.9
PARKED_SHARE = 0.35
SIGN_SCALE = 1.25  # 1.15 m across, the size for multi-lane roads
SIGN_SPACING_M = 90.0
BRANCH_PERIOD_S, BRANCH_MIDDLE_M, BRANCH_SWING_M = 1.5, 0.6, 1.05
CROSSING_MPS, CROSSING_PEOPLE = 1.5, 3
BLINK_PERIOD_S = 0.7
SIGN_CLEARANCE_M = (30.0, 8.0)  # nothing is parked this far before and behind a half hidden sign
#: Track ids of kinds that do not come from the traffic.
FIRST_PERSON_ID, FIRST_CYCLIST_ID, FIRST_PARKED_ID = 100_000, 200_000, 300_000
FIRST_SIGN_ID, FIRST_SIGNAL_ID, FIRST_CROSSING_ID = 400_000, 500_000, 600_000


@dataclass(frozen=True, slots=True)
class _Walker:
    """Somebody on a fixed line: there and back along the road, or across it."""

    track_id: int
    start_s_m: float
    d_m: float
    speed_mps: float
    clothes: dict[Material, Colour]
    scale: float


class DriveWorld:
    """Scenery and people of one recording."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.road: Road = drive_road(recording.seed, recording.road_length_m)
        self.atmosphere: Atmosphere = drive_atmosphere(recording.seed, recording.weather)
        self._generator = stream(recording.seed, SCENERY_STREAM)
        places = sorted(recording.furniture.junction_s_m)
        self.scenery: Scenery = build_scenery(self.road, self._generator, self.atmosphere.lamps_on, places)
        self._park_cars()
        self._put_up_signs()
        self.scenery.freeze()
        people = stream(recording.seed, PEOPLE_STREAM)
        self._people = self._walkers(people, PEOPLE_PER_100_M, FIRST_PERSON_ID)
        self._cyclists = self._walkers(people, CYCLISTS_PER_100_M, FIRST_CYCLIST_ID)

    def frame(self, state: FrameState) -> Frame:
        """Everything near the car at a frame of the recording."""
        ego = EgoPose.on_road(self.road, state.ego_s_m, state.ego_d_m, state.ego_turn_rad)
        things = [self._vehicle(mover, state.time_s) for mover in state.movers]
        things += self._pedestrians_near(state) + self._cyclists_near(state)
        things += self._branches(state) + self._signals(state)
        return build_frame(self.scenery, self.atmosphere, ego, things)

    # What stands

    def _park_cars(self) -> None:
        generator, style = self._generator, self.road.style
        middle = (style.right_edge_d_m + style.kerb_d_m) / 2 - 0.1
        lone = self._recording.furniture.lone_parked_s_m
        places = [(float(s), False) for s in np.arange(-60.0, self.road.length_m, 7.0)] + [(s, True) for s in lone]
        for number, (s, is_lone) in enumerate(places):
            kind = str(generator.choice(vehicle_meshes.VEHICLE_KINDS[:4]))
            paint = {Material.PAINT: random_paint(generator)}
            wanted = bool(generator.random() < PARKED_SHARE) and not self._must_stay_free(s)
            if is_lone or wanted:
                car = Thing(vehicle_meshes.vehicle(kind), 0, 0, 0, "vehicle", FIRST_PARKED_ID + number, paint=paint)
                put_on_road(self.road, car, s, middle, float(generator.normal(0, 0.02)))
                self.scenery.add_thing(s, car)

    def _must_stay_free(self, s_m: float) -> bool:
        """Junctions, the surroundings of the lone parked car, and the view of half hidden signs."""
        furniture = self._recording.furniture
        near_lone = any(abs(s_m - lone) < 22.0 for lone in furniture.lone_parked_s_m)
        hides = any(-SIGN_CLEARANCE_M[0] < s_m - sign < SIGN_CLEARANCE_M[1] for sign, _ in furniture.hidden_signs)
        return near_lone or hides or junction_at(self.scenery, s_m, 6.0)

    def _put_up_signs(self) -> None:
        furniture = self._recording.furniture
        hidden = [s for s, _ in furniture.hidden_signs]
        plain = [
            s
            for s in furniture.plain_sign_s_m
            if not self._must_stay_free(s) and all(abs(s - other) > SIGN_SPACING_M for other in hidden)
        ]
        for number, s in enumerate(sorted(hidden + plain)):
            sign = Thing(catalogue.stop_sign(), 0, 0, 0, "stop_sign", FIRST_SIGN_ID + number, must_face=True)
            sign.scale = SIGN_SCALE
            put_on_road(self.road, sign, s, self._sign_d_m, math.pi + 0.2)
            self.scenery.add_thing(s, sign)

    @property
    def _sign_d_m(self) -> float:
        return self.road.style.kerb_d_m - 0.5

    # What moves

    def _vehicle(self, mover: MoverState, time_s: float) -> Thing:
        blink_on = time_s % BLINK_PERIOD_S < BLINK_PERIOD_S / 2
        lamps = vehicle_lamps(self.atmosphere.lamps_on, mover.braking, mover.indicator, blink_on)
        paint = {Material.PAINT: mover.paint}
        thing = Thing(vehicle_meshes.vehicle(mover.kind), 0, 0, 0, "vehicle", mover.track_id, lit=lamps, paint=paint)
        put_on_road(self.road, thing, mover.s_m, mover.d_m, mover.turn_rad)
        return thing

    def _walkers(self, generator: np.random.Generator, per_100_m: float, first_id: int) -> list[_Walker]:
        style, cycling = self.road.style, first_id == FIRST_CYCLIST_ID
        walkers = []
        for number in range(int(self.road.length_m * per_100_m / 100.0)):
            s = float(generator.uniform(0.0, self.road.length_m))
            right = bool(generator.random() < 0.65)
            edge = style.kerb_d_m if right else style.oncoming_d_m[1] + 3.5
            d = edge - float(generator.uniform(0.3, style.pavement_width_m - 0.3))
            speed = WALKING_MPS * float(generator.uniform(-1.2, 1.2))
            if cycling:
                d = style.right_edge_d_m + 0.3 if right else style.oncoming_d_m[1] - 0.4
                speed = CYCLING_MPS * float(generator.uniform(0.8, 1.2)) * (1.0 if right else -1.0)
            clothes, scale = random_clothes(generator), float(generator.uniform(0.78, 1.06))
            walkers.append(_Walker(first_id + number, s, d, speed, clothes, scale))
        return walkers

    def _pedestrians_near(self, state: FrameState) -> list[Thing]:
        things = []
        for walker in self._people:
            s = walker.start_s_m + walker.speed_mps * state.time_s
            if -BEHIND_M < s - state.ego_s_m < AHEAD_M:
                step = int(abs(s) / STRIDE_M) % 4
                mesh = catalogue.pedestrian(step)
                thing = Thing(mesh, 0, 0, 0, "pedestrian", walker.track_id, paint=walker.clothes, scale=walker.scale)
                put_on_road(self.road, thing, s, walker.d_m, 0.0 if walker.speed_mps > 0 else math.pi)
                things.append(thing)
        return things + self._crossing_people(state)

    def _crossing_people(self, state: FrameState) -> list[Thing]:
        """People on a zebra crossing while its light is red, from the right kerb to the left."""
        things = []
        style = self.road.style
        for number, (s, start_s) in enumerate(self._recording.furniture.crossings):
            for index in range(CROSSING_PEOPLE):
                walked = CROSSING_MPS * (1 + 0.12 * index) * (state.time_s - start_s - 0.6 * index)
                d = style.kerb_d_m - 0.6 + walked
                if abs(s - state.ego_s_m) < AHEAD_M and walked > 0 and d < style.left_edge_d_m + 1.0:
                    double = self._people[index]
                    person = Thing(catalogue.pedestrian(int(walked / STRIDE_M) % 4), 0, 0, 0, "pedestrian")
                    person.track_id = FIRST_CROSSING_ID + number * CROSSING_PEOPLE + index
                    person.paint, person.scale = double.clothes, double.scale
                    put_on_road(self.road, person, s + 0.5 * index, d, math.pi / 2)
                    things.append(person)
        return things

    def _cyclists_near(self, state: FrameState) -> list[Thing]:
        things = []
        for walker in self._cyclists:
            s = walker.start_s_m + walker.speed_mps * state.time_s
            if -BEHIND_M < s - state.ego_s_m < AHEAD_M:
                thing = Thing(catalogue.cyclist(), 0, 0, 0, "cyclist", walker.track_id, paint=walker.clothes)
                put_on_road(self.road, thing, s, walker.d_m, 0.0 if walker.speed_mps > 0 else math.pi)
                things.append(thing)
        return things

    def _branches(self, state: FrameState) -> list[Thing]:
        """The branch beside each half hidden sign; once the gust has begun it sways to and fro across it."""
        things = []
        for s, since_s in self._recording.furniture.hidden_signs:
            if abs(s - state.ego_s_m) < AHEAD_M:
                phase = 2 * math.pi * max(0.0, state.time_s - since_s) / BRANCH_PERIOD_S
                sway = BRANCH_MIDDLE_M + BRANCH_SWING_M * math.cos(phase)
                branch = Thing(catalogue.branch(), 0, 0, 0, scale=SIGN_SCALE)
                put_on_road(self.road, branch, s - 0.6, self._sign_d_m - sway, math.pi)
                things.append(branch)
        return things

    def _signals(self, state: FrameState) -> list[Thing]:
        held = dict(state.held_signals)
        things = []
        for number, junction in enumerate(self.scenery.junctions):
            if -BEHIND_M < junction.centre_s_m - state.ego_s_m < AHEAD_M:
                colour = held.get(junction.centre_s_m, "green")
                heads = signal_heads(self.scenery, junction.centre_s_m, junction.heads, colour)
                for index, head in enumerate(heads):
                    head.track_id = FIRST_SIGNAL_ID + number * 10 + index
                things += heads
        return things
