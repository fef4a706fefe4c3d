"""Rotations as unit quaternions `(w, x, y, z)`: how a camera is turned against the vehicle (frames: `runtime.rig`)."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]


def quaternion_to_matrix(quaternion: tuple[float, float, float, float]) -> FloatArray:
    """[3, 3] rotation matrix of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def looking(bearing_deg: float, down_deg: float = 0.0) -> tuple[float, float, float, float]:
    """The rotation (w, x, y, z) of a level camera that looks towards `bearing_deg` (left positive), tilted down."""
    half_bearing = math.radians(bearing_deg) / 2
    half_down = math.radians(down_deg) / 2
    turn = (math.cos(half_bearing), 0.0, 0.0, math.sin(half_bearing))  # about the vehicle's z
    tilt = (math.cos(half_down), 0.0, math.sin(half_down), 0.0)  # about the vehicle's y: positive looks down
    ahead = (0.5, -0.5, 0.5, -0.5)  # camera axes -> vehicle axes when it looks straight ahead
    return _multiply(_multiply(turn, tilt), ahead)


def _multiply(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Hamilton's product of two quaternions."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )
