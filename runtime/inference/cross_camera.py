"""What the other cameras of a rig say about an object: whether they should see it, whether they do, and where.

A camera should see an object when its image holds the object's place on the road, not at the very edge, and large
enough (`GroundPlane.images_hold`), and when it has delivered of late. It confirms the object when it follows one of a
compatible class group near that place. "Near" is 2 m, or 15 % of the distance where that is more: two cameras see
different sides of one car (up to half its length apart), and a foot that is two pixels off at 50 m is 6 % of the
distance off for a lens of 1100 px at 1.4 m above the road (distance / (focal length x height) for each pixel), of
which 15 % is more than twice. Objects closer to one another than that confirm each other; that is the price.

The gap is the bearing of the object minus that of the nearest track that confirms it, both as seen from the vehicle. It
is told only where it can mean the cameras and not the objects: each must be the other's nearest in its camera, and both
boxes whole, because the middle of a box that the image's side cuts off is not the middle of the object.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.inference.association import places_of
from runtime.inference.ground import GroundPlane

NEAR_M = 2.0
NEAR_SHARE = 0.15

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confirmations:
    """For K objects: cameras that should see each, cameras that do, and the gap to the nearest (NaN: none does)."""

    overlapping: NDArray[np.intp]
    confirming: NDArray[np.intp]
    gap_deg: FloatArray


def confirm(
    plane: GroundPlane,
    camera: NDArray[np.integer],
    group: NDArray[np.integer],
    place: FloatArray,
    is_whole: NDArray[np.bool_],
    is_looking: NDArray[np.bool_],
) -> Confirmations:
    """Compare K objects at known places `[K, 2]` with one another.

    `is_whole` says which boxes end inside of their image, `is_looking` (one for each camera) who delivered of late.
    """
    count = camera.size
    held = plane.images_hold(place)
    held &= is_looking
    held[np.arange(count), camera] = False
    first, second, square_m2 = _near_pairs(camera, group, place)
    other = camera.take(second)
    seen = held[first, other].nonzero()[0]  # of pairs, those in which the second's image holds the first
    first, second, square_m2 = first.take(seen), second.take(seen), square_m2.take(seen)
    confirms = np.zeros(held.shape, np.bool_)
    confirms[first, other.take(seen)] = True
    whole = (is_whole.take(first) & is_whole.take(second)).nonzero()[0]
    nearest = _mutual_nearest(camera.tolist(), first.take(whole), second.take(whole), square_m2.take(whole))
    return Confirmations(held.sum(axis=1), confirms.sum(axis=1), _gaps_deg(place, nearest))


def _near_pairs(
    camera: NDArray[np.integer], group: NDArray[np.integer], place: FloatArray
) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """Objects and others of their group in another camera near them, in their order, with the squares of distances."""
    x, y = place.T
    square_m2 = np.square(x[:, None] - x)
    square_m2 += np.square(y[:, None] - y)
    near_m = np.hypot(x, y)
    near_m *= NEAR_SHARE
    np.maximum(near_m, NEAR_M, out=near_m)
    match = square_m2 <= np.square(near_m)[:, None]
    match &= camera[:, None] != camera
    match &= group[:, None] == group
    first, second = places_of(match)
    return first, second, square_m2[first, second]


def _mutual_nearest(
    camera: list[int], first: NDArray[np.intp], second: NDArray[np.intp], square_m2: FloatArray
) -> dict[int, int]:
    """Each object's nearest match, where no object of its camera is nearer to that one; ties go to the earlier one."""
    nearest: dict[int, tuple[float, int]] = {}
    least: dict[tuple[int, int], float] = {}
    for one, other, distance in zip(first.tolist(), second.tolist(), square_m2.tolist(), strict=True):
        if one not in nearest or distance < nearest[one][0]:
            nearest[one] = distance, other
        rival = camera[one], other
        if rival not in least or distance < least[rival]:
            least[rival] = distance
    return {one: other for one, (distance, other) in nearest.items() if distance <= least[camera[one], other]}


def _gaps_deg(place: FloatArray, nearest: Mapping[int, int]) -> FloatArray:
    """Bearing minus that of the nearest match, -180 to 180; NaN without one."""
    gaps_deg = np.full(len(place), np.nan)
    x, y = place.T.tolist()
    for one, other in nearest.items():  # few: plain numbers are faster than arrays
        difference = math.atan2(y[one], x[one]) - math.atan2(y[other], x[other])
        gaps_deg[one] = math.degrees(math.atan2(math.sin(difference), math.cos(difference)))
    return gaps_deg
