"""Pinhole projection of polygons: clipping at the near plane, and what of a camera's view is fixed.

`CameraView` is a camera of the rig at one image size with everything that does not change from frame to frame.
Cameras of a synthetic rig are level (pitched but not rolled), so that their horizon is one image row; this is
checked. Polygons are cut at `NEAR_M` in front of the camera by Sutherland and Hodgman's method, all at once.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from runtime.rig import NO_DISTORTION, RigCamera

FloatArray = NDArray[np.float64]
PointArray = NDArray[np.int32]

NEAR_M = 0.25
SUBPIXEL_BITS = 4
SUBPIXELS = 1 << SUBPIXEL_BITS
FARTHEST_PX = 1e6  # keeps sub-pixel coordinates inside 32 bits


class CameraView:
    """One camera at one image size.

    Raises:
        ValueError: when the camera is rolled or has lens distortion, which the painter does not model.
    """

    def __init__(self, camera: RigCamera) -> None:
        rotation = camera.rotation_matrix
        if abs(rotation[2, 0]) > 1e-6:
            raise ValueError(f"camera {camera.name} is rolled; synthetic cameras must be level")
        if camera.distortion != NO_DISTORTION:
            raise ValueError(f"camera {camera.name} has lens distortion; synthetic cameras must have none")
        self.camera = camera
        self.name = camera.name
        self.width, self.height = camera.width, camera.height
        self.fx, self.fy, self.cx, self.cy = camera.fx, camera.fy, camera.cx, camera.cy
        self.to_camera = rotation  # row vectors: (p - place) @ to_camera
        self.place = np.array(camera.translation_m)
        self.bearing_rad = math.radians(camera.forward_bearing_deg)
        down_rad = math.asin(-rotation[2, 2])
        self.horizon_row = int(np.clip(round(self.cy - self.fy * math.tan(down_rad)), 0, self.height))
        half_x = math.atan(max(self.cx, self.width - self.cx) / self.fx)
        half_y = math.atan(max(self.cy, self.height - self.cy) / self.fy)
        self._cull = np.array([math.cos(half_x), math.sin(half_x), math.cos(half_y), math.sin(half_y)])

    def points(self, vehicle_points: FloatArray) -> FloatArray:
        """Vehicle-frame points [..., 3] in the camera frame."""
        return np.asarray((vehicle_points - self.place) @ self.to_camera)

    def sees(self, centres: FloatArray, radii: FloatArray) -> NDArray[np.bool_]:
        """Which balls (camera frame) touch the view's pyramid."""
        x, y, z = np.abs(centres[:, 0]), np.abs(centres[:, 1]), centres[:, 2]
        cos_x, sin_x, cos_y, sin_y = self._cull
        inside = (x * cos_x - z * sin_x < radii) & (y * cos_y - z * sin_y < radii)
        return np.asarray(inside & (z > NEAR_M - radii))

    def pixels(self, camera_points: FloatArray) -> FloatArray:
        """Pixels [..., 2] of points in front of the camera."""
        z = camera_points[..., 2]
        x = camera_points[..., 0] * (self.fx / z) + self.cx
        y = camera_points[..., 1] * (self.fy / z) + self.cy
        return np.stack((x, y), axis=-1)

    def clipped_polygons(self, polygons: FloatArray) -> list[PointArray]:
        """Sub-pixel outlines of camera-frame polygons [K, M, 3], cut at the near plane; empty where nothing is left."""
        if len(polygons) == 0:
            return []
        z = polygons[..., 2]
        inside = z >= NEAR_M
        following = np.roll(polygons, -1, axis=1)
        crosses = inside != np.roll(inside, -1, axis=1)
        rise = following[..., 2] - z
        share = (NEAR_M - z) / np.where(crosses, rise, 1.0)
        cuts = polygons + share[..., None] * (following - polygons)
        both = np.empty((len(polygons), polygons.shape[1] * 2, 3))
        both[:, 0::2], both[:, 1::2] = polygons, cuts
        keep = np.empty(both.shape[:2], bool)
        keep[:, 0::2], keep[:, 1::2] = inside, crosses
        both[~keep] = (0.0, 0.0, 1.0)
        outlines = subpixels(self.pixels(both))
        return [outline[kept] for outline, kept in zip(outlines, keep, strict=True)]


def subpixels(pixels: FloatArray) -> PointArray:
    """Pixels as the fixed-point integers that OpenCV takes with `shift=SUBPIXEL_BITS`."""
    limited = np.minimum(np.maximum(pixels, -FARTHEST_PX), FARTHEST_PX)
    return np.asarray(np.rint(limited * SUBPIXELS), np.int32)
