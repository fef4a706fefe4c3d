"""The road: a centreline of changing curvature, and the strip of lanes, kerbs and pavements that follows it.

Places on the road are (s, d): metres along the centreline and metres to its left. The centreline is the middle of
the middle lane of the driving direction. Curvature is piecewise constant joined by clothoids (linear ramps), as
real roads are built, and is integrated once on a 1 m grid; everything else interpolates on that grid.

Cross-section, from right (negative d) to left: verge, pavement, parking strip, lanes 0 1 2, median, oncoming lanes,
pavement, verge. Lane 0 is the rightmost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]

GRID_M = 1.0
LEAD_IN_M = 150.0  # straight road before s = 0, so that there is something to see behind the car
SHARPEST_CURVATURE_1PM = 0.012
CLOTHOID_M = 30.0
LANE_COUNT = 3


@dataclass(frozen=True, slots=True)
class RoadStyle:
    """The cross-section of one road, in metres."""

    lane_width_m: float = 3.5
    parking_width_m: float = 2.6
    pavement_width_m: float = 3.2
    median_width_m: float = 2.0
    oncoming_lanes: int = 2
    dash_m: float = 3.0
    gap_m: float = 6.0
    line_width_m: float = 0.18

    def lane_centre_d_m(self, lane: float) -> float:
        """The middle of a lane of the driving direction."""
        return (lane - 1) * self.lane_width_m

    @property
    def right_edge_d_m(self) -> float:
        """The right edge of lane 0."""
        return -1.5 * self.lane_width_m

    @property
    def left_edge_d_m(self) -> float:
        """The left edge of lane 2."""
        return 1.5 * self.lane_width_m

    @property
    def kerb_d_m(self) -> float:
        """Where the parking strip ends and the right pavement begins."""
        return self.right_edge_d_m - self.parking_width_m

    @property
    def oncoming_d_m(self) -> tuple[float, float]:
        """Both edges of the oncoming carriageway."""
        near = self.left_edge_d_m + self.median_width_m
        return near, near + self.oncoming_lanes * self.lane_width_m

    def oncoming_centre_d_m(self, lane: int) -> float:
        """The middle of an oncoming lane; 0 is the one next to the median."""
        return self.oncoming_d_m[0] + (lane + 0.5) * self.lane_width_m

    @staticmethod
    def random(generator: np.random.Generator) -> RoadStyle:
        """A plausible road."""
        return RoadStyle(
            lane_width_m=float(generator.uniform(3.2, 3.7)),
            parking_width_m=float(generator.uniform(2.3, 2.8)),
            pavement_width_m=float(generator.uniform(2.2, 4.0)),
            median_width_m=float(generator.choice([0.4, 1.5, 2.5, 4.0])),
            oncoming_lanes=int(generator.integers(1, 4)),
            dash_m=float(generator.uniform(2.5, 4.0)),
            gap_m=float(generator.uniform(4.0, 8.0)),
            line_width_m=float(generator.uniform(0.14, 0.24)),
        )


class Road:
    """A road of `length_m` with its geometry on a grid. Immutable once built."""

    def __init__(self, length_m: float, style: RoadStyle, generator: np.random.Generator) -> None:
        self.length_m = length_m
        self.style = style
        self._s_m = np.arange(-LEAD_IN_M, length_m + GRID_M, GRID_M)
        self._curvature_1pm = _curvature_profile(self._s_m, generator)
        turned = np.concatenate(([0.0], np.cumsum(_midpoints(self._curvature_1pm)) * GRID_M))
        self._heading_rad = turned - np.interp(0.0, self._s_m, turned)
        self._x_m = np.concatenate(([0.0], np.cumsum(_midpoints(np.cos(self._heading_rad))) * GRID_M))
        self._y_m = np.concatenate(([0.0], np.cumsum(_midpoints(np.sin(self._heading_rad))) * GRID_M))

    def curvature_1pm(self, s_m: float) -> float:
        """Curvature of the centreline; left curves are positive."""
        return float(np.interp(s_m, self._s_m, self._curvature_1pm))

    def heading_rad(self, s_m: ArrayLike) -> FloatArray:
        """Direction of the centreline in the world, left positive."""
        return np.asarray(np.interp(np.asarray(s_m, np.float64), self._s_m, self._heading_rad))

    def points(self, s_m: ArrayLike, d_m: ArrayLike, z_m: float = 0.0) -> FloatArray:
        """[..., 3] world points of places on the road; `s_m` and `d_m` broadcast."""
        s, d = np.broadcast_arrays(np.asarray(s_m, np.float64), np.asarray(d_m, np.float64))
        heading = self.heading_rad(s)
        x = np.interp(s, self._s_m, self._x_m) - d * np.sin(heading)
        y = np.interp(s, self._s_m, self._y_m) + d * np.cos(heading)
        return np.stack((x, y, np.full_like(x, z_m)), axis=-1)


def _midpoints(values: FloatArray) -> FloatArray:
    return (values[:-1] + values[1:]) / 2


def _curvature_profile(s_m: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Straights and bends in turn, joined by clothoids. Bends alternate in sign so that the road never closes."""
    knots_s, knots_curvature = [float(s_m[0]), 20.0], [0.0, 0.0]
    sign = 1.0 if generator.random() < 0.5 else -1.0
    while knots_s[-1] < s_m[-1]:
        bend = sign * float(generator.uniform(0.15, 1.0)) * SHARPEST_CURVATURE_1PM
        bend_m = float(min(generator.uniform(20.0, 90.0), 0.6 / abs(bend)))
        straight_m = float(generator.uniform(10.0, 90.0))
        start = knots_s[-1]
        knots_s += [start + CLOTHOID_M, start + CLOTHOID_M + bend_m, start + 2 * CLOTHOID_M + bend_m]
        knots_curvature += [bend, bend, 0.0]
        knots_s.append(knots_s[-1] + straight_m)
        knots_curvature.append(0.0)
        sign = -sign
    return np.interp(s_m, knots_s, knots_curvature)
