"""Things: instances of meshes at a place in the world, with the paint, lamps and label of that one instance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from replay.synthetic.materials import BASE_PALETTE, LIT_PALETTE, Material
from replay.synthetic.meshes import Mesh

FloatArray = NDArray[np.float64]
Colour = tuple[float, float, float]

CASTS_SHADOW = ("vehicle", "pedestrian", "cyclist")
SHADOW_SPREAD = 1.06


@dataclass(slots=True, eq=False)
class Thing:
    """One mesh somewhere in the world.

    `class_name` is None for what has no label (trees, houses). `must_face` limits the label to cameras that see the
    thing's front (+x): a sign or a signal head from behind is not one.
    """

    mesh: Mesh
    x_m: float
    y_m: float
    yaw_rad: float
    class_name: str | None = None
    track_id: int = -1
    state: str | None = None
    must_face: bool = False
    scale: float = 1.0
    paint: Mapping[Material, Colour] = field(default_factory=dict)
    lit: frozenset[Material] = frozenset()
    z_m: float = 0.0
    _posed: PosedMesh | None = None

    def posed(self) -> PosedMesh:
        """The mesh in world coordinates; kept, because most things never move."""
        if self._posed is None:
            self._posed = _pose(self)
        return self._posed

    def shadow(self) -> FloatArray | None:
        """[4, 3] the ground below it, for what moves on the ground; None for signs, trees and houses."""
        if self.class_name not in CASTS_SHADOW:
            return None
        corners = self.mesh.label_points
        x0, y0, _ = corners.min(axis=0) * self.scale * SHADOW_SPREAD
        x1, y1, _ = corners.max(axis=0) * self.scale * SHADOW_SPREAD
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        outline = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        return np.array([(self.x_m + x * cos - y * sin, self.y_m + x * sin + y * cos, 0.0) for x, y in outline])


@dataclass(frozen=True, slots=True)
class PosedMesh:
    """A mesh in world coordinates with the colours of its instance."""

    quads: FloatArray  # [Q, 4, 3]
    normals: FloatArray  # [Q, 3]
    colours: FloatArray  # [Q, 3]
    shines: NDArray[np.bool_]  # [Q]
    balls: FloatArray  # [B, 4]
    ball_colours: FloatArray  # [B, 3]
    ball_shines: NDArray[np.bool_]  # [B]
    ball_layer: NDArray[np.int64]  # [B]
    ball_facing: FloatArray  # [B, 3]
    label_points: FloatArray  # [P, 3]
    centre: FloatArray  # [3]
    radius_m: float


def _pose(thing: Thing) -> PosedMesh:
    mesh = thing.mesh
    cos, sin = math.cos(thing.yaw_rad), math.sin(thing.yaw_rad)
    rotation = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])  # for row vectors
    origin = np.array([thing.x_m, thing.y_m, thing.z_m])
    palette, is_lit = _palette(thing)
    balls = mesh.balls.copy()
    balls[:, :3] = balls[:, :3] * thing.scale @ rotation + origin
    balls[:, 3] *= thing.scale
    seen = ~mesh.ball_is_light | is_lit[mesh.ball_material]
    return PosedMesh(
        quads=mesh.quads * thing.scale @ rotation + origin,
        normals=mesh.normals @ rotation,
        colours=palette[mesh.material],
        shines=is_lit[mesh.material],
        balls=balls[seen],
        ball_colours=palette[mesh.ball_material][seen],
        ball_shines=is_lit[mesh.ball_material][seen],
        ball_layer=mesh.ball_layer[seen],
        ball_facing=(mesh.ball_facing @ rotation)[seen],
        label_points=mesh.label_points * thing.scale @ rotation + origin,
        centre=origin + np.array([0.0, 0.0, mesh.height_m * thing.scale / 2]),
        radius_m=mesh.radius_m * thing.scale,
    )


def _palette(thing: Thing) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Colours by material, and which materials shine."""
    palette = BASE_PALETTE.copy()
    is_lit = np.zeros(len(palette), bool)
    for material, colour in thing.paint.items():
        palette[material] = colour
    for material in thing.lit:
        palette[material] = LIT_PALETTE[material]
        is_lit[material] = True
    return palette, is_lit
