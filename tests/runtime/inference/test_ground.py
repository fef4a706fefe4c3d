from __future__ import annotations

import numpy as np
import pytest

from runtime.formats.image_spec import ImageSpec
from runtime.inference.ground import GroundPlane, lane_of
from runtime.rig import NO_DISTORTION, Rig, RigCamera
from runtime.rotations import looking


def _camera(name: str, bearing_deg: float = 0.0, distortion: tuple = NO_DISTORTION) -> RigCamera:
    return RigCamera(
        name, "", 1280, 960, 1000.0, 1000.0, 640.0, 480.0, distortion, looking(bearing_deg, 4.0), (1.5, 0.2, 1.4), 20.0
    )


RIG = Rig("test", (_camera("front"), _camera("left", 80.0, (-0.2, 0.05, 0.001, -0.002, 0.01)), _camera("rear", 180.0)))
PLANE = GroundPlane(RIG.names, RIG)


def _box_standing_at(camera: str, place: tuple[float, float]) -> np.ndarray:
    """A box whose lower edge is where the rig sees that place on the ground."""
    (x, y), depth_m = RIG.camera(camera).project([*place, 0.0])
    assert depth_m > 0
    return np.array([[x - 30.0, y - 50.0, x + 30.0, y]])


@pytest.mark.parametrize(
    ("camera", "place"),
    [("front", (20.0, 0.0)), ("front", (35.0, -3.5)), ("left", (3.0, 9.0)), ("rear", (-15.0, 1.0))],
)
def test_a_box_stands_where_the_rig_sees_its_lower_edge(camera: str, place: tuple[float, float]) -> None:
    index = np.array([RIG.names.index(camera)])
    found, error_m = PLANE.standing_places(index, _box_standing_at(camera, place), None)
    np.testing.assert_allclose(found[0], place, atol=1e-3)
    assert 0.0 < error_m[0] < 2.0


def test_many_pixels_at_once_are_those_of_the_rig_one_by_one() -> None:
    generator = np.random.default_rng(3)
    camera = generator.integers(0, 3, 50)
    pixel = generator.uniform((0, 0), (1280, 960), (50, 2))
    found = PLANE.ground_points(camera, pixel)
    for index, (x_px, y_px), place in zip(camera, pixel, found, strict=True):
        expected = RIG.cameras[index].ground_point(x_px, y_px)
        if expected is None:
            assert np.isnan(place).all()
        else:
            np.testing.assert_allclose(place, expected, rtol=1e-9)


def test_a_source_of_another_size_than_the_rig_is_scaled() -> None:
    box = _box_standing_at("front", (20.0, 2.0)) * (640 / 1280, 480 / 960, 640 / 1280, 480 / 960)
    geometry = ImageSpec(320, 192).geometry(640, 480)
    found, _ = PLANE.standing_places(np.array([0]), box, [geometry, None, None])
    np.testing.assert_allclose(found[0], (20.0, 2.0), atol=1e-3)


def test_what_cannot_be_trusted_is_unknown() -> None:
    above_horizon = [600.0, 200.0, 680.0, 300.0]
    cut_off = [600.0, 700.0, 680.0, 959.5]
    beyond_range = _box_standing_at("front", (155.0, 0.0))[0]
    boxes = np.array([above_horizon, cut_off, beyond_range])
    found, error_m = PLANE.standing_places(np.zeros(3, np.intp), boxes, None)
    assert np.isnan(found).all()
    assert np.isnan(error_m).all()
    low_camera = GroundPlane(["low"], Rig("low", (_low_camera(),)))
    # 3.5 pixels below the horizon it would be 114 m, and one pixel lower 89 m: more than a fifth less.
    assert np.isnan(low_camera.standing_places(np.array([0]), np.array([[600.0, 400.0, 680.0, 483.5]]), None)[0]).all()
    nearer, _ = low_camera.standing_places(np.array([0]), np.array([[600.0, 400.0, 680.0, 500.0]]), None)
    np.testing.assert_allclose(nearer, [[20.0, 0.0]], atol=1e-6)


def _low_camera() -> RigCamera:
    return RigCamera("low", "", 1280, 960, 1000.0, 1000.0, 640.0, 480.0, NO_DISTORTION, looking(0.0), (0, 0, 0.4), 20.0)


def test_a_camera_without_calibration_has_no_places() -> None:
    plane = GroundPlane(["front", "unknown"], RIG)
    assert plane.is_calibrated.tolist() == [True, False]
    boxes = np.repeat(_box_standing_at("front", (20.0, 0.0)), 2, axis=0)
    found, _ = plane.standing_places(np.array([0, 1]), boxes, None)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize(
    ("place", "curvature_1pm", "lane"),
    [
        ((30.0, 0.0), None, "ego"),
        ((30.0, 1.74), None, "ego"),
        ((30.0, 3.5), None, "left"),
        ((30.0, -3.5), None, "right"),
        ((30.0, -5.3), None, "other"),
        ((40.0, 4.0), 0.005, "ego"),  # the road bends left: 0.005 * 40² / 2 = 4 m
        ((40.0, 0.0), 0.005, "right"),
    ],
)
def test_lanes_are_offsets_from_the_path(place: tuple[float, float], curvature_1pm: float | None, lane: str) -> None:
    assert lane_of(place, curvature_1pm) == lane
