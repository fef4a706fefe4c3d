"""Meshes of vehicles: cars of several shapes, a lorry and a bus, in real sizes, with lamps that can shine."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from replay.synthetic.materials import Material
from replay.synthetic.meshes import Mesh, MeshBuilder, box_corners

#: Length, width, height, height of the body below the cabin, cabin's x range at its foot and at its roof.
_VEHICLES = {
    "hatchback": (3.9, 1.72, 1.48, 0.88, (-1.85, 0.95), (-1.55, 0.25)),
    "sedan": (4.7, 1.84, 1.45, 0.92, (-1.75, 1.00), (-1.05, 0.30)),
    "suv": (4.6, 1.90, 1.70, 1.05, (-2.20, 1.00), (-1.95, 0.40)),
    "pickup": (5.3, 1.95, 1.80, 1.05, (-0.60, 1.25), (-0.40, 0.65)),
    "van": (5.2, 2.00, 2.20, 1.15, (-2.55, 1.95), (-2.50, 1.20)),
}
VEHICLE_KINDS = (*_VEHICLES, "truck", "bus")
VEHICLE_PAINTS = (
    (228, 230, 232),
    (198, 200, 204),
    (120, 124, 130),
    (46, 48, 52),
    (26, 27, 30),
    (150, 28, 32),
    (36, 62, 128),
    (70, 96, 140),
    (64, 88, 70),
    (176, 150, 104),
    (196, 176, 60),
    (110, 60, 40),
)


@cache
def vehicle(kind: str) -> Mesh:
    """A vehicle by kind; its origin is on the ground below its middle."""
    if kind == "truck":
        return _box_vehicle(length=8.2, width=2.4, height=3.3, cab_m=2.2, is_bus=False)
    if kind == "bus":
        return _box_vehicle(length=11.0, width=2.5, height=3.1, cab_m=0.0, is_bus=True)
    return _car(kind)


def vehicle_length_m(kind: str) -> float:
    """Bumper to bumper."""
    corners = vehicle(kind).label_points
    return float(np.ptp(corners[:, 0]))


def _car(kind: str) -> Mesh:
    length, width, height, waist, foot_x, roof_x = _VEHICLES[kind]
    x, y = length / 2, width / 2
    builder = MeshBuilder()
    builder.prism((-x, x, -y, y), (-x + 0.06, x - 0.10, -y + 0.04, y - 0.04), (0.24, waist), Material.PAINT)
    _lower_trim(builder, x, y)
    _wheels(builder, (-x + 0.85, x - 0.85), y, 0.33)
    roof_y = y - 0.22
    cabin_foot = (foot_x[0], foot_x[1], -y + 0.08, y - 0.08)
    cabin_roof = (roof_x[0], roof_x[1], -roof_y, roof_y)
    builder.prism(cabin_foot, cabin_roof, (waist, height), Material.PAINT, 2, side_material=Material.GLASS)
    _pillars(builder, cabin_foot, cabin_roof, (waist, height))
    _lamps(builder, x, y, waist)
    return builder.build(_outline((-x, x), (-y, y), waist, cabin_roof, height))


def _outline(
    x: tuple[float, float], y: tuple[float, float], waist: float, roof: tuple[float, float, float, float], height: float
) -> NDArray[np.float64]:
    """Corners of the body's box and of the roof: a tighter hull than one box."""
    body = box_corners(np.array([[x[0], y[0], 0.0], [x[1], y[1], waist]]))
    top = box_corners(np.array([[roof[0], roof[2], height - 0.01], [roof[1], roof[3], height]]))
    return np.concatenate((body, top))


def _pillars(
    builder: MeshBuilder,
    foot: tuple[float, float, float, float],
    roof: tuple[float, float, float, float],
    z: tuple[float, float],
) -> None:
    """The painted B pillars that part the side windows."""
    for side in (-1.0, 1.0):
        low_y, high_y = side * (foot[3] + 0.005), side * (roof[3] + 0.005)
        middle_low, middle_high = (foot[0] + foot[1]) / 2, (roof[0] + roof[1]) / 2
        corners = [
            (middle_low + 0.06, low_y, z[0]),
            (middle_low - 0.06, low_y, z[0]),
            (middle_high - 0.06, high_y, z[1]),
            (middle_high + 0.06, high_y, z[1]),
        ]
        builder.quad(corners if side > 0 else corners[::-1], Material.PAINT, 3, True)


