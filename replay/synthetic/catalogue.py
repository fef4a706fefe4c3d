"""Meshes of people, signs, signals and the roadside, in real sizes (signal heads 1.15 m, stop signs 0.92 m across)."""

from __future__ import annotations

from functools import cache

import numpy as np

from replay.synthetic.materials import Material
from replay.synthetic.meshes import Mesh, MeshBuilder, box_corners


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
