"""From pixels to places on the road: where a box stands, how far that is, and in which lane.

A box stands on the ground at the middle of its lower edge; the ray through that pixel meets the plane z = 0 of the
rig's vehicle frame (x forward, y left, metres, origin on the ground below the rear axle). A place is unknown (NaN)
where that cannot be trusted: without calibration, at or above the horizon, when the lower edge is cut off by the image,
and where one pixel more or less would change the distance by more than `MAX_ERROR_PER_PX`. A place carries that error
in metres per pixel, so that a filter can weigh it.

The other way round, an image holds a place on the road when the place lies in it, not at its very left or right edge,
and near enough that something standing there is `MIN_SEEN_SHARE` of the image's height.

Lens distortion is undone as `runtime.rig` does it (Brown-Conrady by fixed-point iteration), for many pixels at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry
from runtime.rig import NO_DISTORTION, UNDISTORT_STEPS, Rig, RigCamera

HALF_LANE_M = 1.75
STANDS_BELOW_MPS = 0.1
MAX_RANGE_M = 150.0
MAX_ERROR_PER_PX = 0.2
#: A lower edge this close to the image's is taken to be cut off by it.
CUT_OFF_PX = 2.0
#: Something as high as this, standing where an image should hold it, has at least that share of the image's height.
SEEN_HEIGHT_M = 1.0
MIN_SEEN_SHARE = 0.02
#: Of the width, left and right: what stands there is half outside.
EDGE_SHARE = 0.05

FloatArray = NDArray[np.float64]
_ONE_LOWER_PX = np.array([0.0, 1.0])


@dataclass(frozen=True, slots=True)
class EgoMotion:
    """How the vehicle itself moves; None where it is not known. Left curves are positive."""

    speed_mps: float | None = None
    curvature_1pm: float | None = None

    @property
    def turns_known(self) -> bool:
        """True when it is known how fast the vehicle turns: one that stands does not."""
        return self.speed_mps is not None and (self.curvature_1pm is not None or abs(self.speed_mps) < STANDS_BELOW_MPS)


class GroundPlane:
    """Places on the ground for the cameras of one rig. Cameras that the rig does not know give unknown places."""

    def __init__(self, cameras: Sequence[str], rig: Rig | None) -> None:
        known = {camera.name: camera for camera in rig.cameras} if rig is not None else {}
        found = [known.get(name) for name in cameras]
        self.is_calibrated = np.array([camera is not None for camera in found], np.bool_)
        self._size: FloatArray = np.array([_size(camera) for camera in found], np.float64)
        self._focal = np.array([(1.0, 1.0) if c is None else (c.fx, c.fy) for c in found])
        self._centre = np.array([(0.0, 0.0) if c is None else (c.cx, c.cy) for c in found])
        self._distortion = np.array([NO_DISTORTION if c is None else c.distortion for c in found])
        self._rotation = np.array([np.eye(3) if c is None else c.rotation_matrix for c in found])
        self._place = np.array([(0.0, 0.0, 0.0) if c is None else c.translation_m for c in found])
        self._has_distortion = bool(self._distortion.any())
        self._widest = self._widest_radii()
        self._last_sizes: tuple[tuple[Geometry | None, ...], FloatArray] | None = None

    def _widest_radii(self) -> FloatArray:
        """Undistorted radius of each image's furthest corner: beyond it, a distortion polynomial folds back."""
        corners = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
        count = len(self._size)
        camera = np.repeat(np.arange(count), len(corners))
        pixel = np.tile(corners, (count, 1)) * self._size[camera]
        ideal = _undistort((pixel - self._centre[camera]) / self._focal[camera], self._distortion[camera])
        return np.asarray(np.hypot(ideal[:, 0], ideal[:, 1]).reshape(count, -1).max(axis=1, initial=0.0))

    def images_hold(self, place: FloatArray) -> NDArray[np.bool_]:
        """`[K, N]` which of the N cameras' images hold places `[K, 2]` on the road; False without calibration."""
        points = np.concatenate((place, np.zeros((len(place), 1))), axis=1)
        seen = (points[None, :, :] - self._place[:, None, :]) @ self._rotation  # [N, K, 3] in camera frames
        depth = np.where(seen[..., 2] > 0.1, seen[..., 2], np.nan)
        x, y = seen[..., 0] / depth, seen[..., 1] / depth
        with np.errstate(invalid="ignore"):
            held = np.hypot(x, y) <= self._widest[:, None]
            if self._has_distortion:
                x, y = _distort(x, y, self._distortion.T[:, :, None])
            column = (self._focal[:, :1] * x + self._centre[:, :1]) / self._size[:, :1]
            row = (self._focal[:, 1:] * y + self._centre[:, 1:]) / self._size[:, 1:]
            held &= (column >= EDGE_SHARE) & (column <= 1.0 - EDGE_SHARE) & (row >= 0.0) & (row < 1.0)
            held &= self._focal[:, 1:] * SEEN_HEIGHT_M >= MIN_SEEN_SHARE * self._size[:, 1:] * depth
        held[~self.is_calibrated] = False
        return np.asarray(held.T)

    def standing_places(
        self, camera: NDArray[np.integer], box_px: FloatArray, geometries: Sequence[Geometry | None] | None
    ) -> tuple[FloatArray, FloatArray]:
        """Where boxes `[K, 4]` stand: `[K, 2]` metres, and `[K]` metres of error per pixel; NaN where unknown.

        `geometries` tells the true size of the source images where it differs from the rig's.
        """
        if not self.is_calibrated.any() or camera.size == 0:
            return np.full((camera.size, 2), np.nan), np.full(camera.size, np.nan)
        scale = self._size[camera] / self._source_sizes(geometries)[camera]
        foot_px = np.stack(((box_px[:, 0] + box_px[:, 2]) / 2.0, box_px[:, 3]), axis=1) * scale
        one_lower_px = foot_px + _ONE_LOWER_PX
        points = self.ground_points(np.concatenate((camera, camera)), np.concatenate((foot_px, one_lower_px)))
        place = points[: camera.size]
        error_m = np.hypot(*(place - points[camera.size :]).T)
        range_m = np.hypot(place[:, 0], place[:, 1])
        with np.errstate(invalid="ignore"):
            trusted = (range_m <= MAX_RANGE_M) & (error_m <= MAX_ERROR_PER_PX * range_m)
            trusted &= foot_px[:, 1] < self._size[camera, 1] - CUT_OFF_PX
        place[~trusted] = np.nan
        error_m[~trusted] = np.nan
        return place, error_m

    def is_whole(
        self, camera: NDArray[np.integer], box_px: FloatArray, geometries: Sequence[Geometry | None] | None
    ) -> NDArray[np.bool_]:
        """`[K]` which boxes end inside of the left and right edge of their image."""
        width = self._source_sizes(geometries)[camera, 0]
        return np.asarray((box_px[:, 0] > CUT_OFF_PX) & (box_px[:, 2] < width - CUT_OFF_PX))

    def ground_points(self, camera: NDArray[np.integer], pixel: FloatArray) -> FloatArray:
        """`[K, 2]` metres where the rays of pixels `[K, 2]` (of the rig's image size) meet the ground; NaN for none."""
        ideal = (pixel - self._centre[camera]) / self._focal[camera]
        if self._distortion[camera].any():
            ideal = _undistort(ideal, self._distortion[camera])
        direction = self._rotation[camera] @ np.concatenate((ideal, np.ones((camera.size, 1))), axis=1)[:, :, None]
        direction = direction[:, :, 0]
        place = self._place[camera]
        down = np.where(direction[:, 2] < -1e-9, -direction[:, 2], np.nan)
        points = place[:, :2] + direction[:, :2] * (place[:, 2] / down)[:, None]
        points[~self.is_calibrated[camera]] = np.nan
        return np.asarray(points, np.float64)

    def _source_sizes(self, geometries: Sequence[Geometry | None] | None) -> FloatArray:
        if geometries is None:
            return self._size
        known = tuple(geometries)
        if self._last_sizes is None or self._last_sizes[0] != known:  # they change when a camera starts
            sizes: FloatArray = self._size.copy()
            for index, geometry in enumerate(geometries):
                if geometry is not None:
                    sizes[index] = geometry.source_width, geometry.source_height
            self._last_sizes = (known, sizes)
        return self._last_sizes[1]


