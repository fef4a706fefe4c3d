"""Scenery: everything beside and on the road that does not move, placed at random along it.

`Scenery` holds things (trees, houses, parked cars, signs, signals, lamps) and ground marks (lane dashes, stop lines,
zebra crossings, patches of asphalt and grass), both sorted by their place along the road so that a frame looks
only at what is near. Marks are flat quadrilaterals on the ground; `Mark.LINE` ones are lane lines for the masks.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from replay.synthetic import catalogue
from replay.synthetic.materials import Material
from replay.synthetic.road import Road
from replay.synthetic.things import Colour, Thing

FloatArray = NDArray[np.float64]

JUNCTION_HALF_WIDTH_M = 7.0
STOP_LINE_SETBACK_M = 3.5
FIRST_JUNCTION_M = 90.0
WHITE: Colour = (226, 226, 220)


class Mark(IntEnum):
    """What a ground mark is, in painting order."""

    VERGE = 0
    ASPHALT = 1
    PAINT = 2
    LINE = 3
    SHADOW = 4


@dataclass(frozen=True, slots=True)
class Junction:
    """A signalled crossing: where its stop line is and the signal heads that face the car."""

    stop_line_s_m: float
    centre_s_m: float
    heads: tuple[tuple[float, float, float], ...]  # d, foot height, mast offset of each head


@dataclass(frozen=True, slots=True)
class Colours:
    """The ground's and the air's own colours in full daylight."""

    verge: Colour
    asphalt: Colour
    parking: Colour
    pavement: Colour
    kerb: Colour
    median: Colour
    line: Colour


@dataclass(slots=True)
class Scenery:
    """Static content of a road; see `near_things` and `near_marks`."""

    road: Road
    colours: Colours
    junctions: list[Junction] = field(default_factory=list)
    _things: list[tuple[float, Thing]] = field(default_factory=list)
    _marks: list[tuple[float, Mark, FloatArray, Colour]] = field(default_factory=list)
    _thing_s: list[float] = field(default_factory=list)
    _mark_s: FloatArray = field(default_factory=lambda: np.zeros(0))
    _mark_quads: FloatArray = field(default_factory=lambda: np.zeros((0, 4, 3)))
    _mark_kinds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _mark_colours: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))

    def add_thing(self, s_m: float, thing: Thing) -> None:
        """Place a thing; call `freeze` after the last one."""
        self._things.append((s_m, thing))

    def add_mark(self, s_m: tuple[float, float], d_m: tuple[float, float], kind: Mark, colour: Colour) -> None:
        """A mark between two places along and two across the road."""
        s = np.array([s_m[0], s_m[1], s_m[1], s_m[0]])
        d = np.array([d_m[0], d_m[0], d_m[1], d_m[1]])
        self._marks.append((s_m[0], kind, self.road.points(s, d), colour))

    def freeze(self) -> None:
        """Sort by place, so that looking up what is near is quick."""
        self._things.sort(key=lambda item: item[0])
        self._marks.sort(key=lambda item: item[0])
        self._thing_s = [s for s, _ in self._things]
        self._mark_s = np.array([mark[0] for mark in self._marks])
        self._mark_kinds = np.array([int(mark[1]) for mark in self._marks], np.int64)
        self._mark_quads = np.array([mark[2] for mark in self._marks]).reshape(-1, 4, 3)
        self._mark_colours = np.array([mark[3] for mark in self._marks], np.float64).reshape(-1, 3)

    def near_things(self, s_m: float, behind_m: float, ahead_m: float) -> list[Thing]:
        """Things between two distances from a place along the road."""
        first = bisect_left(self._thing_s, s_m - behind_m)
        last = bisect_right(self._thing_s, s_m + ahead_m)
        return [thing for _, thing in self._things[first:last]]

    def near_marks(
        self, s_m: float, behind_m: float, ahead_m: float
    ) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
        """Quadrilaterals [M, 4, 3], kinds [M] and colours [M, 3] of the marks near a place."""
        first = int(np.searchsorted(self._mark_s, s_m - behind_m))
        last = int(np.searchsorted(self._mark_s, s_m + ahead_m))
        part = slice(first, last)
        return self._mark_quads[part], self._mark_kinds[part], self._mark_colours[part]


def random_colours(generator: np.random.Generator) -> Colours:
    """Ground colours of one road."""
    grey = float(generator.uniform(70, 118))
    tint = generator.uniform(-5, 5, 3)
    asphalt = (grey + tint[0], grey + tint[1], grey + tint[2])
    verge_bases = ((92, 116, 62), (112, 120, 76), (128, 114, 84), (84, 98, 64), (140, 136, 128))
    verge = np.array(verge_bases[int(generator.integers(len(verge_bases)))]) + generator.uniform(-12, 12, 3)
    pavement = float(generator.uniform(130, 178))
    line = float(generator.uniform(200, 240))
    shade = float(generator.uniform(0.86, 1.08))
    median = verge if generator.random() < 0.6 else np.array(asphalt) * 1.25
    return Colours(
        verge=_colour(verge),
        asphalt=_colour(asphalt),
        parking=_colour(np.array(asphalt) * shade),
        pavement=_colour((pavement, pavement * 0.985, pavement * 0.96)),
        kerb=_colour((pavement + 20, pavement + 20, pavement + 18)),
        median=_colour(median),
        line=(line, line, line * (1.0 if generator.random() < 0.7 else 0.72)),
    )


def _colour(values: object) -> Colour:
    red, green, blue = np.clip(np.asarray(values, np.float64), 0, 255).tolist()
    return (red, green, blue)


def build_scenery(
    road: Road, generator: np.random.Generator, lamps_on: bool, junction_places_m: Sequence[float]
) -> Scenery:
    """A whole road's scenery, ready for additions; call `freeze` on it before use."""
    scenery = Scenery(road, random_colours(generator))
    _junctions(scenery, generator, junction_places_m)
    _lane_lines(scenery)
    _patches(scenery, generator)
    _roadside(scenery, generator, lamps_on)
    return scenery


