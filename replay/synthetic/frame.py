"""One instant of the world, seen from the car: everything near, in the vehicle frame, with its light already on it.

Built once per frame and shared by all cameras. Light: ambient plus Lambert's cosine law for the sun; at night the
car's own headlights; then haze by distance. What shines keeps its colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.synthetic.atmosphere import Atmosphere
from replay.synthetic.road import Road
from replay.synthetic.scenery import Mark, Scenery
from replay.synthetic.things import Colour, PosedMesh, Thing

FloatArray = NDArray[np.float64]

BEHIND_M = 70.0
AHEAD_M = 170.0
SHADOW_SHARE = 0.45  # light that is left below a vehicle
BALL_COSINE = 0.55  # a ball is painted flat, with the light of its middle
GROUND_LIGHT = 0.9  # how much of the sun the ground takes, against a surface that faces it


@dataclass(frozen=True, slots=True)
class EgoPose:
    """Where the car's rear axle is: along and across the road, and in the world."""

    s_m: float
    d_m: float
    x_m: float
    y_m: float
    yaw_rad: float

    @staticmethod
    def on_road(road: Road, s_m: float, d_m: float, turn_rad: float) -> EgoPose:
        """The pose at a place of the road, turned against its direction (left positive)."""
        x, y, _ = road.points(s_m, d_m)
        return EgoPose(s_m, d_m, float(x), float(y), float(road.heading_rad(s_m)) + turn_rad)

    def to_vehicle(self, world_points: FloatArray) -> FloatArray:
        """World points [..., 3] in the vehicle frame."""
        return self.rotated(world_points - np.array([self.x_m, self.y_m, 0.0]))

    def rotated(self, world_directions: FloatArray) -> FloatArray:
        """World directions [..., 3] in the vehicle frame."""
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.asarray(world_directions @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]))


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A strip along the road between two d, in painting order."""

    d_m: tuple[float, float]
    kind: Mark
    colour: Colour


@dataclass(frozen=True, slots=True)
class Ground:
    """What lies flat."""

    ribbons: FloatArray  # [R, 2 n, 3] closed outlines
    ribbon_kinds: list[Mark]
    ribbon_colours: list[tuple[int, int, int]]
    verge_colour: tuple[int, int, int]
    marks: FloatArray  # [M, 4, 3]
    mark_kinds: NDArray[np.int64]
    mark_colours: FloatArray


@dataclass(frozen=True, slots=True)
class Faces:
    """All quadrilaterals of all things."""

    quads: FloatArray  # [Q, 4, 3]
    normals: FloatArray  # [Q, 3]
    colours: NDArray[np.int64]  # [Q, 3]
    owner: NDArray[np.int64]  # [Q] row in things
    layer: NDArray[np.int64]  # [Q]
    detail: NDArray[np.bool_]  # [Q]


@dataclass(frozen=True, slots=True)
class Balls:
    """All balls and glows of all things."""

    places: FloatArray  # [B, 4] centre and radius
    colours: NDArray[np.int64]  # [B, 3]
    owner: NDArray[np.int64]  # [B] row in things
    layer: NDArray[np.int64]  # [B]
    facing: FloatArray  # [B, 3]


@dataclass(frozen=True, slots=True)
class Frame:
    """Arrays in the vehicle frame; colours are final RGB."""

    ego: EgoPose
    atmosphere: Atmosphere
    ground: Ground
    things: list[Thing]
    centres: FloatArray  # [T, 3]
    radii: FloatArray  # [T]
    heights_m: FloatArray  # [T]
    faces: Faces
    balls: Balls


@dataclass(frozen=True, slots=True)
class _Lighting:
    """The light on each thing."""

    atmosphere: Atmosphere
    headlight: FloatArray  # [T]
    clear: FloatArray  # [T]

    def on(self, cosine: FloatArray, owner: NDArray[np.int64]) -> FloatArray:
        """[N, 3] light on surfaces with this cosine towards the sun; undersides get a little less of the sky."""
        sky = 0.9 + 0.1 * np.clip(cosine, -1, 1)
        light = self.atmosphere.ambient * sky[:, None] + self.atmosphere.sun * np.maximum(cosine, 0.0)[:, None]
        return np.asarray(light * self.atmosphere.exposure + self.headlight[owner, None])

    def seen(
        self,
        colours: list[FloatArray],
        shines: list[NDArray[np.bool_]],
        light: FloatArray,
        owner: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """[N, 3] final colours: lit or shining, through the air."""
        base = _joined(colours, (0, 3))
        lit = np.where(_joined(shines, (0,)).astype(bool)[:, None], base, base * light)
        clear = self.clear[owner, None]
        through = lit * clear + self.atmosphere.haze * self.atmosphere.exposure * (1 - clear)
        return np.asarray(np.clip(through, 0, 255), np.int64)


def build_frame(scenery: Scenery, atmosphere: Atmosphere, ego: EgoPose, moving: Sequence[Thing]) -> Frame:
    """Collect and light everything near the car."""
    things = scenery.near_things(ego.s_m, BEHIND_M, AHEAD_M) + list(moving)
    posed = [thing.posed() for thing in things]
    centres = ego.to_vehicle(np.array([p.centre for p in posed]).reshape(-1, 3))
    lighting = _Lighting(atmosphere, _headlight(atmosphere, centres), _clear_air(atmosphere, centres))
    return Frame(
        ego=ego,
        atmosphere=atmosphere,
        ground=_ground(scenery, atmosphere, ego, things),
        things=things,
        centres=centres,
        radii=np.array([p.radius_m for p in posed]),
        heights_m=np.array([thing.mesh.height_m * thing.scale for thing in things]),
        faces=_faces(ego, things, posed, lighting),
        balls=_balls(ego, posed, lighting),
    )


def _faces(ego: EgoPose, things: list[Thing], posed: list[PosedMesh], lighting: _Lighting) -> Faces:
    owner = np.repeat(np.arange(len(posed)), [len(p.quads) for p in posed])
    normals = _joined([p.normals for p in posed], (0, 3))
    light = lighting.on(normals @ lighting.atmosphere.sun_direction, owner)
    return Faces(
        quads=ego.to_vehicle(_joined([p.quads for p in posed], (0, 4, 3))),
        normals=ego.rotated(normals),
        colours=lighting.seen([p.colours for p in posed], [p.shines for p in posed], light, owner),
        owner=owner,
        layer=_joined([thing.mesh.layer for thing in things], (0,)).astype(np.int64),
        detail=_joined([thing.mesh.detail for thing in things], (0,)).astype(bool),
    )


def _balls(ego: EgoPose, posed: list[PosedMesh], lighting: _Lighting) -> Balls:
    owner = np.repeat(np.arange(len(posed)), [len(p.balls) for p in posed])
    light = lighting.on(np.full(len(owner), BALL_COSINE), owner)
    places = _joined([p.balls for p in posed], (0, 4)).copy()
    places[:, :3] = ego.to_vehicle(places[:, :3])
    return Balls(
        places=places,
        colours=lighting.seen([p.ball_colours for p in posed], [p.ball_shines for p in posed], light, owner),
        owner=owner,
        layer=_joined([p.ball_layer for p in posed], (0,)).astype(np.int64),
        facing=ego.rotated(_joined([p.ball_facing for p in posed], (0, 3))),
    )


def _ground(scenery: Scenery, atmosphere: Atmosphere, ego: EgoPose, things: list[Thing]) -> Ground:
    light = _ground_light(atmosphere)
    strips = ribbons_of(scenery)
    marks, kinds, colours = _marks(scenery, atmosphere, ego, things)
    return Ground(
        ribbons=ego.to_vehicle(_ribbon_outlines(scenery.road, ego.s_m, strips)),
        ribbon_kinds=[strip.kind for strip in strips],
        ribbon_colours=[_rgb(np.array(strip.colour) * light) for strip in strips],
        verge_colour=_rgb(np.array(scenery.colours.verge) * light),
        marks=ego.to_vehicle(marks),
        mark_kinds=kinds,
        mark_colours=colours,
    )


def _marks(
    scenery: Scenery, atmosphere: Atmosphere, ego: EgoPose, things: list[Thing]
) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """Ground marks with their light, and a shadow under everything that has one."""
    quads, kinds, colours = scenery.near_marks(ego.s_m, BEHIND_M, AHEAD_M)
    lit = np.clip(colours * _ground_light(atmosphere), 0, 255)
    shadows = [shadow for thing in things if (shadow := thing.shadow()) is not None]
    if not shadows:
        return quads, kinds, lit
    dark = np.array(scenery.colours.asphalt) * _ground_light(atmosphere) * SHADOW_SHARE
    return (
        np.concatenate((quads, np.array(shadows))),
        np.concatenate((kinds, np.full(len(shadows), int(Mark.SHADOW)))),
        np.concatenate((lit, np.broadcast_to(dark, (len(shadows), 3)))),
    )


def ribbons_of(scenery: Scenery) -> list[Ribbon]:
    """The road's strips: surfaces first, then solid lines."""
    style, colours = scenery.road.style, scenery.colours
    near, far = style.oncoming_d_m
    half = style.line_width_m / 2
    strips = [
        Ribbon((style.kerb_d_m - style.pavement_width_m, style.kerb_d_m), Mark.VERGE, colours.pavement),
        Ribbon((far + 0.5, far + 3.5), Mark.VERGE, colours.pavement),
        Ribbon((style.kerb_d_m - 0.15, style.kerb_d_m), Mark.VERGE, colours.kerb),
        Ribbon((style.kerb_d_m, style.right_edge_d_m), Mark.VERGE, colours.parking),
        Ribbon((near - 0.3, far + 0.5), Mark.VERGE, colours.asphalt),
        Ribbon((style.left_edge_d_m, near), Mark.VERGE, colours.median),
        Ribbon((style.right_edge_d_m - 0.05, style.left_edge_d_m + 0.3), Mark.ASPHALT, colours.asphalt),
    ]
    for d in (style.right_edge_d_m + 0.1, style.left_edge_d_m - 0.05, near + 0.1, far - 0.1):
        strips.append(Ribbon((d - half, d + half), Mark.LINE, colours.line))
    return strips


