"""The rig file: projection and its inverse, frames of reference, and errors that name everything at once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calibration
from runtime.formats.documents import DocumentError
from runtime.rig import NO_DISTORTION, Rig, RigCamera, load_rig, save_rig
from runtime.rotations import looking, quaternion_to_matrix

DEMO_RIG = Path(calibration.__file__).parent / "rigs" / "demo_eight.yaml"


def camera(bearing_deg: float = 0.0, down_deg: float = 0.0) -> RigCamera:
    rotation = looking(bearing_deg, down_deg)
    return RigCamera(
        "eye", "front", 1280, 960, 1000.0, 1000.0, 640.0, 480.0, NO_DISTORTION, rotation, (2.0, 0.5, 1.4), 20.0
    )


def test_a_point_straight_ahead_falls_on_the_principal_point():
    pixels, depth_m = camera().project((12.0, 0.5, 1.4))
    assert pixels == pytest.approx([640.0, 480.0])
    assert depth_m == pytest.approx(10.0)


def test_left_is_left_of_the_image_and_up_is_up():
    (left, _), (_, up) = camera().project([(12.0, 1.5, 1.4), (12.0, 0.5, 2.4)])[0]
    assert left == pytest.approx(540.0)
    assert up == pytest.approx(380.0)


def test_a_camera_that_looks_left_sees_what_is_on_the_left():
    pixels, depth_m = camera(bearing_deg=90.0).project((2.0, 10.5, 1.4))
    assert pixels == pytest.approx([640.0, 480.0])
    assert depth_m == pytest.approx(10.0)
    assert camera(bearing_deg=90.0).forward_bearing_deg == pytest.approx(90.0)


def test_a_point_behind_the_camera_has_no_pixel():
    pixels, depth_m = camera().project((-5.0, 0.0, 1.0))
    assert np.isnan(pixels).all()
    assert depth_m < 0


def test_the_ground_is_not_met_above_the_horizon():
    assert camera().ground_point(640.0, 479.0) is None
    assert camera().ground_point(640.0, 481.0) is not None


@given(st.floats(-170, 170), st.floats(0, 20), st.floats(100, 1180), st.floats(560, 959))
def test_a_ground_point_projects_back_to_its_pixel(bearing_deg, down_deg, x_px, y_px):
    eye = camera(bearing_deg, down_deg)
    point = eye.ground_point(x_px, y_px)
    assert point is not None
    assert eye.project((*point, 0.0))[0] == pytest.approx([x_px, y_px], abs=1e-6)


def test_distortion_is_undone_by_the_ray():
    eye = replace(camera(down_deg=5.0), distortion=(-0.30, 0.09, 0.001, -0.0008, -0.01))
    x_px, y_px = 980.0, 800.0
    point = eye.ground_point(x_px, y_px)
    assert point is not None
    assert eye.project((*point, 0.0))[0] == pytest.approx([x_px, y_px], abs=1e-3)
    straight = replace(eye, distortion=NO_DISTORTION).ground_point(x_px, y_px)
    assert straight is not None
    assert math.dist(point, straight) > 0.05


def test_stretching_the_image_stretches_pixels_and_leaves_directions():
    eye, small = camera(20.0, 3.0), camera(20.0, 3.0).scaled(320, 192)
    full, depth_m = eye.project((15.0, 6.0, 0.3))
    stretched, small_depth_m = small.project((15.0, 6.0, 0.3))
    assert stretched == pytest.approx(full * [320 / 1280, 192 / 960])
    assert small_depth_m == pytest.approx(depth_m)


def test_rotation_matrices_are_rotations():
    matrix = quaternion_to_matrix(looking(125.0, 7.0))
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_saving_and_loading_gives_the_same_rig(tmp_path):
    rig = Rig("two", (camera(10.0, 2.0), replace(camera(180.0), name="back", distortion=(0.1, 0, 0, 0, 0.2))))
    save_rig(rig, tmp_path / "rig.yaml", "A comment.")
    loaded = load_rig(tmp_path / "rig.yaml")
    assert loaded.names == ("eye", "back")
    for before, after in zip(rig.cameras, loaded.cameras, strict=True):
        assert after.rotation == pytest.approx(before.rotation)
        assert replace(after, rotation=before.rotation) == before


def test_the_demo_rig_has_eight_cameras_that_look_all_around():
    rig = load_rig(DEMO_RIG)
    bearings = sorted(round(eye.forward_bearing_deg) % 360 for eye in rig.cameras)
    assert bearings == [0, 0, 0, 55, 125, 180, 235, 305]
    assert all(eye.ground_point(eye.cx, eye.height - 1) is not None for eye in rig.cameras)


def test_all_mistakes_of_a_file_are_told_at_once_with_their_lines(tmp_path):
    path = tmp_path / "rig.yaml"
    save_rig(Rig("bad", (camera(), camera())), path)
    text = (
        path.read_text()
        .replace("fx: 1000.0", "fx: -3", 1)
        .replace("role:", "roll:", 1)
        .replace("width: 1280", "width: 0")
    )
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_rig(path)
    told = "\n".join(str(problem) for problem in caught.value.problems)
    assert "rig.yaml:4:" in told
    assert "role" in told
    assert len([problem for problem in caught.value.problems if problem.line]) >= 4


def test_two_cameras_of_one_name_are_refused(tmp_path):
    save_rig(Rig("twins", (camera(), camera())), tmp_path / "rig.yaml")
    with pytest.raises(DocumentError, match="name of an earlier camera"):
        load_rig(tmp_path / "rig.yaml")


def test_a_quaternion_that_is_no_rotation_is_refused(tmp_path):
    save_rig(Rig("bent", (replace(camera(), rotation=(1.0, 1.0, 0.0, 0.0)),)), tmp_path / "rig.yaml")
    with pytest.raises(DocumentError, match="not a rotation"):
        load_rig(tmp_path / "rig.yaml")


def test_an_unknown_camera_is_answered_with_those_there_are():
    with pytest.raises(KeyError, match="front_main"):
        load_rig(DEMO_RIG).camera("roof")
