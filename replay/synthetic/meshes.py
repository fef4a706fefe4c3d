"""Meshes: the solid things of the synthetic world as flat quadrilaterals and balls, in their own frame.

A mesh stands on the ground at its origin: x forward, y left, z up, metres. Each quadrilateral has an outward
normal (its corners run counter-clockwise seen from outside), a material (index into a palette of colours, so that
one mesh serves red and blue cars and lit and dark lamps), a layer (what is painted later within one object: body,
trim, cabin, glass) and a detail flag (left out when the object is only a few pixels tall).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Point: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Mesh:
    """Q quadrilaterals and B balls. Arrays are shared between all instances and never written."""

    quads: FloatArray  # [Q, 4, 3]
    normals: FloatArray  # [Q, 3]
    material: NDArray[np.int64]  # [Q]
    layer: NDArray[np.int64]  # [Q]
    detail: NDArray[np.bool_]  # [Q]
    balls: FloatArray  # [B, 4]: x, y, z, radius
    ball_material: NDArray[np.int64]  # [B]
    ball_layer: NDArray[np.int64]  # [B]
    ball_is_light: NDArray[np.bool_]  # [B]: a glow, seen only while its material shines
    ball_facing: FloatArray  # [B, 3]: seen only from this side; zero: from everywhere
    label_points: FloatArray  # [P, 3] corners that bound what a label covers
    radius_m: float
    height_m: float


@dataclass(slots=True)
class MeshBuilder:
    """Collects faces; `build` freezes them."""

    _quads: list[list[Point]] = field(default_factory=list)
    _rows: list[tuple[int, int, bool]] = field(default_factory=list)
    _balls: list[tuple[float, float, float, float]] = field(default_factory=list)
    _ball_rows: list[tuple[int, int, bool]] = field(default_factory=list)
    _ball_facing: list[float] = field(default_factory=list)

    def quad(self, corners: list[Point], material: int, layer: int = 0, detail: bool = False) -> None:
        """One flat face; corners counter-clockwise seen from outside."""
        self._quads.append(corners)
        self._rows.append((material, layer, detail))

    def prism(
        self,
        bottom: tuple[float, float, float, float],
        top: tuple[float, float, float, float],
        z_m: tuple[float, float],
        material: int,
        layer: int = 0,
        side_material: int | None = None,
        with_bottom: bool = False,
        detail: bool = False,
    ) -> None:
        """A box whose bottom and top are rectangles (x0, x1, y0, y1), which may differ: cabins taper."""
        low, high = _rectangle(bottom, z_m[0]), _rectangle(top, z_m[1])
        side = material if side_material is None else side_material
        for i in range(4):
            j = (i + 1) % 4
            self.quad([low[i], low[j], high[j], high[i]], side, layer, detail)
        self.quad(high, material, layer, detail)
        if with_bottom:
            self.quad(low[::-1], material, layer, detail)

    def panel_x(
        self, x: float, y: tuple[float, float], z: tuple[float, float], material: int, layer: int, detail: bool = True
    ) -> None:
        """An upright panel that faces forward where x > 0, else backward."""
        corners = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
        self.quad(corners if x > 0 else corners[::-1], material, layer, detail)

    def panel_y(
        self, y: float, x: tuple[float, float], z: tuple[float, float], material: int, layer: int, detail: bool = True
    ) -> None:
        """An upright panel that faces left where y > 0, else right."""
        corners = [(x[1], y, z[0]), (x[0], y, z[0]), (x[0], y, z[1]), (x[1], y, z[1])]
        self.quad(corners if y > 0 else corners[::-1], material, layer, detail)

    def disc_y(self, centre: Point, radius: float, left: bool, material: int, layer: int, detail: bool = True) -> None:
        """An upright disc in the x-z plane (a wheel), as the two halves of a hexagon."""
        angles = np.arange(6) * np.pi / 3
        rim = [(centre[0] + radius * np.cos(a), centre[1], centre[2] + radius * np.sin(a)) for a in angles]
        for half in ([rim[0], rim[1], rim[2], rim[3]], [rim[3], rim[4], rim[5], rim[0]]):
            self.quad(half[::-1] if left else half, material, layer, detail)

    def octagon_x(self, x: float, centre: tuple[float, float], radius: float, material: int, layer: int) -> None:
        """An upright octagon facing forward (x > 0) or backward: y, z of its centre; as three quadrilaterals."""
        angles = np.arange(8) * np.pi / 4 + np.pi / 8
        rim = [(x, centre[0] + radius * np.cos(a), centre[1] + radius * np.sin(a)) for a in angles]
        for part in ([0, 1, 2, 3], [0, 3, 4, 7], [4, 5, 6, 7]):
            corners = [rim[i] for i in part]
            self.quad(corners if x > 0 else corners[::-1], material, layer)

    def ball(self, centre: Point, radius: float, material: int, layer: int = 0) -> None:
        """A ball; painted as a disc."""
        self._add_ball(centre, radius, (material, layer, False), 0.0)

    def glow(self, centre: Point, radius: float, material: int, layer: int, facing_x: float) -> None:
        """The glow of a lamp: seen while its material shines, from the side that `facing_x` points to (0: from all)."""
        self._add_ball(centre, radius, (material, layer, True), facing_x)

    def _add_ball(self, centre: Point, radius: float, row: tuple[int, int, bool], facing_x: float) -> None:
        self._balls.append((*centre, radius))
        self._ball_rows.append(row)
        self._ball_facing.append(facing_x)

    def build(self, label_points: FloatArray | None = None) -> Mesh:
        """The frozen mesh. Labels cover all corners and balls unless told otherwise."""
        quads = np.array(self._quads, np.float64).reshape(-1, 4, 3)
        normals = _normals(quads)
        rows = np.array(self._rows, np.int64).reshape(-1, 3)
        balls = np.array(self._balls, np.float64).reshape(-1, 4)
        ball_rows = np.array(self._ball_rows, np.int64).reshape(-1, 3)
        solid = balls[ball_rows[:, 2] == 0]
        extent = np.concatenate((quads.reshape(-1, 3), solid[:, :3] + solid[:, 3:], solid[:, :3] - solid[:, 3:]))
        return Mesh(
            quads=quads,
            normals=normals,
            material=rows[:, 0],
            layer=rows[:, 1],
            detail=rows[:, 2].astype(bool),
            balls=balls,
            ball_material=ball_rows[:, 0],
            ball_layer=ball_rows[:, 1],
            ball_is_light=ball_rows[:, 2].astype(bool),
            ball_facing=np.array(self._ball_facing, np.float64).reshape(-1, 1) * [1.0, 0.0, 0.0],
            label_points=box_corners(extent) if label_points is None else label_points,
            radius_m=float(np.linalg.norm(extent, axis=1).max()),
            height_m=float(extent[:, 2].max()),
        )


def box_corners(points: FloatArray) -> FloatArray:
    """[8, 3] corners of the axis-aligned box around points."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])


def _rectangle(bounds: tuple[float, float, float, float], z: float) -> list[Point]:
    """Counter-clockwise seen from above."""
    x0, x1, y0, y1 = bounds
    return [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]


def _normals(quads: FloatArray) -> FloatArray:
    """Unit normals from the diagonals, which also works where two corners coincide."""
    normals = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.maximum(lengths, 1e-12))
