"""What the outside learns of a track: its box, its place on the road, its speed over ground.

Places are filtered with the error that each has at its distance, so that a far car's jumping foot point does not become
a speed. Speed over ground is the rate of the place plus the vehicle's own motion: an object that stands still comes
nearer at the vehicle's speed, and in a curve it also turns around it. It stays unknown until it is certain enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry
from runtime.inference.ground import EgoMotion, GroundPlane, lane_of
from runtime.inference.track_table import NO_ID, TrackTable
from runtime.messages import NANOSECONDS_PER_SECOND, Track


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


def follow_places(
    table: TrackTable,
    plane: GroundPlane,
    settings: GroundSettings,
    time_ns: int,
    geometries: Sequence[Geometry | None] | None,
) -> None:
    """Bring the places of the tracks that were detected at `time_ns` into their filters."""
    rows = np.flatnonzero(table.field("last_seen_ns") == time_ns)
    place, error_m_per_px = plane.standing_places(table.field("camera")[rows], table.corners()[rows], geometries)
    known = np.isfinite(error_m_per_px)
    rows, place = rows[known], place[known]
    std_m = np.maximum(settings.foot_std_px * error_m_per_px[known], settings.min_place_std_m)
    variance = (std_m**2)[:, None] * np.ones((1, 2))
    is_stale = time_ns - table.field("ground_seen_ns")[rows] > settings.max_place_age_s * NANOSECONDS_PER_SECOND
    fresh = (table.field("ground_since_ns")[rows] == 0) | is_stale
    places = table.places()
    new = rows[fresh]
    places.begin(new, place[fresh], variance[fresh], np.full((new.size, 2), settings.start_rate_std_mps))
    table.field("ground_since_ns")[new] = time_ns
    places.correct(rows[~fresh], place[~fresh], variance[~fresh])
    table.field("ground_seen_ns")[rows] = time_ns


class TrackReporter:
    """Makes `Track`s of a table's confirmed records."""

    def __init__(self, cameras: Sequence[str], plane: GroundPlane, settings: GroundSettings) -> None:
        self._cameras = tuple(cameras)
        self._is_calibrated = bool(plane.is_calibrated.any())
        self._settings = settings

    def report(self, table: TrackTable, class_names: Sequence[str], time_ns: int, ego: EgoMotion) -> list[Track]:
        """The confirmed tracks, by id."""
        confirmed = np.flatnonzero(table.field("track_id") != NO_ID)
        order = confirmed[np.argsort(table.field("track_id")[confirmed])]
        names = ("track_id", "camera", "class_id", "score", "first_seen_ns", "last_seen_ns", "visible", "state")
        columns = [table.field(name)[order].tolist() for name in names]
        tracks = [
            Track(
                track_id=track_id,
                camera=self._cameras[camera],
                class_name=class_names[class_id],
                score=score,
                box_px=(box[0], box[1], box[2], box[3]),
                first_seen_ns=first_ns,
                last_seen_ns=last_ns,
                visible=visible,
                state=state,
            )
            for track_id, camera, class_id, score, first_ns, last_ns, visible, state, box in zip(
                *columns, table.corners()[order].tolist(), strict=True
            )
        ]
        if self._is_calibrated:
            self._add_places(tracks, order, table, time_ns, ego)
        self._add_predicted(tracks, order, table, time_ns)
        return tracks

    def _add_predicted(self, tracks: Sequence[Track], order: NDArray[np.intp], table: TrackTable, time_ns: int) -> None:
        """Add what the network itself said of each object, unless that was too long ago."""
        distance_m = table.field("predicted_distance_m")[order]
        speed_mps = table.field("predicted_speed_mps")[order]
        age_ns = time_ns - table.field("last_seen_ns")[order]
        fresh = age_ns <= self._settings.max_place_age_s * NANOSECONDS_PER_SECOND
        for index in np.flatnonzero(fresh & np.isfinite(distance_m)).tolist():
            tracks[index].predicted_distance_m = round(float(distance_m[index]), 2)
        for index in np.flatnonzero(fresh & np.isfinite(speed_mps)).tolist():
            tracks[index].predicted_speed_mps = round(float(speed_mps[index]), 2)

    def _add_places(
        self, tracks: Sequence[Track], order: NDArray[np.intp], table: TrackTable, time_ns: int, ego: EgoMotion
    ) -> None:
        """Add what the ground plane knows about each track."""
        since_ns = table.field("ground_since_ns")[order]
        age_ns = time_ns - table.field("ground_seen_ns")[order]
        known = (since_ns != 0) & (age_ns <= self._settings.max_place_age_s * NANOSECONDS_PER_SECOND)
        settled = known & (time_ns - since_ns >= self._settings.settle_s * NANOSECONDS_PER_SECOND)
        settled &= table.field("ground_p11")[order].max(axis=1) <= self._settings.max_speed_std_mps**2
        places = table.field("ground_position")[order].tolist()
        speeds = _speeds_over_ground(table, order, ego)
        for index in np.flatnonzero(known).tolist():
            track, (x, y) = tracks[index], places[index]
            track.distance_m = math.hypot(x, y)
            track.lateral_m = y
            track.bearing_deg = math.degrees(math.atan2(y, x))
            track.lane = lane_of((x, y), ego.curvature_1pm)
            if speeds is not None and settled[index]:
                track.speed_mps = speeds[index]


def _speeds_over_ground(table: TrackTable, order: NDArray[np.intp], ego: EgoMotion) -> list[float] | None:
    """Relative motion plus the vehicle's own, in m/s; None while the vehicle's is not known."""
    if ego.speed_mps is None:
        return None
    yaw_rate_radps = ego.speed_mps * (ego.curvature_1pm or 0.0)
    forward, left = table.field("ground_rate")[order].T
    x, y = table.field("ground_position")[order].T
    speeds: list[float] = np.hypot(forward + ego.speed_mps - yaw_rate_radps * y, left + yaw_rate_radps * x).tolist()
    return speeds
