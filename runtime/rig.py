"""The rig: which cameras a vehicle has, what they see and where they look. One YAML file, shared by every part.

Format (`load_rig`, `save_rig`); lengths in metres, image quantities in pixels of the camera's source image:

    name: demo_eight
    cameras:
      - name: front_main
        role: front                # free text for people and rules
        width: 1280
        height: 960
        fx: 1108.5                 # pinhole model: u = fx * x / z + cx, v = fy * y / z + cy
        fy: 1108.5
        cx: 640.0
        cy: 480.0
        distortion: [0, 0, 0, 0, 0]           # k1 k2 p1 p2 k3, Brown-Conrady as in OpenCV; may be left out
        rotation: [0.5, -0.5, 0.5, -0.5]      # quaternion w x y z, camera -> vehicle
        translation_m: [1.9, 0.0, 1.4]        # the camera's place in the vehicle frame
        rate_hz: 20.0

Frames. Vehicle: x forward, y left, z up, origin on the ground below the middle of the rear axle. Camera (OpenCV):
x right, y down, z forward. A point goes `p_vehicle = R(rotation) p_camera + translation`.

Invariants: names are unique, sizes and focal lengths positive, the quaternion has length one (normalised on
loading when it is off by less than a thousandth, an error otherwise). A bad file raises `DocumentError` with every
mistake at its line; nothing is guessed. The ground is the plane z = 0: `ground_point` is None above the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, field_validator

from runtime.formats.documents import DocumentError, Mistake, Problem, load_document, validate
from runtime.rotations import FloatArray, quaternion_to_matrix

NO_DISTORTION = (0.0, 0.0, 0.0, 0.0, 0.0)
UNDISTORT_STEPS = 20  # fixed-point iterations; lenses that OpenCV's model fits converge in far fewer
QUATERNION_TOLERANCE = 1e-3
NEAREST_DEPTH_M = 1e-6


@dataclass(frozen=True, slots=True)
class RigCamera:
    """One camera: pinhole intrinsics with Brown-Conrady distortion, and its pose in the vehicle frame."""

    name: str
    role: str
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float, float]
    rotation: tuple[float, float, float, float]
    translation_m: tuple[float, float, float]
    rate_hz: float

    @property
    def rotation_matrix(self) -> FloatArray:
        """[3, 3], camera -> vehicle; its columns are the camera's right, down and forward directions."""
        return quaternion_to_matrix(self.rotation)

    @property
    def forward_bearing_deg(self) -> float:
        """Where the camera looks in the ground plane: 0 ahead, left positive."""
        forward = self.rotation_matrix[:, 2]
        return math.degrees(math.atan2(forward[1], forward[0]))

    def scaled(self, width: int, height: int) -> RigCamera:
        """The same camera whose image is stretched to another size (its pixels need not stay square)."""
        scale_x, scale_y = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * scale_x,
            fy=self.fy * scale_y,
            cx=self.cx * scale_x,
            cy=self.cy * scale_y,
        )

    def to_camera(self, points_vehicle_m: ArrayLike) -> FloatArray:
        """[..., 3] points of the vehicle frame in this camera's frame, in metres."""
        offset = np.asarray(points_vehicle_m, np.float64) - np.asarray(self.translation_m)
        return np.asarray(offset @ self.rotation_matrix)

    def project(self, points_vehicle_m: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Pixels [..., 2] and depth in metres [...] of vehicle-frame points [..., 3].

        A point is in front of the camera only where its depth is positive; the pixels of others are NaN.
        """
        points = self.to_camera(points_vehicle_m)
        depth_m = points[..., 2]
        safe_depth_m = np.where(depth_m > NEAREST_DEPTH_M, depth_m, np.nan)
        x, y = self._distort(points[..., 0] / safe_depth_m, points[..., 1] / safe_depth_m)
        return np.stack((self.fx * x + self.cx, self.fy * y + self.cy), axis=-1), depth_m

    def ray(self, x_px: float, y_px: float) -> FloatArray:
        """[3] the direction, of length one in the vehicle frame, in which a pixel looks."""
        x, y = self._undistort((x_px - self.cx) / self.fx, (y_px - self.cy) / self.fy)
        direction = self.rotation_matrix @ np.array([x, y, 1.0])
        return np.asarray(direction / np.linalg.norm(direction))

    def ground_point(self, x_px: float, y_px: float) -> tuple[float, float] | None:
        """Where the pixel's ray meets the ground (x forward, y left, metres), or None at and above the horizon."""
        direction = self.ray(x_px, y_px)
        if direction[2] > -1e-9:
            return None
        distance = self.translation_m[2] / -direction[2]
        return (
            float(self.translation_m[0] + distance * direction[0]),
            float(self.translation_m[1] + distance * direction[1]),
        )

    def _distort(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Brown-Conrady on normalised coordinates (OpenCV camera calibration, "Detailed description")."""
        k1, k2, p1, p2, k3 = self.distortion
        if self.distortion == NO_DISTORTION:
            return x, y
        r2 = x * x + y * y
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return (
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        )

    def _undistort(self, x: float, y: float) -> tuple[float, float]:
        """The inverse of `_distort` by fixed-point iteration."""
        k1, k2, p1, p2, k3 = self.distortion
        if self.distortion == NO_DISTORTION:
            return x, y
        ideal_x, ideal_y = x, y
        for _ in range(UNDISTORT_STEPS):
            r2 = ideal_x * ideal_x + ideal_y * ideal_y
            radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
            shift_x = 2.0 * p1 * ideal_x * ideal_y + p2 * (r2 + 2.0 * ideal_x * ideal_x)
            shift_y = p1 * (r2 + 2.0 * ideal_y * ideal_y) + 2.0 * p2 * ideal_x * ideal_y
            ideal_x, ideal_y = (x - shift_x) / radial, (y - shift_y) / radial
        return ideal_x, ideal_y


@dataclass(frozen=True, slots=True)
class Rig:
    """The cameras of one vehicle, in the order of the network's batch."""

    name: str
    cameras: tuple[RigCamera, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras' names, in order."""
        return tuple(camera.name for camera in self.cameras)

    def camera(self, name: str) -> RigCamera:
        """The camera called `name`.

        Raises:
            KeyError: when the rig has no such camera; the message lists those it has.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise KeyError(f"rig {self.name!r} has no camera {name!r}; it has {', '.join(self.names)}")

    def scaled(self, width: int, height: int) -> Rig:
        """The same rig with every camera's image stretched to one size."""
        return replace(self, cameras=tuple(camera.scaled(width, height) for camera in self.cameras))


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _CameraNode(BaseModel):
    """One camera as it stands in the file."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    role: str = ""
    width: Annotated[int, Field(gt=0, le=16384)]
    height: Annotated[int, Field(gt=0, le=16384)]
    fx: _Positive
    fy: _Positive
    cx: _Finite
    cy: _Finite
    distortion: tuple[_Finite, _Finite, _Finite, _Finite, _Finite] = NO_DISTORTION
    rotation: tuple[_Finite, _Finite, _Finite, _Finite]
    translation_m: tuple[_Finite, _Finite, _Finite]
    rate_hz: _Positive

    @field_validator("rotation")
    @classmethod
    def _has_length_one(cls, value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        length = math.sqrt(sum(part * part for part in value))
        if abs(length - 1.0) > QUATERNION_TOLERANCE:
            raise Mistake(f"is not a rotation: its length is {length:.4f}", "write w, x, y, z of length 1")
        w, x, y, z = (part / length for part in value)
        return (w, x, y, z)

    def camera(self) -> RigCamera:
        return RigCamera(**self.model_dump())


class _RigNode(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    name: str
    cameras: Annotated[list[_CameraNode], Field(min_length=1, max_length=64)]


def load_rig(path: Path | str) -> Rig:
    """Read a rig file.

    Raises:
        DocumentError: with every mistake of the file, located.
    """
    document = load_document(Path(path))
    node = validate(document, _RigNode)
    problems: list[Problem] = []
    seen: set[str] = set()
    for index, camera in enumerate(node.cameras):
        if camera.name in seen:
            at = ("cameras", index, "name")
            problems.append(document.problem(at, "is the name of an earlier camera", "give each camera its own name"))
        seen.add(camera.name)
    if problems:
        raise DocumentError(problems)
    return Rig(node.name, tuple(camera.camera() for camera in node.cameras))


def save_rig(rig: Rig, path: Path | str, comment: str = "") -> None:
    """Write `rig` so that `load_rig` gives it back exactly. `comment` goes to the head of the file."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    body = yaml.safe_dump(
        {"name": rig.name, "cameras": [_camera_fields(camera) for camera in rig.cameras]},
        sort_keys=False,
        default_flow_style=None,
        width=120,
    )
    Path(path).write_text(head + body, encoding="utf-8")


def _camera_fields(camera: RigCamera) -> dict[str, object]:
    """The camera as plain YAML data, in the order in which people read it."""
    return {
        "name": camera.name,
        "role": camera.role,
        "width": camera.width,
        "height": camera.height,
        "fx": camera.fx,
        "fy": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        "distortion": list(camera.distortion),
        "rotation": list(camera.rotation),
        "translation_m": list(camera.translation_m),
        "rate_hz": camera.rate_hz,
    }
