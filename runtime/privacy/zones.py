"""Places of which nothing may be sealed: files of circles and polygons, and whether a point is in or near one.

    zones:                            # WGS 84, as in rule files
      home: {circle: {latitude_deg: 56.0, longitude_deg: 18.5, radius_m: 300}}
      clinic: {polygon: [[56.01, 18.50], [56.01, 18.504], [56.013, 18.504]]}

A zone counts as wider by a margin: for the receiver's error, and for the way between two fixes. Distances are measured
on a plane that touches the Earth at the point asked about, which is exact to centimetres at such margins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from runtime.formats.documents import DocumentError, Problem, load_document, validate
from triggers.language.zones import EARTH_RADIUS_M, Circle, Polygon, Zone, distance_m, unrolled
from triggers.rules.format import MAX_NAMES, Name, Section, ZoneSection

_METRES_PER_DEGREE = math.radians(EARTH_RADIUS_M)
#: Cosines of latitude below this are too close to a pole for a box of degrees.
_NEAR_THE_POLE = 0.01
#: Distances on the ball are a little shorter than on the box.
_SLACK = 1.2


@dataclass(frozen=True, slots=True)
class _Bounds:
    """A box of degrees around a zone: most points are far from most zones, and need no more than this."""

    south_deg: float
    north_deg: float
    west_deg: float
    width_deg: float
    narrowest: float  # cosine of the latitude farthest from the equator

    def are_far(self, latitude_deg: float, longitude_deg: float, reach_deg: float) -> bool:
        """True when the point is certainly farther than `reach_deg` of latitude from the zone."""
        if not self.south_deg - reach_deg <= latitude_deg <= self.north_deg + reach_deg:
            return True
        narrowing = min(self.narrowest, math.cos(math.radians(latitude_deg)))
        if narrowing < _NEAR_THE_POLE:
            return False
        sideways_deg = reach_deg / narrowing * _SLACK
        east_deg = (longitude_deg - self.west_deg + sideways_deg) % 360.0
        return east_deg > self.width_deg + 2 * sideways_deg


@dataclass(frozen=True, slots=True)
class ExclusionZone:
    """A named place."""

    name: str
    source: str  # the file or campaign that says so
    zone: Zone
    _bounds: _Bounds = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_bounds", _bounds_of(self.zone))

    def is_near(self, latitude_deg: float, longitude_deg: float, margin_m: float) -> bool:
        """Whether the point is inside, or outside by at most `margin_m`."""
        if self._bounds.are_far(latitude_deg, longitude_deg, margin_m / _METRES_PER_DEGREE):
            return False
        if isinstance(self.zone, Circle):
            away_m = distance_m(self.zone.latitude_deg, self.zone.longitude_deg, latitude_deg, longitude_deg)
            return away_m <= self.zone.radius_m + margin_m
        if self.zone.contains(latitude_deg, longitude_deg):
            return True
        return margin_m > 0 and _is_near_edge(self.zone, latitude_deg, longitude_deg, margin_m)


class _ZonesFile(Section):
    zones: dict[Name, ZoneSection] = Field(min_length=1, max_length=MAX_NAMES)


def _bounds_of(zone: Zone) -> _Bounds:
    if isinstance(zone, Circle):
        half_deg = zone.radius_m / _METRES_PER_DEGREE
        south_deg, north_deg = zone.latitude_deg - half_deg, zone.latitude_deg + half_deg
        narrowest = math.cos(math.radians(min(max(abs(south_deg), abs(north_deg)), 90.0)))
        # The meridians that touch a cap: sin(half width) = sin(radius) / cos(latitude of its middle).
        sine = math.sin(math.radians(min(half_deg, 90.0))) / max(math.cos(math.radians(zone.latitude_deg)), 1e-9)
        half_width_deg = math.degrees(math.asin(sine)) if sine < 1.0 and narrowest > _NEAR_THE_POLE else 180.0
        return _Bounds(south_deg, north_deg, zone.longitude_deg - half_width_deg, 2 * half_width_deg, narrowest)
    corners = unrolled(zone.corners)
    latitudes_deg, longitudes_deg = [corner[0] for corner in corners], [corner[1] for corner in corners]
    narrowest = math.cos(math.radians(max(map(abs, latitudes_deg))))
    west_deg = min(longitudes_deg)
    return _Bounds(min(latitudes_deg), max(latitudes_deg), west_deg, max(longitudes_deg) - west_deg, narrowest)


def load_zones(path: Path, source: str = "") -> list[ExclusionZone]:
    """The zones of a file. DocumentError with every problem; it holds at least one zone."""
    section = validate(load_document(path), _ZonesFile)
    return [ExclusionZone(name, source or str(path), zone.zone()) for name, zone in section.zones.items()]


def zone_problems(path: Path) -> Sequence[Problem]:
    """What is wrong with a file of zones; nothing when it can be used."""
    try:
        load_zones(path)
    except DocumentError as error:
        return error.problems
    return ()


class ZoneFiles:
    """The zones of some files, read again when one of them changes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._seen: list[tuple[int, int, int]] = []
        self.known: list[ExclusionZone] = []

    def zones(self) -> list[ExclusionZone]:
        """All of them. DocumentError or OSError when one of the files cannot be used: then none are known."""
        statuses = [path.stat() for path in self._paths]
        seen = [(status.st_ino, status.st_mtime_ns, status.st_size) for status in statuses]
        if seen != self._seen:
            self._seen = []
            self.known = [zone for path in self._paths for zone in load_zones(path)]
            self._seen = seen
        return list(self.known)


def first_near(
    zones: Iterable[ExclusionZone], latitude_deg: float, longitude_deg: float, margin_m: float
) -> ExclusionZone | None:
    """The first zone that the point is in or near."""
    return next((zone for zone in zones if zone.is_near(latitude_deg, longitude_deg, margin_m)), None)


def _is_near_edge(polygon: Polygon, latitude_deg: float, longitude_deg: float, margin_m: float) -> bool:
    corners = unrolled(polygon.corners)
    narrowing = math.cos(math.radians(latitude_deg))
    before = corners[-1]
    for corner in corners:
        start = _metres_from(before, latitude_deg, longitude_deg, narrowing)
        turn_deg = (corner[1] - before[1] + 180.0) % 360.0 - 180.0  # the edge's own way round the Earth
        end = ((corner[0] - latitude_deg) * _METRES_PER_DEGREE, start[1] + turn_deg * _METRES_PER_DEGREE * narrowing)
        if _distance_to_segment_m(start, end) <= margin_m:
            return True
        before = corner
    return False


def _metres_from(
    corner: tuple[float, float], latitude_deg: float, longitude_deg: float, narrowing: float
) -> tuple[float, float]:
    """North and east of the point."""
    east_deg = (corner[1] - longitude_deg + 180.0) % 360.0 - 180.0
    return (corner[0] - latitude_deg) * _METRES_PER_DEGREE, east_deg * _METRES_PER_DEGREE * narrowing


def _distance_to_segment_m(start: tuple[float, float], end: tuple[float, float]) -> float:
    """From the origin to the nearest point of the segment."""
    north_m, east_m = end[0] - start[0], end[1] - start[1]
    length_m2 = north_m**2 + east_m**2
    share = 0.0 if length_m2 == 0.0 else -(start[0] * north_m + start[1] * east_m) / length_m2
    share = min(max(share, 0.0), 1.0)
    return math.hypot(start[0] + share * north_m, start[1] + share * east_m)