def _lower_trim(builder: MeshBuilder, x: float, y: float) -> None:
    """Dark sills and bumpers, and the number plates."""
    for side in (-1.0, 1.0):
        builder.panel_y(side * (y + 0.005), (-x + 0.1, x - 0.1), (0.20, 0.36), Material.TRIM, 1)
        builder.panel_x(side * (x + 0.005), (-y + 0.05, y - 0.05), (0.22, 0.42), Material.TRIM, 1)
        builder.panel_x(side * (x + 0.01), (-0.26, 0.26), (0.44, 0.56), Material.PLATE, 2)


def _wheels(builder: MeshBuilder, axles_x: tuple[float, ...], y: float, radius: float) -> None:
    for axle in axles_x:
        for side in (-1.0, 1.0):
            builder.disc_y((axle, side * (y + 0.01), radius), radius, side > 0, Material.TYRE, 1)
            builder.disc_y((axle, side * (y + 0.02), radius), radius * 0.55, side > 0, Material.HUB, 2)


def _lamps(builder: MeshBuilder, x: float, y: float, waist: float) -> None:
    """Head, tail, brake and indicator lamps with their glows."""
    low, high = waist - 0.28, waist - 0.12
    builder.panel_x(x + 0.01, (-y * 0.5, y * 0.5), (low - 0.08, high), Material.TRIM, 1)
    for side, indicator in ((1.0, Material.LEFT_INDICATOR), (-1.0, Material.RIGHT_INDICATOR)):
        outer, inner = sorted((side * y * 0.93, side * y * 0.55))
        edge = sorted((side * y * 0.99, side * y * 0.93))
        builder.panel_x(x + 0.02, (outer, inner), (low, high), Material.HEADLAMP, 2, detail=False)
        builder.panel_x(x + 0.02, (edge[0], edge[1]), (low, high), indicator, 2)
        builder.panel_x(-x - 0.02, (outer, inner), (low + 0.03, high), Material.TAIL_LAMP, 2, detail=False)
        builder.panel_x(-x - 0.03, (outer, inner), (low - 0.07, low + 0.05), Material.BRAKE_LAMP, 2, detail=False)
        builder.panel_x(-x - 0.02, (edge[0], edge[1]), (low, high), indicator, 2)
        builder.glow((x + 0.04, side * y * 0.74, (low + high) / 2), 0.13, Material.HEADLAMP, 4, 1.0)
        builder.glow((-x - 0.05, side * y * 0.74, low), 0.14, Material.BRAKE_LAMP, 4, -1.0)
        for end in (-1.0, 1.0):
            builder.glow((end * (x + 0.05), side * y * 0.95, high), 0.07, indicator, 4, end)
    builder.panel_x(-x - 0.02, (-y * 0.25, y * 0.25), (waist - 0.02, waist + 0.05), Material.BRAKE_LAMP, 4)


def _box_vehicle(length: float, width: float, height: float, cab_m: float, is_bus: bool) -> Mesh:
    """A lorry with a cab, or a bus with a band of windows."""
    x, y = length / 2, width / 2
    builder = MeshBuilder()
    cargo_front = x - cab_m - (0.25 if cab_m else 0.0)
    builder.prism((-x, cargo_front, -y, y), (-x, cargo_front, -y, y), (0.55, height), Material.PAINT)
    if cab_m:
        cab = (x - cab_m, x, -y + 0.05, y - 0.05)
        builder.prism(cab, (x - cab_m, x - 0.3, -y + 0.1, y - 0.1), (0.45, height * 0.78), Material.TRIM)
        builder.panel_x(x - 0.08, (-y + 0.2, y - 0.2), (1.45, height * 0.72), Material.GLASS, 1, detail=False)
        for side in (-1.0, 1.0):
            builder.panel_y(side * (y - 0.04), (x - cab_m + 0.3, x - 0.5), (1.5, 2.2), Material.GLASS, 1)
    if is_bus:
        for side in (-1.0, 1.0):
            builder.panel_y(side * (y + 0.01), (-x + 0.3, x - 0.3), (1.35, 2.4), Material.GLASS, 1, detail=False)
        builder.panel_x(x + 0.01, (-y + 0.15, y - 0.15), (1.1, 2.7), Material.GLASS, 1, detail=False)
        builder.panel_x(-x - 0.01, (-y + 0.3, y - 0.3), (1.6, 2.5), Material.GLASS, 1, detail=False)
    _lower_trim(builder, x, y)
    _wheels(builder, (-x + 1.4, x - 1.2), y, 0.48)
    _lamps(builder, x, y, 1.15)
    return builder.build()