def junction_at(scenery: Scenery, s_m: float, margin_m: float = 2.0) -> bool:
    """Whether a place lies inside a junction."""
    return any(abs(s_m - j.centre_s_m) < JUNCTION_HALF_WIDTH_M + margin_m for j in scenery.junctions)


def random_junction_places(road_length_m: float, spacing_m: float, generator: np.random.Generator) -> list[float]:
    """Where junctions might be: about every `spacing_m`."""
    places = [FIRST_JUNCTION_M + float(generator.uniform(0, 60))]
    while places[-1] < road_length_m - 40:
        places.append(places[-1] + spacing_m * float(generator.uniform(0.75, 1.3)))
    return places[:-1]


def _junctions(scenery: Scenery, generator: np.random.Generator, places_m: Sequence[float]) -> None:
    style = scenery.road.style
    head_d = style.kerb_d_m - 0.6
    for s in places_m:
        heads = (
            (float(generator.uniform(-1.0, 1.0)), 5.2, head_d),
            (head_d, float(generator.uniform(2.6, 3.2)), 0.0),
        )
        scenery.junctions.append(Junction(s - JUNCTION_HALF_WIDTH_M - STOP_LINE_SETBACK_M, s, heads))
        _junction_marks(scenery, s, s + JUNCTION_HALF_WIDTH_M)


def _junction_marks(scenery: Scenery, s: float, far_side: float) -> None:
    """The crossing road, the stop line and the zebra crossing before it."""
    style, colours = scenery.road.style, scenery.colours
    near_side = s - JUNCTION_HALF_WIDTH_M
    for side in (-1.0, 1.0):
        reach = (style.kerb_d_m - 45.0, style.right_edge_d_m) if side < 0 else (style.left_edge_d_m, 60.0)
        scenery.add_mark((near_side, far_side), reach, Mark.ASPHALT, colours.asphalt)
    scenery.add_mark((near_side - 3.7, near_side - 3.3), (style.right_edge_d_m, style.left_edge_d_m), Mark.PAINT, WHITE)
    d = style.right_edge_d_m + 0.4
    while d < style.left_edge_d_m - 0.4:
        scenery.add_mark((near_side - 2.8, near_side - 0.3), (d, d + 0.5), Mark.PAINT, WHITE)
        d += 1.0


def _lane_lines(scenery: Scenery) -> None:
    """Dashed lines between the lanes, on both carriageways; solid ones are ribbons of the renderer."""
    style, road = scenery.road.style, scenery.road
    half = style.line_width_m / 2
    borders = [style.lane_centre_d_m(lane + 0.5) for lane in (0, 1)]
    borders += [style.oncoming_d_m[0] + lane * style.lane_width_m for lane in range(1, style.oncoming_lanes)]
    s = -100.0
    while s < road.length_m:
        if not junction_at(scenery, s + style.dash_m / 2, 3.0):
            for d in borders:
                scenery.add_mark((s, s + style.dash_m), (d - half, d + half), Mark.LINE, scenery.colours.line)
        s += style.dash_m + style.gap_m


