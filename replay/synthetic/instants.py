"""Labelled instants: single moments of many random worlds, for training, without video coding.

Every scene (road, colours, weather, houses) serves `INSTANTS_PER_SCENE` instants in which the car stands at another
place, off its lane's middle and turned a little (so that a network learns to come back), among other traffic. The
action labels are what the synthetic controller itself would do there: IDM towards the vehicle ahead or a red light,
pure pursuit to the middle of the lane. The same seed gives the same instants, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.synthetic.atmosphere import WEATHERS, Atmosphere, random_atmosphere
from replay.synthetic.crowd import random_crowd
from replay.synthetic.frame import EgoPose, Frame, build_frame
from replay.synthetic.idm import controller_acceleration, pursuit_curvature_1pm
from replay.synthetic.labels import Box, LabelCanvas
from replay.synthetic.painter import Painter
from replay.synthetic.projection import CameraView
from replay.synthetic.rigs import CAMERAS, synthetic_rig
from replay.synthetic.road import Road, RoadStyle
from replay.synthetic.scenery import Scenery, build_scenery, random_junction_places
from replay.synthetic.sensor import Sensor
from runtime.rig import Rig

INSTANTS_PER_SCENE = 5
SCENE_LENGTH_M = 620.0
JUNCTION_SPACING_M = 170.0
WEATHER_WEIGHTS = (0.4, 0.2, 0.2, 0.2)
GENERATOR_STREAM = 11
SMALLEST_LEAD_LABEL_M, FARTHEST_LEAD_M = 0.5, 90.0


@dataclass(slots=True)
class LabelledInstant:
    """Eight images of one moment and everything that is true in them."""

    images: NDArray[np.uint8]  # [8, H, W, 3] RGB
    boxes: list[list[Box]]
    lane_mask: NDArray[np.uint8]  # [8, H / 2, W / 2], 255 on visible lane lines
    drivable_mask: NDArray[np.uint8]  # [8, H / 2, W / 2], 255 on visible road of the driving direction
    weather: str
    wiper: bool
    curvature_1pm: float
    accel_mps2: float
    lead_distance_m: float | None
    speed_mps: float
    cameras: tuple[str, ...] = CAMERAS


def labelled_instants(
    seed: int | Sequence[int], count: int, size: tuple[int, int] = (640, 480)
) -> Iterator[LabelledInstant]:
    """`count` instants of `size` (width, height) for one seed, or `count` for each of several seeds."""
    seeds = [int(seed)] if isinstance(seed, int | np.integer) else list(seed)
    rig = synthetic_rig(*size)
    for each in seeds:
        generator = np.random.Generator(np.random.PCG64([GENERATOR_STREAM, each]))
        made = 0
        while made < count:
            scene = _Scene(rig, generator)
            for _ in range(min(INSTANTS_PER_SCENE, count - made)):
                yield scene.instant(generator)
                made += 1


class _Scene:
    """One world: a road with its scenery under one atmosphere."""

    def __init__(self, rig: Rig, generator: np.random.Generator) -> None:
        self._road = Road(SCENE_LENGTH_M, RoadStyle.random(generator), generator)
        weather = str(generator.choice(WEATHERS, p=WEATHER_WEIGHTS))
        self._atmosphere: Atmosphere = random_atmosphere(weather, generator)
        lamps_on = self._atmosphere.lamps_on
        places = random_junction_places(SCENE_LENGTH_M, JUNCTION_SPACING_M, generator)
        self._scenery: Scenery = build_scenery(self._road, generator, lamps_on, places)
        self._scenery.freeze()
        self._painters = [Painter(CameraView(camera), self._atmosphere) for camera in rig.cameras]
        first = rig.cameras[0]
        self._sensor = Sensor(first.width, first.height, self._atmosphere, int(generator.integers(1 << 31)))

    def instant(self, generator: np.random.Generator) -> LabelledInstant:
        """The car at a random place of this world, among random traffic."""
        style = self._road.style
        lane = int(generator.choice(3, p=(0.2, 0.6, 0.2)))
        s_m = float(generator.uniform(60.0, SCENE_LENGTH_M - 180.0))
        speed_mps = float(np.clip(generator.normal(10.0, 4.0), 0.0, 17.0))
        offset_m, turn_rad = _displacement(generator)
        ego = EgoPose.on_road(self._road, s_m, style.lane_centre_d_m(lane) + offset_m, turn_rad)
        crowd = random_crowd(self._scenery, ego, lane, speed_mps, self._atmosphere, generator)
        frame = build_frame(self._scenery, self._atmosphere, ego, crowd.things)
        images, boxes, lanes, drivable = self._paint(frame, generator)
        goal_d_m = style.lane_centre_d_m(lane)
        return LabelledInstant(
            images=images,
            boxes=boxes,
            lane_mask=lanes,
            drivable_mask=drivable,
            weather=self._atmosphere.weather,
            wiper=self._atmosphere.wiper,
            curvature_1pm=pursuit_curvature_1pm(self._road, s_m, ego.d_m, turn_rad, speed_mps, goal_d_m),
            accel_mps2=controller_acceleration(speed_mps, crowd.lead_gap_m, crowd.lead_speed_mps, crowd.stop_gap_m),
            lead_distance_m=crowd.lead_gap_m,
            speed_mps=speed_mps,
        )

    def _paint(
        self, frame: Frame, generator: np.random.Generator
    ) -> tuple[NDArray[np.uint8], list[list[Box]], NDArray[np.uint8], NDArray[np.uint8]]:
        time_s = float(generator.uniform(0, 100))
        view = self._painters[0].view
        images = np.empty((len(self._painters), view.height, view.width, 3), np.uint8)
        boxes, lanes, drivable = [], [], []
        for painter, image in zip(self._painters, images, strict=True):
            canvas = LabelCanvas(painter.view, frame)
            painter.paint(frame, image, canvas)
            self._sensor.expose(image, painter.view, time_s, generator)
            boxes.append(canvas.boxes())
            lanes.append(canvas.lane_mask())
            drivable.append(canvas.drivable_mask())
        return images, boxes, np.stack(lanes), np.stack(drivable)


def _displacement(generator: np.random.Generator) -> tuple[float, float]:
    """Offset from the lane's middle and heading error: mostly small, sometimes as after a drift."""
    if generator.random() < 0.6:
        return float(generator.normal(0.0, 0.25)), float(generator.normal(0.0, 0.015))
    return float(generator.uniform(-1.6, 1.6)), float(generator.uniform(-0.12, 0.12))
