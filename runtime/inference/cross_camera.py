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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    held = plane.images_hold(place) & is_looking
    held[np.arange(count), camera] = False
    x, y = np.ascontiguousarray(place.T)
    square_m2 = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    near_m = np.maximum(NEAR_M, NEAR_SHARE * np.hypot(x, y))
    match = held[:, camera] & (group[:, None] == group[None, :]) & (square_m2 <= (near_m**2)[:, None])
    of_camera = np.zeros((count, is_looking.size), np.float32)
    of_camera[np.arange(count), camera] = 1.0
    confirming = np.count_nonzero(match.astype(np.float32) @ of_camera, axis=1)
    match &= is_whole & is_whole[:, None]
    gap_deg = _gaps_deg(place, camera, np.where(match, square_m2, np.inf))
    return Confirmations(np.count_nonzero(held, axis=1), confirming, gap_deg)


def _gaps_deg(place: FloatArray, camera: NDArray[np.integer], square_m2: FloatArray) -> FloatArray:
    """Bearing minus that of the nearest match, -180 to 180; `square_m2` is infinite for what does not match."""
    every = np.arange(len(place))
    nearest = square_m2.argmin(axis=1)
    least_m2 = square_m2[every, nearest]
    rivals = square_m2[:, nearest]  # [K, K] of every object to each one's nearest
    rivals[camera[:, None] != camera[None, :]] = np.inf
    is_told = np.isfinite(least_m2) & (least_m2 <= rivals.min(axis=0))
    bearing = np.arctan2(place[:, 1], place[:, 0])
    difference = bearing - bearing[nearest]
    return np.where(is_told, np.degrees(np.arctan2(np.sin(difference), np.cos(difference))), np.nan)