def lane_of(place: tuple[float, float], curvature_1pm: float | None) -> str:
    """The lane by lateral offset from the path that the vehicle is on: "ego", "left", "right" or "other"."""
    x, y = place
    offset_m = y - (curvature_1pm or 0.0) * x * x / 2.0
    if abs(offset_m) <= HALF_LANE_M:
        return "ego"
    if abs(offset_m) <= 3.0 * HALF_LANE_M:
        return "left" if offset_m > 0.0 else "right"
    return "other"


def _size(camera: RigCamera | None) -> tuple[float, float]:
    return (1.0, 1.0) if camera is None else (float(camera.width), float(camera.height))


def _distort(x: FloatArray, y: FloatArray, distortion: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Brown-Conrady on normalised coordinates, as `runtime.rig` does it."""
    k1, k2, p1, p2, k3 = distortion
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return (
        x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
        y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
    )


def _undistort(seen: FloatArray, distortion: FloatArray) -> FloatArray:
    k1, k2, p1, p2, k3 = distortion.T
    x, y = seen.T
    for _ in range(UNDISTORT_STEPS):
        r2 = x * x + y * y
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        shift_x = 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
        shift_y = p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
        x, y = (seen[:, 0] - shift_x) / radial, (seen[:, 1] - shift_y) / radial
    return np.stack((x, y), axis=1)
