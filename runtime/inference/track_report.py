"""What the outside learns of a track: its box, its place on the road, its speeds, and what other cameras say of it.

Places are filtered with the error that each has at its distance, so that a far car's jumping foot point does not become
a speed. Speed over ground is the rate of the place plus the vehicle's own motion: an object that stands still comes
nearer at the vehicle's speed, and in a curve it also turns around it. It stays unknown until it is certain enough.
The lateral part of it needs the yaw rate: 0.1 rad/s unseen would be 5 m/s at 50 m. How fast the distance shrinks needs
neither.

Numbers are rounded to what they can mean (a hundredth of a pixel, a millimetre, a thousandth of a degree), so that a
recording can say in few digits exactly what rules saw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry
from runtime.inference.cross_camera import confirm
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
        self._plane = plane
        self._is_calibrated = bool(plane.is_calibrated.any())
        self._settings = settings

    def report(
        self,
        table: TrackTable,
        class_names: Sequence[str],
        time_ns: int,
        ego: EgoMotion,
        is_looking: NDArray[np.bool_],
        geometries: Sequence[Geometry | None] | None,
    ) -> list[Track]:
        """The confirmed tracks, by id. `is_looking` says which cameras delivered of late."""
        confirmed = np.flatnonzero(table.field("track_id") != NO_ID)
        order = confirmed[np.argsort(table.field("track_id")[confirmed])]
        names = ("track_id", "camera", "class_id", "score", "first_seen_ns", "last_seen_ns", "visible", "state")
        columns = [table.field(name)[order].tolist() for name in names]
        columns[3] = np.round(table.field("score")[order], 4).tolist()
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
                *columns, np.round(table.corners()[order], 2).tolist(), strict=True
            )
        ]
        if self._is_calibrated:
            known = self._add_places(tracks, order, table, time_ns, ego)
            is_whole = self._plane.is_whole(table.field("camera"), table.corners(), geometries)
            self._add_confirmations(tracks, order[known], known, table, is_whole, is_looking)
        self._add_predicted(tracks, order, table, time_ns)
        return tracks

    def _add_predicted(self, tracks: Sequence[Track], order: NDArray[np.intp], table: TrackTable, time_ns: int) -> None:
        """Add what the network itself said of each object, unless that was too long ago."""
        distance_m = table.field("predicted_distance_m")[order]
        speed_mps = table.field("predicted_speed_mps")[order]
        if np.isnan(distance_m).all() and np.isnan(speed_mps).all():
            return  # most networks say nothing of the kind
        age_ns = time_ns - table.field("last_seen_ns")[order]
        fresh = age_ns <= self._settings.max_place_age_s * NANOSECONDS_PER_SECOND
        for index in np.flatnonzero(fresh & np.isfinite(distance_m)).tolist():
            tracks[index].predicted_distance_m = round(float(distance_m[index]), 2)
        for index in np.flatnonzero(fresh & np.isfinite(speed_mps)).tolist():
            tracks[index].predicted_speed_mps = round(float(speed_mps[index]), 2)

    def _add_places(
        self, tracks: Sequence[Track], order: NDArray[np.intp], table: TrackTable, time_ns: int, ego: EgoMotion
    ) -> NDArray[np.intp]:
        """Add what the ground plane knows about each track; returns which tracks have a place."""
        since_ns = table.field("ground_since_ns")[order]
        age_ns = time_ns - table.field("ground_seen_ns")[order]
        known = (since_ns != 0) & (age_ns <= self._settings.max_place_age_s * NANOSECONDS_PER_SECOND)
        settled = known & (time_ns - since_ns >= self._settings.settle_s * NANOSECONDS_PER_SECOND)
        settled &= table.field("ground_p11")[order].max(axis=1) <= self._settings.max_speed_std_mps**2
        places = table.field("ground_position")[order].tolist()
        for index in np.flatnonzero(known).tolist():
            track, (x, y) = tracks[index], places[index]
            track.distance_m = round(math.hypot(x, y), 3)
            track.lateral_m = round(y, 3)
            track.bearing_deg = round(math.degrees(math.atan2(y, x)), 3)
            track.lane = lane_of((x, y), ego.curvature_1pm)
        _add_speeds(tracks, order, table, np.flatnonzero(settled), ego)
        return np.flatnonzero(known)

    def _add_confirmations(
        self,
        tracks: Sequence[Track],
        rows: NDArray[np.intp],
        known: NDArray[np.intp],
        table: TrackTable,
        is_whole: NDArray[np.bool_],
        is_looking: NDArray[np.bool_],
    ) -> None:
        """Add what the other cameras say about the tracks `known` to have a place; they stand in `rows`."""
        if not known.size:
            return
        camera, group, place = (table.field(name)[rows] for name in ("camera", "group", "ground_position"))
        found = confirm(self._plane, camera, group, place, is_whole[rows], is_looking)
        gaps_deg = np.round(found.gap_deg, 3).tolist()
        columns = (known.tolist(), found.overlapping.tolist(), found.confirming.tolist(), gaps_deg)
        for index, overlapping, confirming, gap_deg in zip(*columns, strict=True):
            track = tracks[index]
            track.overlapping_cameras = overlapping
            track.confirming_cameras = confirming
            track.confirming_gap_deg = None if math.isnan(gap_deg) else gap_deg


def _add_speeds(
    tracks: Sequence[Track], order: NDArray[np.intp], table: TrackTable, settled: NDArray[np.intp], ego: EgoMotion
) -> None:
    """Relative motion as closing speed; with the vehicle's own added, speed over ground and its part to the left."""
    x, y = table.field("ground_position")[order[settled]].T
    forward, left = table.field("ground_rate")[order[settled]].T
    closing = np.round(-(x * forward + y * left) / np.maximum(np.hypot(x, y), 1e-3), 3).tolist()
    yaw_rate_radps = (ego.speed_mps or 0.0) * (ego.curvature_1pm or 0.0)
    lateral = left + yaw_rate_radps * x
    speed = np.round(np.hypot(forward + (ego.speed_mps or 0.0) - yaw_rate_radps * y, lateral), 3).tolist()
    to_the_left = np.round(lateral, 3).tolist()
    for position, index in enumerate(settled.tolist()):
        tracks[index].closing_speed_mps = closing[position]
        if ego.speed_mps is not None:
            tracks[index].speed_mps = speed[position]
        if ego.turns_known:
            tracks[index].lateral_speed_mps = to_the_left[position]
