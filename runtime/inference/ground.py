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
from typing import TypeVar

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
Number = TypeVar("Number", float, FloatArray)
_ONE_LOWER_PX = np.array([[0.0], [1.0]])
#: An image holds nothing that is nearer to its camera's plane than this.
NEAREST_M = 0.1
#: A ray that goes down by less is level.
_LEVEL = 1e-9
_FOCAL, _CENTRE, _STANDING, _HEIGHT, _LOWEST = slice(0, 2), slice(2, 4), slice(4, 6), 6, 7


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
        self._is_somewhere, self._is_everywhere = bool(self.is_calibrated.any()), bool(self.is_calibrated.all())
        self._size: FloatArray = np.array([_size(camera) for camera in found], np.float64)
        self._focal = np.array([(1.0, 1.0) if c is None else (c.fx, c.fy) for c in found])
        self._centre = np.array([(0.0, 0.0) if c is None else (c.cx, c.cy) for c in found])
        self._distortion = np.array([NO_DISTORTION if c is None else c.distortion for c in found])
        self._rotation = np.array([np.eye(3) if c is None else c.rotation_matrix for c in found])
        self._place = np.array([(0.0, 0.0, 0.0) if c is None else c.translation_m for c in found])
        self._has_distortion = bool(self._distortion.any())
        #: Lines of focal lengths, centre, place and the lowest row of a foot that can be trusted; a column per camera.
        lowest_px = self._size[:, 1:] - CUT_OFF_PX
        self._lines = np.concatenate((self._focal, self._centre, self._place, lowest_px), axis=1).T.copy()
        self._widest = self._widest_radii()
        self._holding = _Holding.of(self._size, self._focal, self._centre, self.is_calibrated)
        self._last_sizes: tuple[tuple[Geometry | None, ...], FloatArray, FloatArray] | None = None

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
        points = np.zeros((len(place), 3))
        points[:, :2] = place
        seen = self._rotation.transpose(0, 2, 1) @ (points - self._place[:, None, :]).transpose(0, 2, 1)  # [N, 3, K]
        depth = seen[:, 2]
        ideal = seen[:, :2] / np.maximum(depth, NEAREST_M)[:, None]
        limits = self._holding
        held = (depth > NEAREST_M) & (depth <= limits.furthest_m)
        if self._has_distortion:
            x, y = ideal[:, 0], ideal[:, 1]
            held &= np.hypot(x, y) <= self._widest[:, None]
            ideal = np.stack(_distort(x, y, self._distortion.T[:, :, None]), axis=1)
        pixel = ideal * self._focal[:, :, None]
        pixel += self._centre[:, :, None]
        inside = pixel >= limits.low_px
        inside &= pixel <= limits.high_px
        held &= inside[:, 0]
        held &= inside[:, 1]
        return np.asarray(held.T)

    def standing_places(
        self, camera: NDArray[np.integer], box_px: FloatArray, geometries: Sequence[Geometry | None] | None
    ) -> tuple[FloatArray, FloatArray]:
        """Where boxes `[K, 4]` stand: `[K, 2]` metres, and `[K]` metres of error per pixel; NaN where unknown.

        `geometries` tells the true size of the source images where it differs from the rig's.
        """
        if not self._is_somewhere or camera.size == 0:
            return np.full((camera.size, 2), np.nan), np.full(camera.size, np.nan)
        _, scales = self._source_sizes(geometries)
        left, _, right, lower = box_px.T
        foot_px = np.empty((2, 2 * camera.size))  # the feet, and then the same one pixel lower
        feet, lower_px = foot_px[:, : camera.size], foot_px[:, camera.size :]
        np.add(left, right, out=feet[0])
        feet[0] /= 2.0
        feet[1] = lower
        feet *= scales.take(camera, axis=1)
        np.add(feet, _ONE_LOWER_PX, out=lower_px)
        points = self.ground_points(np.concatenate((camera, camera)), foot_px.T)
        place = points[: camera.size]
        error_m = np.hypot(*(place - points[camera.size :]).T)
        range_m = np.hypot(place[:, 0], place[:, 1])
        trusted = feet[1] < self._lines[_LOWEST].take(camera)
        trusted &= range_m <= MAX_RANGE_M  # false for NaN
        range_m *= MAX_ERROR_PER_PX
        trusted &= error_m <= range_m
        place[~trusted] = np.nan
        error_m[~trusted] = np.nan
        return place, error_m

    def is_whole(
        self, camera: NDArray[np.integer], box_px: FloatArray, geometries: Sequence[Geometry | None] | None
    ) -> NDArray[np.bool_]:
        """`[K]` which boxes end inside of the left and right edge of their image."""
        width = self._source_sizes(geometries)[0][0].take(camera)
        return np.asarray((box_px[:, 0] > CUT_OFF_PX) & (box_px[:, 2] < width - CUT_OFF_PX))

    def ground_points(self, camera: NDArray[np.integer], pixel: FloatArray) -> FloatArray:
        """`[K, 2]` metres where the rays of pixels `[K, 2]` (of the rig's image size) meet the ground; NaN for none."""
        lines = self._lines.take(camera, axis=1)
        ray = np.ones((camera.size, 3))
        np.divide(pixel.T - lines[_CENTRE], lines[_FOCAL], out=ray.T[:2])
        if self._has_distortion and self._distortion[camera].any():
            ray[:, :2] = _undistort(ray[:, :2], self._distortion[camera])
        direction = (self._rotation.take(camera, axis=0) @ ray[:, :, None])[:, :, 0].T
        down = -direction[2]
        down[down <= _LEVEL] = np.nan
        points = direction[:2] * (lines[_HEIGHT] / down)
        points += lines[_STANDING]
        if not self._is_everywhere:
            points[:, ~self.is_calibrated[camera]] = np.nan
        return np.asarray(points.T, np.float64)

    def _source_sizes(self, geometries: Sequence[Geometry | None] | None) -> tuple[FloatArray, FloatArray]:
        """`[2, N]` width and height of the source images, and by how much the rig's are larger."""
        known = () if geometries is None else tuple(geometries)
        if self._last_sizes is None or self._last_sizes[0] != known:  # they change when a camera starts
            sizes = self._size.T.copy()
            for index, geometry in enumerate(known):
                if geometry is not None:
                    sizes[:, index] = geometry.source_width, geometry.source_height
            self._last_sizes = (known, sizes, self._size.T / sizes)
        return self._last_sizes[1:]