def _ribbon_outlines(road: Road, s_m: float, strips: list[Ribbon]) -> FloatArray:
    """[R, 2 n, 3] world outlines: up one edge and down the other; samples are closer together near the car."""
    steps = np.concatenate((np.arange(-BEHIND_M, -12.0, 4.0), np.arange(-12.0, 24.0, 1.5), np.arange(24.0, AHEAD_M, 5)))
    right = np.array([strip.d_m[0] for strip in strips])
    left = np.array([strip.d_m[1] for strip in strips])
    along = s_m + steps
    up = road.points(along[None, :], right[:, None])
    down = road.points(along[None, ::-1], left[:, None])
    return np.concatenate((up, down), axis=1)


def _ground_light(atmosphere: Atmosphere) -> FloatArray:
    wet = 1.0 - 0.3 * atmosphere.rain
    upward = max(0.0, float(atmosphere.sun_direction[2]))
    return (atmosphere.ambient + atmosphere.sun * upward * GROUND_LIGHT) * atmosphere.exposure * wet


def _headlight(atmosphere: Atmosphere, centres: FloatArray) -> FloatArray:
    """Extra light on things in the cone of the car's own headlights."""
    if not atmosphere.is_dark:
        return np.zeros(len(centres))
    ahead = centres[:, 0] - 3.0
    cone = np.exp(-((centres[:, 1] / (0.25 * np.abs(ahead) + 3.0)) ** 2))
    return np.where(ahead > 0, 0.75 * cone * np.exp(-np.abs(ahead) / 35.0), 0.0)


def _clear_air(atmosphere: Atmosphere, centres: FloatArray) -> FloatArray:
    """Share of a thing's own colour that comes through the air."""
    return np.asarray(np.exp(-3.0 * np.linalg.norm(centres, axis=-1) / atmosphere.visibility_m))


def _joined(parts: Sequence[NDArray[Any]], empty_shape: tuple[int, ...]) -> FloatArray:
    return np.concatenate(parts) if parts else np.zeros(empty_shape)


def _rgb(colour: FloatArray) -> tuple[int, int, int]:
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue
