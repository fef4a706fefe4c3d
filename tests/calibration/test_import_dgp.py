"""Importing DGP scenes: the real six-camera rig, and scenes that cannot be imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibration.import_dgp import import_dgp, main
from runtime.formats.documents import DocumentError
from runtime.rig import load_rig


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    image = {"image": {"width": 640, "height": 400}}
    data = [{"id": {"name": name}, "datum": image} for name in ("A", "B")]
    data.append({"id": {"name": "LIDAR"}, "datum": {"point_cloud": {}}})
    (tmp_path / "scene_1.json").write_text(json.dumps({"samples": [{"calibration_key": "k"}], "data": data}))
    write_calibration(tmp_path)
    return tmp_path


def write_calibration(folder: Path, **changes: object) -> None:
    ahead = {"qw": 0.5, "qx": -0.5, "qy": 0.5, "qz": -0.5}
    intrinsics = {"fx": 500.0, "fy": 510.0, "cx": 320.0, "cy": 200.0, "skew": 0.0}
    extrinsics = {"rotation": ahead, "translation": {"x": 1.5, "y": 0.2, "z": 1.6}}
    calibration = {
        "names": ["LIDAR", "A", "B"],
        "intrinsics": [intrinsics, intrinsics, {**intrinsics, **changes}],
        "extrinsics": [extrinsics] * 3,
    }
    (folder / "calibration").mkdir(exist_ok=True)
    (folder / "calibration" / "k.json").write_text(json.dumps(calibration))


def test_the_real_rig_looks_all_around(real_material, tmp_path):
    rig = import_dgp(real_material / "rig_dgp")
    assert [camera.role for camera in rig.cameras] == ["front", "side", "side", "side", "side", "rear"]
    bearings = [round(camera.forward_bearing_deg) for camera in rig.cameras]
    assert bearings[:5] == [4, 52, -53, 124, -125]
    assert abs(bearings[5]) == 179
    assert {(camera.width, camera.height) for camera in rig.cameras} == {(1936, 1216)}
    for camera in rig.cameras:
        point = camera.ground_point(camera.cx, camera.height - 100)
        assert point is not None
        assert camera.project((*point, 0.0))[0] == pytest.approx([camera.cx, camera.height - 100])


def test_the_command_writes_a_rig_file_that_loads(real_material, tmp_path):
    assert main([str(real_material / "rig_dgp"), str(tmp_path / "rig.yaml")]) == 0
    assert len(load_rig(tmp_path / "rig.yaml").cameras) == 6


def test_sensors_without_images_are_left_out(scene):
    rig = import_dgp(scene, rate_hz=30.0)
    assert rig.names == ("A", "B")
    assert rig.cameras[0].fy == 510.0
    assert rig.cameras[0].rate_hz == 30.0
    assert rig.cameras[0].forward_bearing_deg == pytest.approx(0.0)


def test_a_skewed_camera_is_refused_by_name(scene):
    write_calibration(scene, skew=0.5)
    with pytest.raises(DocumentError, match=r"k\.json: sensor B: skew 0\.5"):
        import_dgp(scene)


def test_a_missing_calibration_is_named(scene, capsys):
    (scene / "calibration" / "k.json").unlink()
    assert main([str(scene), str(scene / "rig.yaml")]) == 2
    assert "k.json" in capsys.readouterr().err
    assert not (scene / "rig.yaml").exists()


def test_a_folder_without_a_scene_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="0 files scene_"):
        import_dgp(tmp_path)