@dataclass(frozen=True, slots=True)
class _Holding:
    """What images hold: pixels from `low_px` to `high_px` `[N, 2, 1]`, no further away than `furthest_m` `[N, 1]`."""

    low_px: FloatArray
    high_px: FloatArray
    furthest_m: FloatArray

    @staticmethod
    def of(size: FloatArray, focal: FloatArray, centre: FloatArray, is_calibrated: NDArray[np.bool_]) -> _Holding:
        """The limits of N cameras; one that is not calibrated holds nothing."""
        width, height = size.T
        low_px = np.stack((EDGE_SHARE * width, np.zeros_like(height)), axis=1)
        last_row_px = np.nextafter(height, 0.0)  # the row below the image is outside
        high_px = np.stack(((1.0 - EDGE_SHARE) * width, last_row_px), axis=1)
        furthest_m = np.where(is_calibrated, focal[:, 1] * SEEN_HEIGHT_M / (MIN_SEEN_SHARE * height), -np.inf)
        return _Holding(low_px[:, :, None], high_px[:, :, None], furthest_m[:, None])


def lane_of(place: tuple[float, float], curvature_1pm: float | None) -> str:
    """The lane by lateral offset from the path that the vehicle is on: "ego", "left", "right" or "other"."""
    return lane_at(offsets_m(*place, curvature_1pm))


def offsets_m(x: Number, y: Number, curvature_1pm: float | None) -> Number:
    """How far left of the vehicle's path a place lies, or many places."""
    return y - (curvature_1pm or 0.0) * x * x / 2.0


def lane_at(offset_m: float) -> str:
    """The lane so far left of the vehicle's path."""
    away_m = abs(offset_m)
    if away_m <= HALF_LANE_M:
        return "ego"
    if away_m <= 3.0 * HALF_LANE_M:
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
