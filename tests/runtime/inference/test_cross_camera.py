"""What one camera's neighbours say about an object, on a synthetic rig with known places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtime.inference.cross_camera import confirm
from runtime.inference.ground import EDGE_SHARE, EgoMotion, GroundPlane
from runtime.inference.tracking import Tracker
from runtime.messages import NANOSECONDS_PER_SECOND, Detections, Prediction, Track
from runtime.rig import NO_DISTORTION, Rig, RigCamera
from runtime.rotations import looking

CLASSES = ("car", "truck", "stop_sign")
PERIOD_NS = NANOSECONDS_PER_SECOND // 20


def _camera(name: str, bearing_deg: float, distortion: tuple = NO_DISTORTION, focal_px: float = 1000.0) -> RigCamera:
    return RigCamera(
        name, "", 1280, 960, focal_px, focal_px, 640.0, 480.0, distortion, looking(bearing_deg, 3.0), (1.5, 0.1, 1.4),
        20.0,
    )  # fmt: skip


MAIN, WIDE, REAR = _camera("main", 0.0), _camera("wide", 5.0, focal_px=700.0), _camera("rear", 180.0)
RIG = Rig("three", (MAIN, WIDE, REAR))


def _box_at(camera: RigCamera, place: tuple[float, float]) -> tuple[float, ...]:
    """The box of a car, 1.8 m wide and 1.5 m high, that stands there."""
    x, y = place
    (left, right), _ = camera.project([[x, y + 0.9, 0.0], [x, y - 0.9, 0.0]])
    top, _ = camera.project([x, y, 1.5])
    (left_px, right_px) = sorted((left[0], right[0]))
    return (left_px, top[1], right_px, camera.project([x, y, 0.0])[0][1])


def _drive(
    seen_by: dict[str, str], place_at: object = lambda time_s: (18.0, 1.0), ego: EgoMotion | None = None,
    present: dict[str, bool] | None = None, rig: Rig = RIG, truth: Rig = RIG, ticks: int = 30,
) -> dict[str, Track]:  # fmt: skip
    """Tracks by camera after some ticks; `seen_by` gives the class that each camera calls the car."""
    tracker = Tracker(RIG.names, rig)
    tracks: list[Track] = []
    rows = [RIG.names.index(name) for name in seen_by]
    there = np.array([(present or {}).get(name, True) for name in RIG.names])
    for tick in range(1, ticks + 1):
        place = place_at(tick / 20)  # type: ignore[operator]
        boxes = np.array([_box_at(truth.cameras[row], place) for row in rows], np.float32).reshape(-1, 4)
        found = Detections(
            np.array(rows, np.int32),
            np.array([CLASSES.index(name) for name in seen_by.values()], np.int32),
            np.full(len(rows), 0.9, np.float32),
            boxes,
            [None] * len(rows),
        )
        prediction = Prediction(tick * PERIOD_NS, found, CLASSES)
        tracks = tracker.update(prediction, there, tick * PERIOD_NS, ego or EgoMotion(10.0, 0.0))
    return {track.camera: track for track in tracks}


def _said(track: Track) -> tuple[int | None, int | None, float | None]:
    return track.overlapping_cameras, track.confirming_cameras, track.confirming_gap_deg


def test_object_in_two_images_is_confirmed_by_the_camera_that_follows_it_too() -> None:
    tracks = _drive({"main": "car", "wide": "car"})
    assert _said(tracks["main"])[:2] == (1, 1)
    assert tracks["main"].confirming_gap_deg == pytest.approx(0.0, abs=0.05)
    assert tracks["wide"].confirming_gap_deg == pytest.approx(0.0, abs=0.05)


def test_camera_that_overlaps_but_sees_nothing_there_does_not_confirm() -> None:
    assert _said(_drive({"main": "car"})["main"]) == (1, 0, None)


def test_class_within_its_group_confirms_and_another_group_does_not() -> None:
    assert _said(_drive({"main": "car", "wide": "truck"})["main"])[:2] == (1, 1)
    assert _said(_drive({"main": "car", "wide": "stop_sign"})["main"]) == (1, 0, None)


def test_camera_without_images_of_late_is_not_counted_on() -> None:
    assert _said(_drive({"main": "car"}, present={"wide": False})["main"]) == (0, 0, None)


def test_camera_that_turned_is_told_by_the_gap() -> None:
    turned = replace(WIDE, rotation=looking(7.0, 3.0))  # truly looks 2 degrees further left than the rig says
    tracks = _drive({"main": "car", "wide": "car"}, truth=Rig("true", (MAIN, turned, REAR)))
    assert tracks["wide"].confirming_gap_deg == pytest.approx(-2.0, abs=0.2)
    assert tracks["main"].confirming_gap_deg == pytest.approx(2.0, abs=0.2)


def test_without_calibration_nothing_is_said() -> None:
    track = _drive({"main": "car", "wide": "car"}, rig=Rig("none", ()))["main"]
    assert _said(track) == (None, None, None)
    assert (track.closing_speed_mps, track.lateral_speed_mps) == (None, None)


def test_closing_speed_needs_only_the_distance() -> None:
    tracks = _drive({"main": "car"}, lambda time_s: (40.0 - 6.0 * time_s, 0.0), EgoMotion(), ticks=50)
    assert tracks["main"].closing_speed_mps == pytest.approx(6.0, abs=0.5)
    assert tracks["main"].speed_mps is None
    away = _drive({"main": "car"}, lambda time_s: (20.0 + 4.0 * time_s, 0.0), EgoMotion(), ticks=50)
    assert away["main"].closing_speed_mps == pytest.approx(-4.0, abs=0.5)


def test_lateral_speed_is_over_ground_and_needs_the_yaw_rate() -> None:
    def crossing(time_s: float) -> tuple[float, float]:
        return 25.0, -3.0 + 2.0 * time_s

    straight = _drive({"main": "car"}, crossing, EgoMotion(10.0, 0.0), ticks=50)["main"]
    assert straight.lateral_speed_mps == pytest.approx(2.0, abs=0.3)
    assert _drive({"main": "car"}, crossing, EgoMotion(10.0, None), ticks=50)["main"].lateral_speed_mps is None
    standing = _drive({"main": "car"}, crossing, EgoMotion(0.0, None), ticks=50)["main"]
    assert standing.lateral_speed_mps == pytest.approx(2.0, abs=0.3)


def test_lateral_speed_of_a_parked_car_is_none_in_a_curve() -> None:
    speed_mps, curvature_1pm = 10.0, 0.02

    def place(time_s: float) -> tuple[float, float]:
        turn = speed_mps * curvature_1pm * time_s
        dx, dy = 35.0 - np.sin(turn) / curvature_1pm, 4.0 - (1 - np.cos(turn)) / curvature_1pm
        return dx * np.cos(turn) + dy * np.sin(turn), -dx * np.sin(turn) + dy * np.cos(turn)

    track = _drive({"main": "car"}, place, EgoMotion(speed_mps, curvature_1pm))["main"]
    assert track.lateral_speed_mps == pytest.approx(0.0, abs=1.0)


def test_images_hold_the_places_that_the_rig_projects_into_them() -> None:
    bent = _camera("bent", 60.0, (-0.25, 0.06, 0.001, -0.002, 0.0))
    plane = GroundPlane(("main", "bent", "stranger"), Rig("two", (MAIN, bent)))
    places = np.random.default_rng(2).uniform(-40.0, 40.0, (400, 2))
    held = plane.images_hold(places)
    assert not held[:, 2].any()
    for column, camera in enumerate((MAIN, bent)):
        pixel, depth_m = camera.project(np.concatenate((places, np.zeros((400, 1))), axis=1))
        x, y = pixel.T / np.array([[1280.0], [960.0]])
        inside = (x >= EDGE_SHARE) & (x <= 1.0 - EDGE_SHARE) & (y >= 0.0) & (y < 1.0) & (depth_m > 0.1)
        assert inside.any()
        # Behind the lens' last corner the distortion polynomial folds back: the rig's plain projection believes it.
        folded = inside & ~held[:, column]
        assert not (held[:, column] & ~inside).any()
        radius = np.hypot(*(camera.to_camera(np.concatenate((places, np.zeros((400, 1))), axis=1)).T[:2] / depth_m))
        assert (radius[folded] > 1.0).all() if camera is bent else not folded.any()


def test_place_too_far_to_be_made_out_is_not_held() -> None:
    plane = GroundPlane(("main",), RIG)
    # 1 m at 1000 px focal length is 2 % of 960 pixels at 52 m.
    assert plane.images_hold(np.array([[1.5 + 50.0, 0.0], [1.5 + 55.0, 0.0]])).tolist() == [[True], [False]]


def test_near_grows_with_distance() -> None:
    plane = GroundPlane(RIG.names, RIG)
    camera, group, whole = np.array([0, 1]), np.zeros(2, np.int32), np.ones(2, np.bool_)
    looking_all = np.ones(3, np.bool_)
    for apart_m, distance_m, expected in ((1.9, 10.0, 1), (2.5, 10.0, 0), (5.0, 35.0, 1), (8.0, 35.0, 0)):
        place = np.array([[distance_m, 0.0], [distance_m, apart_m]])
        assert confirm(plane, camera, group, place, whole, looking_all).confirming[0] == expected


def test_gap_is_told_only_between_each_others_nearest() -> None:
    plane, whole, looking_all = GroundPlane(RIG.names, RIG), np.ones(3, np.bool_), np.ones(3, np.bool_)
    camera, group = np.array([0, 0, 1]), np.zeros(3, np.int32)  # two side by side in one camera, one in the other
    place = np.array([[20.0, 0.0], [20.0, 2.5], [20.0, 2.4]])
    found = confirm(plane, camera, group, place, whole, looking_all)
    assert found.confirming.tolist() == [1, 1, 1]
    assert np.isnan(found.gap_deg[0])
    assert found.gap_deg[1] == -found.gap_deg[2] == pytest.approx(0.1 / 20.0 * 57.3, abs=0.02)


def test_gap_of_a_box_that_the_side_cuts_off_is_unknown() -> None:
    plane, looking_all = GroundPlane(RIG.names, RIG), np.ones(3, np.bool_)
    place, group = np.array([[20.0, 0.0], [20.0, 0.2]]), np.zeros(2, np.int32)
    found = confirm(plane, np.array([0, 1]), group, place, np.array([True, False]), looking_all)
    assert found.confirming.tolist() == [1, 1]
    assert np.isnan(found.gap_deg).all()
    sides = np.array([[1.0, 0.0, 50.0, 50.0], [600.0, 0.0, 700.0, 50.0], [1200.0, 0.0, 1279.0, 50.0]])
    assert plane.is_whole(np.zeros(3, np.intp), sides, None).tolist() == [False, True, False]
