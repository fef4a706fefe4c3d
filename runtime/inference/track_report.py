"""What the outside learns of a track: its box, its place on the road, its speeds, and what other cameras say of it.

Places are filtered with the error that each has at its distance, so that a far car's jumping foot point does not become
a speed. Speed over ground is the rate of the place plus the vehicle's own motion: an object that stands still comes
nearer at the vehicle's speed, and in a curve it also turns around it. It stays unknown until it is certain enough.
The lateral part of it needs the yaw rate: 0.1 rad/s unseen would be 5 m/s at 50 m. How fast the distance shrinks needs
neither.

Numbers are rounded to what they can mean (a hundredth of a pixel, a millimetre, a thousandth of a degree), so that a
recording can say in few digits exactly what rules saw.

A report is made field by field over all tracks, and only its last step makes objects of them: what is unknown is NaN
until then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry
from runtime.inference import motion
from runtime.inference.cross_camera import confirm
from runtime.inference.ground import EgoMotion, GroundPlane, lane_at, offsets_m
from runtime.inference.rounding import round_like_python
from runtime.inference.track_table import (
    CAMERA,
    CLASS_ID,
    FIRST_SEEN,
    GROUND_SEEN,
    GROUND_SINCE,
    GROUP,
    LAST_SEEN,
    NO_ID,
    PLACE,
    TOLD,
    TRACK_ID,
    TrackTable,
)
from runtime.messages import NANOSECONDS_PER_SECOND, Track

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GroundSettings:
    """How places on the ground are filtered and when they are told."""

    accel_density: float = 2.0  # (m/s²)² per Hz: what traffic does in a second
    foot_std_px: float = 2.0  # of the rig's image
    min_place_std_m: float = 0.1
    start_rate_std_mps: float = 15.0
    max_speed_std_mps: float = 2.0  # a speed less certain than this is unknown
    settle_s: float = 0.5  # no speed before places have been known for this long
    max_place_age_s: float = 0.5  # no place when the last trusted one is older


#: The fields of a track, in the order in which it is made of them.
_FIELDS = tuple(Track.__slots__)
#: One value for each track, by field.
_Columns = dict[str, Iterable[object]]
_UNKNOWN = repeat(None)
_NO_COUNT = -1


def follow_places(
    table: TrackTable,
    corners: FloatArray,
    plane: GroundPlane,
    settings: GroundSettings,
    time_ns: int,
    geometries: Sequence[Geometry | None] | None,
) -> None:
    """Bring the places of the tracks that were detected at `time_ns` into their filters."""
    rows = (table.line(LAST_SEEN) == time_ns).nonzero()[0]
    camera = table.line(CAMERA).take(rows)
    place, error_m_per_px = plane.standing_places(camera, corners.take(rows, axis=1).T, geometries)
    known = np.isfinite(error_m_per_px).nonzero()[0]
    if not known.size:
        return
    rows, measured = rows.take(known), place.T.take(known, axis=1)
    std_m = np.maximum(settings.foot_std_px * error_m_per_px.take(known), settings.min_place_std_m)
    variance = np.square(std_m)
    since_ns, seen_ns = table.whole[GROUND_SINCE].take(rows), table.whole[GROUND_SEEN].take(rows)
    fresh = since_ns == 0
    fresh |= time_ns - seen_ns > settings.max_place_age_s * NANOSECONDS_PER_SECOND
    places = table.motion.take(rows, axis=2)[:, PLACE]
    motion.correct(places, measured, variance)
    begun = fresh.nonzero()[0]
    if begun.size:  # theirs was nothing to correct
        places[:, :, begun] = motion.begun(measured[:, begun], variance[begun], settings.start_rate_std_mps)
        table.whole[GROUND_SINCE, rows[begun]] = time_ns
    table.motion[:, PLACE, rows] = places
    table.whole[GROUND_SEEN, rows] = time_ns


class TrackReporter:
    """Makes `Track`s of a table's confirmed tracks."""

    def __init__(self, cameras: Sequence[str], plane: GroundPlane, settings: GroundSettings) -> None:
        self._cameras = tuple(cameras)
        self._plane = plane
        self._is_calibrated = bool(plane.is_calibrated.any())
        self._settings = settings

    def report(
        self,
        table: TrackTable,
        corners: FloatArray,
        class_names: Sequence[str],
        time_ns: int,
        ego: EgoMotion,
        is_looking: NDArray[np.bool_],
        geometries: Sequence[Geometry | None] | None,
    ) -> list[Track]:
        """The confirmed tracks, by id. `is_looking` says which cameras delivered of late."""
        track_id = table.line(TRACK_ID)
        confirmed = (track_id != NO_ID).nonzero()[0]
        order = confirmed.take(track_id.take(confirmed).argsort())
        whole, corners = table.whole.take(order, axis=1), corners.take(order, axis=1)
        lines = whole[:TOLD].tolist()
        columns: _Columns = {
            "track_id": lines[TRACK_ID],
            "camera": map(self._cameras.__getitem__, lines[CAMERA]),
            "class_name": map(class_names.__getitem__, lines[CLASS_ID]),
            "score": table.score.take(order).round(4).tolist(),
            "box_px": zip(*corners.round(2).tolist(), strict=True),
            "first_seen_ns": lines[FIRST_SEEN],
            "last_seen_ns": lines[LAST_SEEN],
            "visible": table.visible.take(order).tolist(),
            "state": map(table.state.__getitem__, order.tolist()),
        }
        if self._is_calibrated:
            moved = table.motion.take(order, axis=2)[:, PLACE]
            known = self._has_place(whole, time_ns)
            columns |= self._places(moved, known, ego)
            columns |= self._speeds(moved, known & self._is_settled(whole, moved, time_ns), ego)
            is_whole = self._plane.is_whole(whole[CAMERA], corners.T, geometries)
            columns |= self._confirmations(whole, moved[motion.POSITION].T, known, is_whole, is_looking)
        if table.has_told:
            columns |= self._predicted(table.told.take(order, axis=1), whole, time_ns)
        return list(map(Track, *(columns.get(field, _UNKNOWN) for field in _FIELDS)))

    def _has_place(self, whole: NDArray[np.int64], time_ns: int) -> NDArray[np.bool_]:
        """Which tracks have a place that is not too old."""
        known = whole[GROUND_SINCE] != 0
        known &= time_ns - whole[GROUND_SEEN] <= self._settings.max_place_age_s * NANOSECONDS_PER_SECOND
        return np.asarray(known)

    def _is_settled(self, whole: NDArray[np.int64], moved: FloatArray, time_ns: int) -> NDArray[np.bool_]:
        """Which places have been known for long enough, and move with enough certainty, to have a speed."""
        settled = time_ns - whole[GROUND_SINCE] >= self._settings.settle_s * NANOSECONDS_PER_SECOND
        settled &= np.maximum(*moved[motion.P11]) <= self._settings.max_speed_std_mps**2
        return np.asarray(settled)

    def _places(self, moved: FloatArray, known: NDArray[np.bool_], ego: EgoMotion) -> _Columns:
        """What the ground plane knows about each track."""
        place = moved[motion.POSITION]
        x, y = place.tolist()
        distance_m, bearing_rad = map(math.hypot, x, y), map(math.atan2, y, x)
        told = np.array((list(distance_m), y, list(map(math.degrees, bearing_rad))))
        told = round_like_python(told, 3)
        lanes = map(lane_at, offsets_m(place[0], place[1], ego.curvature_1pm).tolist())
        told[:, ~known] = np.nan
        columns: _Columns = dict(zip(("distance_m", "lateral_m", "bearing_deg"), _optional(told), strict=True))
        columns["lane"] = [lane if here else None for lane, here in zip(lanes, known.tolist(), strict=True)]
        return columns

    def _speeds(self, moved: FloatArray, settled: NDArray[np.bool_], ego: EgoMotion) -> _Columns:
        """Relative motion as closing speed; with the vehicle's own added, speed over ground and that to the left."""
        (x, y), (forward, left) = moved[motion.POSITION], moved[motion.RATE]
        yaw_rate_radps = (ego.speed_mps or 0.0) * (ego.curvature_1pm or 0.0)
        told = np.empty((3, x.size))
        closing, speed, lateral = told
        np.divide(-(x * forward + y * left), np.maximum(np.hypot(x, y), 1e-3), out=closing)
        np.add(left, yaw_rate_radps * x, out=lateral)
        np.hypot(forward + (ego.speed_mps or 0.0) - yaw_rate_radps * y, lateral, out=speed)
        told = told.round(3)
        told[:, ~settled] = np.nan
        closing_speed, speeds, to_the_left = _optional(told)
        columns: _Columns = {"closing_speed_mps": closing_speed}
        if ego.speed_mps is not None:
            columns["speed_mps"] = speeds
        if ego.turns_known:
            columns["lateral_speed_mps"] = to_the_left
        return columns

    def _confirmations(
        self,
        whole: NDArray[np.int64],
        place: FloatArray,
        known: NDArray[np.bool_],
        is_whole: NDArray[np.bool_],
        is_looking: NDArray[np.bool_],
    ) -> _Columns:
        """What the other cameras say about the tracks that are `known` to have a place."""
        rows = known.nonzero()[0]
        if not rows.size:
            return {}
        camera, group = whole[CAMERA].take(rows), whole[GROUP].take(rows)
        found = confirm(self._plane, camera, group, place[rows], is_whole.take(rows), is_looking)
        counts = np.full((2, known.size), _NO_COUNT)
        counts[:, rows] = found.overlapping, found.confirming
        overlapping, confirming = (
            [None if count == _NO_COUNT else count for count in line] for line in counts.tolist()
        )
        gap_deg = np.full((1, known.size), np.nan)
        gap_deg[0, rows] = found.gap_deg.round(3)
        return {
            "overlapping_cameras": overlapping,
            "confirming_cameras": confirming,
            "confirming_gap_deg": _optional(gap_deg)[0],
        }

    def _predicted(self, told: FloatArray, whole: NDArray[np.int64], time_ns: int) -> _Columns:
        """What the network itself said of each object, unless that was too long ago."""
        is_old = time_ns - whole[LAST_SEEN] > self._settings.max_place_age_s * NANOSECONDS_PER_SECOND
        told[is_old | ~np.isfinite(told)] = np.nan
        distance_m, speed_mps = _optional(round_like_python(told, 2))
        return {"predicted_distance_m": distance_m, "predicted_speed_mps": speed_mps}


def _optional(told: FloatArray) -> list[list[float | None]]:
    """Lines of values as lists, None where a value is NaN."""
    return [[None if value != value else value for value in line] for line in told.tolist()]