def _patches(scenery: Scenery, generator: np.random.Generator) -> None:
    """Repairs and stains on the asphalt, clumps on the verge: what the eye holds on to when the car moves."""
    style, length = scenery.road.style, scenery.road.length_m
    asphalt, verge = np.array(scenery.colours.asphalt), np.array(scenery.colours.verge)
    for s in np.arange(-60.0, length, 9.0):
        along = float(s + generator.uniform(0, 7))
        d = float(generator.uniform(style.right_edge_d_m, style.left_edge_d_m - 1.5))
        size = generator.uniform((1.0, 0.4), (6.0, 2.2))
        shade = _colour(asphalt * generator.uniform(0.84, 1.1))
        scenery.add_mark((along, along + size[0]), (d, d + size[1]), Mark.ASPHALT, shade)
        for side in (-1.0, 1.0):
            edge = style.kerb_d_m - style.pavement_width_m if side < 0 else style.oncoming_d_m[1] + 4.0
            out = edge + side * float(generator.uniform(1.0, 14.0))
            size = generator.uniform((2.0, 1.5), (8.0, 6.0))
            shade = _colour(verge * generator.uniform(0.82, 1.14))
            across = (min(out, out + side * size[1]), max(out, out + side * size[1]))
            scenery.add_mark((along, along + size[0]), across, Mark.VERGE, shade)
    for s in np.arange(-60.0, length, 6.5):  # kerb-stone joints of the pavement
        scenery.add_mark(
            (float(s), float(s) + 0.12),
            (style.kerb_d_m - style.pavement_width_m, style.kerb_d_m),
            Mark.VERGE,
            _colour(np.array(scenery.colours.pavement) * 0.8),
        )


def _roadside(scenery: Scenery, generator: np.random.Generator, lamps_on: bool) -> None:
    """Trees, houses, lamps and poles on both sides; denser in some stretches than in others."""
    road, style = scenery.road, scenery.road.style
    leafy, built = float(generator.uniform(0.2, 0.9)), float(generator.uniform(0.15, 0.9))
    for side in (-1.0, 1.0):
        edge = style.kerb_d_m - style.pavement_width_m if side < 0 else style.oncoming_d_m[1] + 3.5
        for s in np.arange(-80.0, road.length_m, 11.0):
            if generator.random() < leafy and not junction_at(scenery, float(s), 5.0):
                d = edge + side * float(generator.uniform(0.8, 6.0))
                _place(scenery, float(s + generator.uniform(0, 6)), d, random_tree(generator))
        for s in np.arange(-80.0, road.length_m, 27.0):
            if generator.random() < built and not junction_at(scenery, float(s), 12.0):
                d = edge + side * float(generator.uniform(11.0, 18.0))
                _place(scenery, float(s), d, random_building(generator, side, lamps_on))
        for s in np.arange(-70.0, road.length_m, 34.0):
            if not junction_at(scenery, float(s), 3.0):
                lamp = Thing(catalogue.street_lamp(), 0, 0, 0.0 if side < 0 else math.pi)
                lamp.lit = frozenset({Material.STREET_LAMP} if lamps_on else ())
                _place(scenery, float(s), edge + side * -0.6, lamp)


def _place(scenery: Scenery, s_m: float, d_m: float, thing: Thing) -> None:
    put_on_road(scenery.road, thing, s_m, d_m, thing.yaw_rad)
    scenery.add_thing(s_m, thing)


def put_on_road(road: Road, thing: Thing, s_m: float, d_m: float, turn_rad: float) -> None:
    """Give a thing its world place; `turn_rad` is its heading against the road's."""
    x, y, _ = road.points(s_m, d_m)
    thing.x_m, thing.y_m = float(x), float(y)
    thing.yaw_rad = float(road.heading_rad(s_m)) + turn_rad


def random_tree(generator: np.random.Generator) -> Thing:
    """A tree with leaves of its own green (or autumn) shade."""
    light = np.array([76, 106, 50]) + generator.uniform((-25, -25, -18), (60, 20, 20))
    paint = {Material.LEAVES: _colour(light), Material.LEAVES_DARK: _colour(light * generator.uniform(0.62, 0.82))}
    kind = int(generator.integers(6))
    scale = float(generator.uniform(0.75, 1.25))
    return Thing(catalogue.tree(kind), 0, 0, float(generator.uniform(0, 6.28)), paint=paint, scale=scale)


def random_building(generator: np.random.Generator, side: float, lamps_on: bool) -> Thing:
    """A house along the road with its own colours."""
    wall = np.array([168, 154, 138]) + generator.uniform(-45, 50, 3) * [1, 0.8, 0.9]
    roof = np.array([104, 74, 64]) + generator.uniform(-30, 40)
    paint = {Material.WALL: _colour(wall), Material.ROOF: _colour(roof)}
    thing = Thing(catalogue.building(int(generator.integers(8))), 0, 0, 0.0 if side < 0 else math.pi, paint=paint)
    if generator.random() < 0.5 and lamps_on:
        thing.lit = frozenset({Material.WINDOW})
    return thing
