"""Follows detections over time, camera by camera, and places them on the road.

    tracker = Tracker(cameras, rig)
    tracks = tracker.update(prediction, frameset.present, frameset.time_ns, ego)

Association has two thresholds (ByteTrack: Zhang et al., "Multi-Object Tracking by Associating Every Detection Box",
2022): confident detections find their track first; weak ones may only prolong a track that was seen a moment ago. A
track counts from its second detection on, and then keeps its id until it has gone unseen for `coast_s`; meanwhile it
coasts along its motion with `visible` False.

What is not known is not a miss. A camera that is absent, or a tick without a prediction, leaves its tracks as they
were: they move on, stay visible if they were, and do not age, up to `forget_s`. A camera whose image was held over
from an earlier tick should be passed as absent, because the same image says nothing new.

Bounds: `max_tracks` over all cameras. When the table is full the weakest new detections are refused and counted.
The same calls give the same tracks and ids; there is no clock and no randomness here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry
from runtime.inference import motion
from runtime.inference.association import SAME_OBJECT_OVERLAP, areas, class_groups, overlaps_of
from runtime.inference.ground import EgoMotion, GroundPlane
from runtime.inference.matching import AwaitedTracks, Matcher, SeenDetections
from runtime.inference.track_report import GroundSettings, TrackReporter, follow_places
from runtime.inference.track_table import (
    BOX,
    CAMERA,
    CLASS_ID,
    COORDINATES,
    FIRST_SEEN,
    GROUP,
    HITS,
    LAST_SEEN,
    NO_ID,
    TRACK_ID,
    UNSEEN,
    TrackTable,
)
from runtime.inference.tracker_settings import TrackerSettings
from runtime.messages import NANOSECONDS_PER_SECOND, Detections, Prediction, Track
from runtime.rig import Rig

__all__ = ["Tracker", "TrackerSettings"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

#: Deviations in parts of a box's size (ByteTrack's, brought from frames to seconds at its 30 per second).
MEASURED_STD = 0.05
RATE_STD_PER_S = 1.9
RATE_DENSITY_PER_S = 1.0
#: A new track may not start on top of one that is alive.
TAKEN_OVERLAP = 0.5
_NEVER_NS = np.int64(-(2**61))
_ANY_SIZE = (np.inf, np.inf)


class Tracker:
    """The tracks of one rig."""

    def __init__(
        self,
        cameras: Sequence[str],
        rig: Rig | None = None,
        settings: TrackerSettings | None = None,
        ground: GroundSettings | None = None,
    ) -> None:
        self._cameras = tuple(cameras)
        self._settings = settings or TrackerSettings()
        self._table = TrackTable(self._settings.max_tracks)
        self._plane = GroundPlane(cameras, rig)
        self._ground = ground or GroundSettings()
        self._reporter = TrackReporter(cameras, self._plane, self._ground)
        self._density = np.full((COORDINATES, self._settings.max_tracks), self._ground.accel_density)
        self._delivered_ns = np.full(len(self._cameras), _NEVER_NS)
        self._class_names: tuple[str, ...] = ()
        self._matcher = Matcher(class_groups(()), self._settings)
        self._time_ns: int | None = None  # at which the table stands
        self._updated_ns: int | None = None
        self._awaited: AwaitedTracks | None = None  # None: nobody has looked ahead
        self._limits: tuple[tuple[Geometry | None, ...], FloatArray, FloatArray] | None = None
        self._next_id = 1
        self.refused_detections = 0

    def continue_ids(self, former: Tracker) -> None:
        """Give ids beyond those of the tracker that this one replaces: no new object takes an old one's name."""
        self._next_id = max(self._next_id, former._next_id)

    def update(
        self,
        prediction: Prediction | None,
        present: Sequence[bool] | NDArray[np.bool_],
        time_ns: int,
        ego: EgoMotion | None = None,
        geometries: Sequence[Geometry | None] | None = None,
    ) -> list[Track]:
        """The tracks after one tick, by id. `present` says which cameras delivered a new image for it.

        Raises:
            ValueError: time went back, or `present` has another number of cameras.
        """
        seen = np.asarray(present, np.bool_)
        if seen.shape != (len(self._cameras),):
            raise ValueError(
                f"present has shape {seen.shape}; it needs one entry for each of {len(self._cameras)} cameras"
            )
        self.look_ahead(time_ns)
        if prediction is not None:
            self._delivered_ns[seen] = time_ns
            self._adopt_classes(prediction.class_names)
            self._observe(prediction.detections, seen, time_ns)
        self._updated_ns, self._awaited = time_ns, None
        corners = self._table.corners()
        if prediction is not None:
            follow_places(self._table, corners, self._plane, self._ground, time_ns, geometries)
        corners = self._bury(corners, time_ns, geometries)
        is_looking = time_ns - self._delivered_ns <= self._ground.max_place_age_s * NANOSECONDS_PER_SECOND
        names, ego = self._class_names, ego or EgoMotion()
        return self._reporter.report(self._table, corners, names, time_ns, ego, is_looking, geometries)

    def look_ahead(self, time_ns: int) -> None:
        """Move every track to `time_ns`: what an update at that time needs no prediction for. May be called before it.

        Raises:
            ValueError: time went back.
        """
        if self._awaited is not None and self._time_ns == time_ns:
            return
        dt_ns = 0 if self._time_ns is None else time_ns - self._time_ns
        if dt_ns < 0:
            raise ValueError(
                f"time went back from {self._time_ns} to {time_ns}; make a new Tracker for a new recording"
            )
        self._time_ns = time_ns
        self._advance(min(dt_ns / NANOSECONDS_PER_SECOND, self._settings.forget_s))
        self._awaited = self._matcher.awaited(self._table)

    def _advance(self, dt_s: float) -> None:
        table = self._table
        moved, density = table.motion[:, :, : table.count], self._density[:, : table.count]
        size_px = moved[motion.POSITION, 2:4]
        density[BOX] = np.square(RATE_DENSITY_PER_S * _scale_px(size_px))
        motion.advance(moved, dt_s, density)
        np.maximum(size_px, 1.0, out=size_px)

    def _adopt_classes(self, class_names: tuple[str, ...]) -> None:
        if class_names != self._class_names:
            if self._class_names:
                raise ValueError("class names changed; make a new Tracker for another network")
            self._class_names = class_names
            self._matcher = Matcher(class_groups(class_names), self._settings)
            self._awaited = None

    def _observe(self, detections: Detections, present: NDArray[np.bool_], time_ns: int) -> None:
        """Match, correct, age and begin tracks of the cameras that delivered."""
        table, awaited = self._table, self._awaited or self._matcher.awaited(self._table)
        seen = self._matcher.seen(detections, present)
        rows, columns = self._matcher.match(table, awaited, seen)
        missed = present.take(table.line(CAMERA))
        missed[rows] = False
        unseen_ns = 0 if self._updated_ns is None else time_ns - self._updated_ns
        self._mark_missed(missed.nonzero()[0], unseen_ns)
        self._correct(rows, seen, columns, time_ns)
        self._begin(seen, time_ns)

    def _mark_missed(self, missed: IndexArray, dt_ns: int) -> None:
        table = self._table
        table.visible[missed] = False
        table.whole[UNSEEN, missed] += dt_ns
        # An unseen object goes on moving, but a size that goes on shrinking would end at nothing.
        table.motion[motion.RATE, 2:4][:, missed] = 0.0

    def _correct(self, rows: IndexArray, seen: SeenDetections, columns: IndexArray, time_ns: int) -> None:
        table = self._table
        boxes = table.motion.take(rows, axis=2)[:, BOX]
        variance = np.square(MEASURED_STD * _scale_px(boxes[motion.POSITION, 2:4]))
        motion.correct(boxes, _centre_and_size(seen.corners.take(columns, axis=1)), variance)
        table.motion[:, BOX, rows] = boxes
        self._note(rows, seen, columns, time_ns)
        is_new = table.whole[HITS].take(rows) >= self._settings.confirm_hits
        is_new &= table.whole[TRACK_ID].take(rows) == NO_ID
        self._give_ids(np.sort(rows[is_new]))

    def _give_ids(self, rows: IndexArray) -> None:
        self._table.whole[TRACK_ID, rows] = np.arange(self._next_id, self._next_id + rows.size)
        self._next_id += int(rows.size)

    def _note(self, rows: IndexArray, seen: SeenDetections, columns: IndexArray, time_ns: int) -> None:
        """Write down what a detection says about its track besides the box."""
        table = self._table
        table.whole[CLASS_ID, rows] = seen.class_id.take(columns)
        table.whole[GROUP, rows] = seen.group.take(columns)
        table.whole[HITS, rows] += 1
        table.whole[LAST_SEEN, rows] = time_ns
        table.whole[UNSEEN, rows] = 0
        table.score[rows] = seen.score.take(columns)
        table.visible[rows] = True
        if table.has_told or any(
            told is not None for told in seen.told
        ):  # most networks never say anything of the kind
            table.has_told = True
            for line, told in zip(table.told, seen.told, strict=True):
                line[rows] = np.nan if told is None else told.take(columns)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            table.state[row] = seen.state[column] if seen.state else None

    def _begin(self, seen: SeenDetections, time_ns: int) -> None:
        """Start tracks of free confident detections, the best first, where none is alive yet."""
        candidates = (seen.is_free & (seen.score >= self._settings.start_score)).nonzero()[0]
        if not candidates.size:
            return
        candidates = candidates.take((-seen.score.take(candidates)).argsort(kind="stable"))
        candidates = candidates[~self._taken(seen, candidates)]
        rows = self._table.grow(candidates.size)
        self.refused_detections += int(candidates.size - rows.size)
        started, table = candidates[: rows.size], self._table
        measured = _centre_and_size(seen.corners.take(started, axis=1))
        scale = _scale_px(measured[2:4])
        table.whole[CAMERA, rows] = seen.camera.take(started)
        table.whole[FIRST_SEEN, rows] = time_ns
        table.motion[:, BOX, rows] = motion.begun(measured, np.square(MEASURED_STD * scale), RATE_STD_PER_S * scale)
        self._note(rows, seen, started, time_ns)
        if self._settings.confirm_hits == 1:
            self._give_ids(rows)

    def _taken(self, seen: SeenDetections, candidates: IndexArray) -> NDArray[np.bool_]:
        """Which of the candidates lie on a track that is alive."""
        boxes, key = areas(seen.corners.take(candidates, axis=1)), seen.key.take(candidates)
        alive = areas(self._table.corners())
        _, columns, shared = overlaps_of(alive, self._matcher.keys_of(self._table), boxes, key)
        taken = np.zeros(candidates.size, np.bool_)
        taken[columns[shared >= TAKEN_OVERLAP]] = True
        return taken

    def _bury(self, corners: FloatArray, time_ns: int, geometries: Sequence[Geometry | None] | None) -> FloatArray:
        """Let tracks die that have gone unseen for too long, or left; returns the corners of those that live on."""
        table, settings = self._table, self._settings
        alive = time_ns - table.line(LAST_SEEN) <= settings.forget_s * NANOSECONDS_PER_SECOND
        hidden = (~table.visible[: table.count]).nonzero()[0]
        if hidden.size:
            lives = table.whole[UNSEEN].take(hidden) <= settings.coast_s * NANOSECONDS_PER_SECOND
            lives &= table.whole[TRACK_ID].take(hidden) != NO_ID
            lives &= ~self._are_ghosts(hidden, corners)
            if geometries is not None:
                lives &= self._are_inside(hidden, geometries)
            alive[hidden] &= lives
        return corners if alive.all() else corners.take(table.keep(alive), axis=1)

    def _are_ghosts(self, hidden: IndexArray, corners: FloatArray) -> NDArray[np.bool_]:
        """Unseen tracks that lie on a seen one: the object they followed goes on under the other id."""
        boxes, key = areas(corners), self._matcher.keys_of(self._table)
        visible = self._table.visible[: self._table.count].nonzero()[0]
        seen, seen_key = boxes.take(visible, axis=1), key.take(visible)
        rows, _, shared = overlaps_of(boxes.take(hidden, axis=1), key.take(hidden), seen, seen_key)
        ghosts = np.zeros(hidden.size, np.bool_)
        ghosts[rows[shared > SAME_OBJECT_OVERLAP]] = True
        return ghosts

    def _are_inside(self, rows: IndexArray, geometries: Sequence[Geometry | None]) -> NDArray[np.bool_]:
        """Which boxes have their centre in their camera's image; True where its size is not known."""
        low, high = self._image_limits(tuple(geometries))
        camera = self._table.whole[CAMERA].take(rows)
        centre = self._table.motion[motion.POSITION, :2].take(rows, axis=1)
        inside = (centre >= low.take(camera, axis=1)) & (centre <= high.take(camera, axis=1))
        return np.asarray(inside[0] & inside[1])

    def _image_limits(self, geometries: tuple[Geometry | None, ...]) -> tuple[FloatArray, FloatArray]:
        """`[2, N]` the lowest and the highest pixels of the source images, which change when a camera starts."""
        if self._limits is None or self._limits[0] != geometries:
            high = np.array([_ANY_SIZE if g is None else (g.source_width, g.source_height) for g in geometries]).T
            self._limits = geometries, np.where(np.isinf(high), -np.inf, 0.0), high
        return self._limits[1:]


def _centre_and_size(corners: FloatArray) -> FloatArray:
    """`[4, K]` centre, width and height of corners."""
    low, high = corners[:2], corners[2:]
    measured = np.empty_like(corners)
    np.add(low, high, out=measured[:2])
    measured[:2] /= 2.0
    np.subtract(high, low, out=measured[2:])
    return measured


def _scale_px(size_px: FloatArray) -> FloatArray:
    """`[K]` the side of a square as large as each box: what its noise is measured against."""
    area = size_px[0] * size_px[1]
    return np.asarray(np.sqrt(np.maximum(area, 1.0, out=area), out=area))
