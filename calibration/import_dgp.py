"""Imports the cameras of a DGP scene (TRI-ML's Dataset Governance Policy, as in DDAD) as a rig file.

    python -m calibration.import_dgp SCENE_FOLDER rig.yaml

A scene folder holds `scene_<hash>.json` (samples, image sizes) and `calibration/<key>.json`: parallel lists `names`,
`intrinsics` (fx fy cx cy skew, pixels) and `extrinsics` (quaternion qw qx qy qz and translation, sensor -> vehicle).
DGP's vehicle frame is ours: x forward, y left, z up, on the ground; its camera frame is OpenCV's, and so is ours.
Sensors without an image (the lidar) are left out; DGP images are rectified, so there is no distortion.

A scene that cannot be imported raises `DocumentError` with everything that is wrong in it. The scene's time stamps
are not read for the frame rate, because public scenes have them in units that contradict their file names: the rate
is an argument.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.formats.documents import DocumentError, Problem
from runtime.rig import NO_DISTORTION, Rig, RigCamera, save_rig

DDAD_RATE_HZ = 10.0
FRONT_WITHIN_DEG, REAR_BEYOND_DEG = 30.0, 150.0
QUATERNION_TOLERANCE = 1e-3


def import_dgp(folder: Path | str, rate_hz: float = DDAD_RATE_HZ, name: str | None = None) -> Rig:
    """The rig of a scene, cameras in the order of its calibration file.

    Raises:
        DocumentError: with every problem of the scene.
    """
    folder = Path(folder)
    scene_path = _only_scene(folder)
    scene = _load_json(scene_path)
    calibration_path = folder / "calibration" / f"{_calibration_key(scene, scene_path)}.json"
    calibration = _load_json(calibration_path)
    sizes = _image_sizes(scene)
    problems: list[Problem] = []
    cameras = []
    for row, sensor in enumerate(_names(calibration, calibration_path)):
        if sensor not in sizes:
            continue
        try:
            cameras.append(_camera(sensor, sizes[sensor], calibration, row, rate_hz))
        except (KeyError, TypeError, ValueError) as error:
            problems.append(_problem(calibration_path, f"sensor {sensor}: {_words(error)}", "correct the calibration"))
    if not cameras and not problems:
        message = "no calibrated sensor of the scene has images"
        problems.append(_problem(scene_path, message, "name a scene with cameras"))
    if problems:
        raise DocumentError(problems)
    return Rig(name or folder.name, tuple(cameras))


def _only_scene(folder: Path) -> Path:
    scenes = sorted(folder.glob("scene_*.json"))
    if len(scenes) != 1:
        message = f"holds {len(scenes)} files scene_*.json"
        raise DocumentError([_problem(folder, message, "name a folder with one scene")])
    return scenes[0]


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DocumentError([_problem(path, f"cannot be read: {error}", "give a complete DGP scene")]) from error


def _calibration_key(scene: Any, path: Path) -> str:
    """The calibration of the scene's samples; scenes that change it on the way are refused."""
    try:
        keys = {str(sample["calibration_key"]) for sample in scene["samples"]}
    except (KeyError, TypeError) as error:
        raise DocumentError([_problem(path, f"is not a DGP scene: {_words(error)}", "name a DGP scene")]) from error
    if len(keys) != 1:
        raise DocumentError([_problem(path, f"has {len(keys)} calibrations", "import a scene with one")])
    return keys.pop()


def _image_sizes(scene: Any) -> dict[str, tuple[int, int]]:
    """Width and height by sensor, of the sensors that have images."""
    sizes = {}
    for datum in scene.get("data", ()):
        image = datum.get("datum", {}).get("image")
        if image is not None:
            sizes[str(datum["id"]["name"])] = (int(image["width"]), int(image["height"]))
    return sizes


def _names(calibration: Any, path: Path) -> list[str]:
    columns = ("names", "intrinsics", "extrinsics")
    lists = [calibration.get(key) if isinstance(calibration, dict) else None for key in columns]
    if not all(isinstance(entry, list) and len(entry) == len(lists[0] or ()) for entry in lists):
        message = "names, intrinsics and extrinsics are not lists of one length"
        raise DocumentError([_problem(path, message, "give a complete DGP calibration")])
    return [str(name) for name in calibration["names"]]


def _camera(name: str, size: tuple[int, int], calibration: Any, row: int, rate_hz: float) -> RigCamera:
    intrinsics, extrinsics = calibration["intrinsics"][row], calibration["extrinsics"][row]
    if abs(float(intrinsics.get("skew", 0.0))) > 1e-9:
        raise ValueError(f"skew {intrinsics['skew']} is not supported (fix: rectify the images)")
    place = extrinsics["translation"]
    fx, fy = float(intrinsics["fx"]), float(intrinsics["fy"])
    if fx <= 0 or fy <= 0:
        raise ValueError(f"focal lengths {fx}, {fy} are not positive")
    camera = RigCamera(
        name=name,
        role="",
        width=size[0],
        height=size[1],
        fx=fx,
        fy=fy,
        cx=float(intrinsics["cx"]),
        cy=float(intrinsics["cy"]),
        distortion=NO_DISTORTION,
        rotation=_unit_quaternion(extrinsics["rotation"]),
        translation_m=(float(place["x"]), float(place["y"]), float(place["z"])),
        rate_hz=rate_hz,
    )
    return _with_role(camera)


def _unit_quaternion(rotation: dict[str, Any]) -> tuple[float, float, float, float]:
    w, x, y, z = (float(rotation[key]) for key in ("qw", "qx", "qy", "qz"))
    length = math.sqrt(w * w + x * x + y * y + z * z)
    if abs(length - 1.0) > QUATERNION_TOLERANCE:
        raise ValueError(f"rotation has length {length:.4f}, not 1")
    return w / length, x / length, y / length, z / length


def _with_role(camera: RigCamera) -> RigCamera:
    bearing = abs(camera.forward_bearing_deg)
    role = "front" if bearing < FRONT_WITHIN_DEG else ("rear" if bearing > REAR_BEYOND_DEG else "side")
    return replace(camera, role=role)


def _words(error: Exception) -> str:
    return f"key {error} is missing" if isinstance(error, KeyError) else str(error)


def _problem(path: Path, message: str, fix: str) -> Problem:
    return Problem(str(path), 0, 0, message, None, fix)


def main(arguments: Sequence[str] | None = None) -> int:
    """Import a scene; exit code 2 with all problems when it cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m calibration.import_dgp", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("scene", type=Path, help="folder with scene_<hash>.json and calibration/")
    parser.add_argument("rig", type=Path, help="rig file to write")
    parser.add_argument("--rate-hz", type=float, default=DDAD_RATE_HZ)
    options = parser.parse_args(arguments)
    try:
        rig = import_dgp(options.scene, options.rate_hz)
    except DocumentError as error:
        print(error, file=sys.stderr)
        return 2
    save_rig(rig, options.rig, f"Imported from the DGP scene {options.scene.name}. Format: see runtime/rig.py.")
    print(f"{options.rig}: {len(rig.cameras)} cameras")
    return 0


if __name__ == "__main__":
    sys.exit(main())
