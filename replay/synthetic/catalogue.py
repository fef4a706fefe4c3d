"""The catalogue: meshes of everything that stands or moves in the synthetic world, and the materials they use.

Sizes are those of real things (cars 3.8-5.2 m, stop sign 0.9 m across, signal heads 1.1 m tall). The materials'
base colours are RGB 0..255 in full daylight; `LAMPS` are lit or dark by the state of the instance.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from replay.synthetic.meshes import Mesh, MeshBuilder, box_corners


class Material(IntEnum):
    """Index into a palette."""

    PAINT = 0
    GLASS = 1
    TYRE = 2
    HUB = 3
    TRIM = 4
    PLATE = 5
    HEADLAMP = 6
    TAIL_LAMP = 7
    BRAKE_LAMP = 8
    LEFT_INDICATOR = 9
    RIGHT_INDICATOR = 10
    SKIN = 11
    TROUSERS = 12
    METAL = 13
    SIGN_RED = 14
    SIGN_WHITE = 15
    SIGNAL_BODY = 16
    RED_LIGHT = 17
    YELLOW_LIGHT = 18
    GREEN_LIGHT = 19
    BARK = 20
    LEAVES = 21
    LEAVES_DARK = 22
    WALL = 23
    WINDOW = 24
    ROOF = 25
    STREET_LAMP = 26
    HAIR = 27


#: Colours of unlit materials; PAINT, LEAVES, WALL ... are overridden by the instance.
BASE_PALETTE: NDArray[np.float64] = np.array(
    [
        (150, 150, 155),  # PAINT
        (38, 46, 54),  # GLASS
        (24, 24, 26),  # TYRE
        (140, 142, 146),  # HUB
        (44, 45, 48),  # TRIM
        (215, 215, 208),  # PLATE
        (205, 208, 210),  # HEADLAMP
        (120, 22, 24),  # TAIL_LAMP
        (128, 18, 20),  # BRAKE_LAMP
        (150, 96, 40),  # LEFT_INDICATOR
        (150, 96, 40),  # RIGHT_INDICATOR
        (196, 150, 122),  # SKIN
        (52, 58, 78),  # TROUSERS
        (120, 124, 128),  # METAL
        (186, 24, 32),  # SIGN_RED
        (232, 232, 230),  # SIGN_WHITE
        (32, 34, 34),  # SIGNAL_BODY
        (62, 18, 18),  # RED_LIGHT
        (62, 50, 16),  # YELLOW_LIGHT
        (16, 52, 32),  # GREEN_LIGHT
        (84, 66, 50),  # BARK
        (72, 104, 48),  # LEAVES
        (50, 78, 36),  # LEAVES_DARK
        (168, 156, 140),  # WALL
        (62, 74, 88),  # WINDOW
        (104, 72, 62),  # ROOF
        (190, 190, 180),  # STREET_LAMP
        (50, 38, 30),  # HAIR
    ],
    np.float64,
)

#: Colours of lamps while they shine.
LIT_PALETTE: dict[Material, tuple[float, float, float]] = {
    Material.HEADLAMP: (255, 250, 225),
    Material.TAIL_LAMP: (176, 22, 24),
    Material.BRAKE_LAMP: (255, 40, 36),
    Material.LEFT_INDICATOR: (255, 170, 40),
    Material.RIGHT_INDICATOR: (255, 170, 40),
    Material.RED_LIGHT: (255, 44, 36),
    Material.YELLOW_LIGHT: (255, 196, 40),
    Material.GREEN_LIGHT: (40, 250, 150),
    Material.STREET_LAMP: (255, 226, 170),
    Material.WINDOW: (232, 200, 130),
}

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


@cache
def pedestrian(step: int) -> Mesh:
    """A walking person; `step` 0..3 is the phase of the stride."""
    stride = (0.0, 0.22, 0.0, -0.22)[step % 4]
    builder = MeshBuilder()
    for side, swing in ((1.0, stride), (-1.0, -stride)):
        y0, y1 = sorted((side * 0.02, side * 0.19))
        foot = (swing - 0.08, swing + 0.10, y0, y1)
        builder.prism(foot, (-0.09, 0.09, y0, y1), (0.0, 0.86), Material.TROUSERS)
        arm = sorted((side * 0.24, side * 0.33))
        hand = (-swing - 0.05, -swing + 0.05, arm[0], arm[1])
        builder.prism(hand, (-0.06, 0.06, arm[0], arm[1]), (0.80, 1.42), Material.PAINT, detail=True)
    builder.prism((-0.12, 0.12, -0.21, 0.21), (-0.12, 0.12, -0.25, 0.25), (0.84, 1.46), Material.PAINT, 1)
    builder.ball((0.02, 0.0, 1.63), 0.125, Material.SKIN, 2)
    builder.ball((-0.03, 0.0, 1.67), 0.115, Material.HAIR, 3)
    return builder.build(box_corners(np.array([[-0.25, -0.3, 0.0], [0.25, 0.3, 1.78]])))


@cache
def cyclist() -> Mesh:
    """A rider on a bicycle, 1.8 m long."""
    builder = MeshBuilder()
    for axle in (-0.52, 0.52):
        for left in (True, False):
            side = 0.02 if left else -0.02
            builder.disc_y((axle, side, 0.34), 0.34, left, Material.TYRE, 0, detail=False)
            builder.disc_y((axle, side * 1.5, 0.34), 0.27, left, Material.HUB, 1)
    builder.prism((-0.5, 0.5, -0.03, 0.03), (-0.2, 0.45, -0.03, 0.03), (0.34, 0.85), Material.METAL, 1, detail=True)
    builder.prism((0.05, 0.25, -0.16, 0.16), (-0.22, 0.02, -0.14, 0.14), (0.35, 0.95), Material.TROUSERS, 2)
    builder.prism((-0.25, 0.02, -0.18, 0.18), (0.08, 0.34, -0.22, 0.22), (0.92, 1.45), Material.PAINT, 3)
    builder.ball((0.30, 0.0, 1.60), 0.13, Material.SKIN, 4)
    builder.ball((0.28, 0.0, 1.66), 0.13, Material.TRIM, 5)
    return builder.build(box_corners(np.array([[-0.88, -0.25, 0.0], [0.88, 0.25, 1.78]])))


STOP_SIGN_CENTRE_M = 2.25
STOP_SIGN_RADIUS_M = 0.46


@cache
def stop_sign() -> Mesh:
    """A stop sign whose face looks along +x. The label covers the plate only."""
    builder = MeshBuilder()
    builder.prism((-0.04, 0.0, -0.04, 0.04), (-0.04, 0.0, -0.04, 0.04), (0.0, 2.6), Material.METAL)
    centre = (0.0, STOP_SIGN_CENTRE_M)
    builder.octagon_x(0.02, centre, STOP_SIGN_RADIUS_M * 1.08, Material.SIGN_WHITE, 1)
    builder.octagon_x(0.03, centre, STOP_SIGN_RADIUS_M, Material.SIGN_RED, 2)
    builder.octagon_x(-0.05, centre, STOP_SIGN_RADIUS_M * 1.08, Material.METAL, 1)
    for letter in range(4):
        left = 0.30 - letter * 0.16
        builder.panel_x(0.04, (left - 0.11, left), (centre[1] - 0.12, centre[1] + 0.12), Material.SIGN_WHITE, 3, False)
        middle = (left - 0.075, left - 0.035)
        builder.panel_x(0.05, middle, (centre[1] - 0.05, centre[1] + 0.06), Material.SIGN_RED, 4)
    radius = STOP_SIGN_RADIUS_M * 1.03
    plate = [[0.0, -radius, centre[1] - radius], [0.05, radius, centre[1] + radius]]
    return builder.build(box_corners(np.array(plate)))


@cache
def signal_post(height_m: float, reach_m: float) -> Mesh:
    """The post of a signal head at `height_m`, with an arm towards -y when the head hangs `reach_m` from it."""
    builder = MeshBuilder()
    post = (-0.12, -0.02, -0.06, 0.06)
    builder.prism(post, post, (0.0, height_m + (1.2 if reach_m else 0.1)), Material.METAL)
    if reach_m:
        arm = (-0.12, -0.02, -reach_m, 0.0)
        builder.prism(arm, arm, (height_m + 0.95, height_m + 1.1), Material.METAL, with_bottom=True)
    return builder.build()


@cache
def traffic_light(height_m: float) -> Mesh:
    """A signal head facing +x with its foot at `height_m`."""
    builder = MeshBuilder()
    head = (-0.1, 0.12, -0.21, 0.21)
    builder.prism(head, head, (height_m, height_m + 1.15), Material.SIGNAL_BODY, 1, with_bottom=True)
    for index, material in enumerate((Material.GREEN_LIGHT, Material.YELLOW_LIGHT, Material.RED_LIGHT)):
        centre_z = height_m + 0.2 + index * 0.37
        builder.octagon_x(0.14, (0.0, centre_z), 0.155, material, 2)
        builder.glow((0.15, 0.0, centre_z), 0.2, material, 3, 1.0)
    corners = [[-0.1, -0.21, height_m], [0.12, 0.21, height_m + 1.15]]
    return builder.build(box_corners(np.array(corners)))


@cache
def tree(kind: int) -> Mesh:
    """One of a few trees; balls of leaves on a trunk."""
    generator = np.random.Generator(np.random.PCG64(1000 + kind))
    height = float(generator.uniform(4.0, 8.5))
    spread = height * float(generator.uniform(0.2, 0.3))
    builder = MeshBuilder()
    builder.prism((-0.17, 0.17, -0.17, 0.17), (-0.1, 0.1, -0.1, 0.1), (0.0, height * 0.55), Material.BARK)
    for index in range(6):
        angle, out = generator.uniform(0, 2 * np.pi), spread * generator.uniform(0.15, 0.75)
        centre = (out * np.cos(angle), out * np.sin(angle), height * generator.uniform(0.5, 0.85))
        material = Material.LEAVES_DARK if index < 3 else Material.LEAVES
        builder.ball(centre, spread * float(generator.uniform(0.45, 0.8)), material, 1 + index)
    return builder.build()


@cache
def branch() -> Mesh:
    """A leafy branch that hangs from above: what half hides a stop sign. Its middle is 2.3 m above the ground."""
    builder = MeshBuilder()
    builder.prism((-0.03, 0.03, -0.9, 0.0), (-0.03, 0.03, -0.9, 0.0), (2.45, 2.53), Material.BARK)
    for index, (y, z) in enumerate(((-0.36, 2.45), (0.0, 2.15), (0.1, 2.5), (-0.3, 2.05), (0.36, 2.3))):
        builder.ball((0.0, y, z), 0.36, Material.LEAVES if index % 2 else Material.LEAVES_DARK, 1)
    return builder.build()


@cache
def building(kind: int) -> Mesh:
    """One of a few houses; the long side lies along x. Windows on all sides."""
    generator = np.random.Generator(np.random.PCG64(2000 + kind))
    x, y = float(generator.uniform(5, 12)), float(generator.uniform(4, 7))
    floors = int(generator.integers(1, 6))
    height = 3.2 * floors + 0.6
    builder = MeshBuilder()
    builder.prism((-x, x, -y, y), (-x, x, -y, y), (0.0, height), Material.WALL)
    if floors <= 2:
        ridge = (-x, x, -0.1, 0.1)
        builder.prism((-x - 0.3, x + 0.3, -y - 0.4, y + 0.4), ridge, (height, height + 2.6), Material.ROOF, 2)
    for floor in range(floors):
        z = (3.2 * floor + 1.2, 3.2 * floor + 2.6)
        for side in (-1.0, 1.0):
            _window_row(builder, side * (y + 0.03), x, z, along_x=True)
            _window_row(builder, side * (x + 0.03), y, z, along_x=False)
    return builder.build()


def _window_row(builder: MeshBuilder, face: float, half_m: float, z: tuple[float, float], along_x: bool) -> None:
    """Windows of 1.6 m, 2.8 m apart, on one face and floor."""
    count = max(1, int(half_m * 2 / 2.8))
    for index in range(count):
        middle = (index + 0.5) / count * 2 * half_m - half_m
        span = (middle - 0.8, middle + 0.8)
        if along_x:
            builder.panel_y(face, span, z, Material.WINDOW, 1)
        else:
            builder.panel_x(face, span, z, Material.WINDOW, 1)


@cache
def street_lamp() -> Mesh:
    """A lamp post whose arm reaches 2 m towards +y."""
    builder = MeshBuilder()
    builder.prism((-0.07, 0.07, -0.07, 0.07), (-0.05, 0.05, -0.05, 0.05), (0.0, 7.0), Material.METAL)
    builder.prism((-0.05, 0.05, 0.0, 2.0), (-0.05, 0.05, 0.0, 2.0), (6.9, 7.0), Material.METAL, with_bottom=True)
    lamp = (-0.15, 0.15, 1.5, 2.2)
    builder.prism(lamp, lamp, (6.8, 6.9), Material.STREET_LAMP, 1, with_bottom=True)
    builder.glow((0.0, 1.85, 6.8), 0.25, Material.STREET_LAMP, 2, 0.0)
    return builder.build()


@cache
def pole() -> Mesh:
    """A plain post."""
    builder = MeshBuilder()
    builder.prism((-0.1, 0.1, -0.1, 0.1), (-0.1, 0.1, -0.1, 0.1), (0.0, 6.5), Material.BARK)
    return builder.build()
