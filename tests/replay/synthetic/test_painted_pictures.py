"""What is painted agrees with geometry: labels against projection, occlusion, light, and determinism."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from replay.synthetic import catalogue, vehicle_meshes
from replay.synthetic.atmosphere import WEATHERS, random_atmosphere
from replay.synthetic.frame import EgoPose, Frame, build_frame
from replay.synthetic.instants import labelled_instants
from replay.synthetic.labels import Box, LabelCanvas
from replay.synthetic.materials import Material
from replay.synthetic.painter import Painter
from replay.synthetic.projection import NEAR_M, CameraView
from replay.synthetic.rigs import CAMERAS, synthetic_rig
from replay.synthetic.road import Road, RoadStyle
from replay.synthetic.scenery import Scenery, build_scenery, put_on_road
from replay.synthetic.sensor import Sensor
from replay.synthetic.things import Thing

SIZE = (320, 240)
RIG = synthetic_rig(*SIZE)
EGO_S_M = -60.0  # on the straight before the first bend


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture(scope="module")
def scenery() -> Scenery:
    road = Road(300.0, RoadStyle(), generator())
    built = build_scenery(road, generator(), lamps_on=False, junction_places_m=[])
    built.freeze()
    return built


def frame_with(scenery: Scenery, things: list[Thing], weather: str = "clear") -> Frame:
    atmosphere = random_atmosphere(weather, generator(5))
    return build_frame(scenery, atmosphere, EgoPose.on_road(scenery.road, EGO_S_M, 0.0, 0.0), things)


def car(scenery: Scenery, ahead_m: float, d_m: float, track_id: int, kind: str = "sedan", **more: object) -> Thing:
    thing = Thing(vehicle_meshes.vehicle(kind), 0, 0, 0, "vehicle", track_id, **more)  # type: ignore[arg-type]
    put_on_road(scenery.road, thing, EGO_S_M + ahead_m, d_m, 0.0)
    return thing


def paint(frame: Frame, camera: str) -> tuple[np.ndarray, list[Box]]:
    view = CameraView(RIG.camera(camera))
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    canvas = LabelCanvas(view, frame)
    Painter(view, frame.atmosphere).paint(frame, image, canvas)
    return image, canvas.boxes()


def test_a_label_box_is_the_projection_of_the_car(scenery):
    lead = car(scenery, 25.0, 0.0, 7)
    frame = frame_with(scenery, [lead])
    (box,) = [box for box in paint(frame, "front_main")[1] if box.track_id == 7]
    corners = frame.ego.to_vehicle(lead.posed().label_points)
    pixels, _ = RIG.camera("front_main").project(corners)
    assert box.box == pytest.approx((*pixels.min(axis=0), *pixels.max(axis=0)))
    assert box.visible_fraction == 1.0


def test_the_car_is_painted_inside_its_box_and_nowhere_else(scenery):
    paint_of = {Material.PAINT: (255.0, 0.0, 255.0)}
    with_car, boxes = paint(frame_with(scenery, [car(scenery, 20.0, 0.0, 7, paint=paint_of)]), "front_main")
    without, _ = paint(frame_with(scenery, []), "front_main")
    rows, columns = np.nonzero((with_car != without).any(axis=2))
    x0, y0, x1, y1 = boxes[-1].box
    assert len(rows) > 200
    spread = 0.1 * (x1 - x0)  # the shadow is a little larger than the car
    assert x0 - spread <= columns.min() <= x0 + 3
    assert x1 - 3 <= columns.max() <= x1 + spread
    assert y0 - 1 <= rows.min() <= y0 + 3
    assert y1 - 3 <= rows.max() <= y1 + spread


def test_a_car_behind_a_lorry_is_mostly_hidden(scenery):
    lorry, hidden = car(scenery, 20.0, 0.0, 1, "truck"), car(scenery, 35.0, 0.0, 2)
    _, boxes = paint(frame_with(scenery, [lorry, hidden]), "front_main")
    fractions = {box.track_id: box.visible_fraction for box in boxes}
    assert fractions[1] == 1.0
    assert fractions.get(2, 0.0) < 0.1


def test_left_and_right_cameras_see_their_own_side(scenery):
    left, right = car(scenery, 5.0, 6.0, 1), car(scenery, 5.0, -6.0, 2)
    frame = frame_with(scenery, [left, right])
    seen = {camera: {box.track_id for box in paint(frame, camera)[1]} for camera in CAMERAS}
    assert seen["front_left"] == {1}
    assert seen["front_right"] == {2}
    assert seen["rear"] == set()


def test_a_car_that_reaches_behind_the_camera_is_cut_at_the_image_border(scenery):
    beside = car(scenery, 2.5, 2.6, 1, "van")
    boxes = paint(frame_with(scenery, [beside]), "front_left")[1]
    assert len(boxes) == 1
    x0, y0, x1, y1 = boxes[0].box
    assert 0 <= x0 < x1 <= SIZE[0]
    assert 0 <= y0 < y1 <= SIZE[1]


def test_signs_and_signals_from_behind_have_no_label(scenery):
    sign = Thing(catalogue.stop_sign(), 0, 0, 0, "stop_sign", 1, must_face=True)
    put_on_road(scenery.road, sign, EGO_S_M + 20.0, -3.0, math.pi)
    assert [box.class_name for box in paint(frame_with(scenery, [sign]), "front_main")[1]] == ["stop_sign"]
    away = Thing(catalogue.stop_sign(), 0, 0, 0, "stop_sign", 1, must_face=True)
    put_on_road(scenery.road, away, EGO_S_M + 20.0, -3.0, 0.0)
    assert paint(frame_with(scenery, [away]), "front_main")[1] == []


def test_brake_lamps_turn_pixels_red(scenery):
    braking = car(scenery, 12.0, 0.0, 1, lit=frozenset({Material.BRAKE_LAMP}))
    bright, _ = paint(frame_with(scenery, [braking]), "front_main")
    dark, _ = paint(frame_with(scenery, [car(scenery, 12.0, 0.0, 1)]), "front_main")
    count = [int(np.count_nonzero((image[..., 0] > 240) & (image[..., 1] < 60))) for image in (bright, dark)]
    assert count[0] > 30
    assert count[1] == 0


def test_night_is_darker_than_day(scenery):
    brightness = {weather: paint(frame_with(scenery, [], weather), "rear")[0].mean() for weather in WEATHERS}
    assert brightness["night"] < 0.5 * brightness["clear"]
    assert brightness["dusk"] < brightness["clear"]


def test_polygons_are_cut_at_the_near_plane():
    view = CameraView(RIG.camera("front_main"))
    square = np.array([[[-1.0, 1.0, -5.0], [1.0, 1.0, -5.0], [1.0, 1.0, 5.0], [-1.0, 1.0, 5.0]]])
    (outline,) = view.clipped_polygons(square)
    assert len(outline) == 4
    lowest_px = outline[:, 1].max() / 16
    assert lowest_px == pytest.approx(view.fy / NEAR_M + view.cy, rel=1e-3)
    assert len(view.clipped_polygons(square - [0.0, 0.0, 10.0])[0]) == 0


def test_a_rolled_camera_is_refused():
    c, s = math.cos(math.radians(5)), math.sin(math.radians(5))
    ahead_then_rolled = (0.5 * c + 0.5 * s, -0.5 * c + 0.5 * s, 0.5 * c + 0.5 * s, 0.5 * s - 0.5 * c)
    rolled = replace(RIG.cameras[0], rotation=ahead_then_rolled)
    with pytest.raises(ValueError, match="rolled"):
        CameraView(rolled)


def test_instants_follow_from_their_seed_alone():
    first, again, other = (next(labelled_instants(seed, 1, (160, 120))) for seed in (11, 11, 12))
    assert np.array_equal(first.images, again.images)
    assert first.boxes == again.boxes
    assert not np.array_equal(first.images, other.images)


def test_instants_are_varied_and_complete():
    instants = list(labelled_instants([1, 2, 3, 4], 6, (160, 120)))
    classes = {box.class_name for instant in instants for boxes in instant.boxes for box in boxes}
    assert classes == {"vehicle", "pedestrian", "cyclist", "stop_sign", "traffic_light"}
    assert len({instant.weather for instant in instants}) >= 3
    assert {instant.lead_distance_m is None for instant in instants} == {True, False}
    assert min(instant.accel_mps2 for instant in instants) < -1.0 < 0.3 < max(i.accel_mps2 for i in instants)
    for instant in instants:
        assert instant.images.shape == (8, 120, 160, 3)
        assert instant.lane_mask.shape == instant.drivable_mask.shape == (8, 60, 80)
        assert (instant.drivable_mask[0] > 0).mean() > 0.05
        for boxes in instant.boxes:
            for box in boxes:
                assert (box.state is not None) == (box.class_name == "traffic_light")
                assert 0 < box.visible_fraction <= 1


def test_no_two_images_of_a_standing_camera_are_the_same(scenery):
    frame = frame_with(scenery, [])
    sensor = Sensor(*SIZE, frame.atmosphere, 1)
    images = []
    for number in (1, 2):
        image, _ = paint(frame, "rear")
        sensor.expose(image, CameraView(RIG.camera("rear")), 0.0, generator(number))
        images.append(image)
    assert np.count_nonzero(images[0] != images[1]) > 0.2 * images[0].size
