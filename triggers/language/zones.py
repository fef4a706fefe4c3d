"""Places on the map that rules can ask about: circles and polygons in degrees of WGS 84.

A circle is measured along the great circle (haversine, Earth's mean radius: 0.6 % off the ellipsoid at worst). A
polygon's edges are straight in latitude and longitude, so that it is exact for areas drawn on a map of a city or a
region; a point is inside when a ray to the east crosses an odd number of edges (a point on an edge may count either
way). A polygon across the 180th meridian is not refused: its longitudes are counted on from its first corner, each at
most half a turn away from the one before, and the point is put into the same turn. A polygon around a pole is refused
where it is read. The cost of a question grows with the number of corners, which are at most `MAX_CORNERS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

EARTH_RADIUS_M = 6_371_008.8
MAX_CORNERS = 1000


@dataclass(frozen=True, slots=True)
class Circle:
    """All places within `radius_m` of a point."""

    latitude_deg: float
    longitude_deg: float
    radius_m: float

    def contains(self, latitude_deg: float, longitude_deg: float) -> bool:
        """Whether the point is inside."""
        return distance_m(self.latitude_deg, self.longitude_deg, latitude_deg, longitude_deg) <= self.radius_m


@dataclass(frozen=True, slots=True)
class Polygon:
    """The area inside a closed line through `corners` (latitude, longitude in degrees)."""

    corners: tuple[tuple[float, float], ...]
    _edges: tuple[tuple[float, float, float, float], ...] = field(init=False, compare=False, repr=False)
    _west_deg: float = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        points = unrolled(self.corners)
        edges = zip(points, [*points[1:], points[0]], strict=True)
        object.__setattr__(self, "_edges", tuple((*start, *end) for start, end in edges))
        object.__setattr__(self, "_west_deg", min(longitude_deg for _, longitude_deg in points))

    def contains(self, latitude_deg: float, longitude_deg: float) -> bool:
        """Whether the point is inside."""
        east_deg = self._west_deg + (longitude_deg - self._west_deg) % 360.0
        is_inside = False
        for latitude_1, longitude_1, latitude_2, longitude_2 in self._edges:
            if (latitude_1 > latitude_deg) == (latitude_2 > latitude_deg):
                continue
            share = (latitude_deg - latitude_1) / (latitude_2 - latitude_1)
            if east_deg < longitude_1 + share * (longitude_2 - longitude_1):
                is_inside = not is_inside
        return is_inside


Zone: TypeAlias = Circle | Polygon


def unrolled(corners: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """The corners with longitudes that never jump by more than half a turn; they may leave -180 to 180."""
    points = [corners[0]]
    for latitude_deg, longitude_deg in corners[1:]:
        before_deg = points[-1][1]
        points.append((latitude_deg, before_deg + (longitude_deg - before_deg + 180.0) % 360.0 - 180.0))
    return points


def surrounds_pole(corners: tuple[tuple[float, float], ...]) -> bool:
    """True when the closed line goes once around the Earth, so that its inside is not what longitudes enclose."""
    points = unrolled((*corners, corners[0]))
    return abs(points[-1][1] - points[0][1]) > 1.0


def distance_m(latitude_1_deg: float, longitude_1_deg: float, latitude_2_deg: float, longitude_2_deg: float) -> float:
    """Length of the great circle between two points, by the haversine formula."""
    latitude_1, latitude_2 = math.radians(latitude_1_deg), math.radians(latitude_2_deg)
    half_latitude = math.sin((latitude_2 - latitude_1) / 2)
    half_longitude = math.sin(math.radians(longitude_2_deg - longitude_1_deg) / 2)
    chord = half_latitude**2 + math.cos(latitude_1) * math.cos(latitude_2) * half_longitude**2
    return 2 * EARTH_RADIUS_M * math.asin(min(math.sqrt(chord), 1.0))
