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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry
from runtime.inference.association import ENLARGED_BY, choose, class_groups, overlap, pairs, strongest_of_each
from runtime.inference.ground import EgoMotion, GroundPlane
from runtime.inference.track_report import GroundSettings, TrackReporter, follow_places
from runtime.inference.track_table import NO_ID, TrackTable
from runtime.messages import NANOSECONDS_PER_SECOND, Detections, Prediction, Track
from runtime.rig import Rig

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

#: Deviations in parts of a box's size (ByteTrack's, brought from frames to seconds at its 30 per second).
MEASURED_STD = 0.05
RATE_STD_PER_S = 1.9
RATE_DENSITY_PER_S = 1.0
#: A new track may not start on top of one that is alive.
TAKEN_OVERLAP = 0.5
#: Two boxes of one group that overlap more than this are one object.
SAME_OBJECT_OVERLAP = 0.7
_NEVER_NS = np.int64(-(2**61))


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When detections make, keep and end a track."""

    confident_score: float = 0.4  # above: looked for first
    start_score: float = 0.45  # above: may start a track
    confident_overlap: float = 0.15  # of enlarged boxes
    weak_overlap: float = 0.35
    confirm_hits: int = 2
    coast_s: float = 1.0
    forget_s: float = 3.0
    max_tracks: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.max_tracks <= 10_000 or self.confirm_hits < 1:
            raise ValueError(f"max_tracks {self.max_tracks} must be 1 to 10000, confirm_hits {self.confirm_hits} >= 1")
        if not 0.0 < self.coast_s <= self.forget_s <= 60.0:
            raise ValueError(f"0 < coast_s {self.coast_s} <= forget_s {self.forget_s} <= 60 does not hold")


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
        self._delivered_ns = np.full(len(self._cameras), _NEVER_NS)
        self._class_names: tuple[str, ...] = ()
        self._groups = class_groups(())
        self._time_ns: int | None = None
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
        dt_ns = self._advance(time_ns)
        if prediction is not None:
            self._delivered_ns[seen] = time_ns
            self._adopt_classes(prediction.class_names)
            self._observe(prediction.detections, seen, time_ns, dt_ns)
            follow_places(self._table, self._plane, self._ground, time_ns, geometries)
        self._bury(time_ns, geometries)
        is_looking = time_ns - self._delivered_ns <= self._ground.max_place_age_s * NANOSECONDS_PER_SECOND
        names, motion = self._class_names, ego or EgoMotion()
        return self._reporter.report(self._table, names, time_ns, motion, is_looking, geometries)

    def _advance(self, time_ns: int) -> int:
        """Move every track to `time_ns`; returns the time since the last update."""
        dt_ns = 0 if self._time_ns is None else time_ns - self._time_ns
        if dt_ns < 0:
            raise ValueError(
                f"time went back from {self._time_ns} to {time_ns}; make a new Tracker for a new recording"
            )
        self._time_ns = time_ns
        dt_s = min(dt_ns / NANOSECONDS_PER_SECOND, self._settings.forget_s)
        boxes = self._table.boxes()
        boxes.advance(dt_s, (RATE_DENSITY_PER_S * _scale_px(boxes.position)) ** 2)
        np.maximum(boxes.position[:, 2:], 1.0, out=boxes.position[:, 2:])
        self._table.places().advance(dt_s, self._ground.accel_density)
        return dt_ns

    def _adopt_classes(self, class_names: tuple[str, ...]) -> None:
        if class_names != self._class_names:
            if self._class_names:
                raise ValueError("class names changed; make a new Tracker for another network")
            self._class_names = class_names
            self._groups = class_groups(class_names)

    def _observe(self, detections: Detections, seen: NDArray[np.bool_], time_ns: int, dt_ns: int) -> None:
        """Match, correct, age and begin tracks of the cameras that delivered."""
        usable = self._distinct(detections, np.flatnonzero(seen[detections.camera]))
        box_px = detections.box_px[usable].astype(np.float64)
        rows, matched = self._match(detections, usable, box_px)
        observed = seen[self._table.field("camera")]
        missed = observed.copy()
        missed[rows] = False
        self._mark_missed(missed, dt_ns)
        self._correct(rows, detections, usable[matched], box_px[matched], time_ns)
        free = np.ones(usable.size, np.bool_)
        free[matched] = False
        self._begin(detections, usable, box_px, np.flatnonzero(free), time_ns)

    def _distinct(self, detections: Detections, usable: IndexArray) -> IndexArray:
        """The usable detections without those that see an object a second time under another class."""
        group = self._groups[detections.class_id[usable]]
        box_px, score = detections.box_px[usable].astype(np.float64), detections.score[usable].astype(np.float64)
        return usable[strongest_of_each(detections.camera[usable], group, box_px, score, SAME_OBJECT_OVERLAP)]

    def _match(self, detections: Detections, usable: IndexArray, box_px: FloatArray) -> tuple[IndexArray, IndexArray]:
        """Rows of the table and the usable detections that belong to them."""
        settings, table = self._settings, self._table
        group = self._groups[detections.class_id[usable]]
        rows, columns = pairs(table.field("camera"), table.field("group"), detections.camera[usable], group)
        shared = overlap(table.corners()[rows], box_px[columns], ENLARGED_BY)
        score = detections.score[usable].astype(np.float64)[columns]
        confident = score >= settings.confident_score
        confirmed = table.field("track_id")[rows] != NO_ID
        recent = table.field("visible")[rows]
        rounds = (
            (confirmed & confident, shared * score, settings.confident_overlap * score),
            (confirmed & recent & ~confident, shared, settings.weak_overlap),
            (~confirmed & confident, shared * score, settings.confident_overlap * score),
        )
        open_rows = np.ones(table.count, np.bool_)
        open_columns = np.ones(usable.size, np.bool_)
        found: list[tuple[IndexArray, IndexArray]] = []
        for allowed, value, at_least in rounds:
            here = allowed & open_rows[rows] & open_columns[columns] & (value >= at_least) & (shared > 0.0)
            part = choose(rows[here], columns[here], value[here], 0.0)
            open_rows[part[0]] = False
            open_columns[part[1]] = False
            found.append(part)
        return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])

    def _mark_missed(self, missed: NDArray[np.bool_], dt_ns: int) -> None:
        table = self._table
        table.field("visible")[missed] = False
        table.field("unseen_ns")[missed] += dt_ns
        # An unseen object goes on moving, but a size that goes on shrinking would end at nothing.
        table.field("box_rate")[missed, 2:] = 0.0

    def _correct(
        self, rows: IndexArray, detections: Detections, indices: IndexArray, box_px: FloatArray, time_ns: int
    ) -> None:
        table = self._table
        boxes = table.boxes()
        variance = ((MEASURED_STD * _scale_px(boxes.position[rows])) ** 2) * np.ones((1, 4))
        boxes.correct(rows, _centre_and_size(box_px), variance)
        self._note(rows, detections, indices, time_ns)
        hits = table.field("hits")
        track_id = table.field("track_id")
        for row in np.sort(rows[(hits[rows] >= self._settings.confirm_hits) & (track_id[rows] == NO_ID)]).tolist():
            track_id[row] = self._next_id
            self._next_id += 1

    def _note(self, rows: IndexArray, detections: Detections, indices: IndexArray, time_ns: int) -> None:
        """Write down what a detection says about its track besides the box."""
        table = self._table
        table.field("class_id")[rows] = detections.class_id[indices]
        table.field("group")[rows] = self._groups[detections.class_id[indices]]
        table.field("score")[rows] = detections.score[indices]
        table.field("hits")[rows] += 1
        table.field("last_seen_ns")[rows] = time_ns
        table.field("unseen_ns")[rows] = 0
        table.field("visible")[rows] = True
        for name, told in (("distance_m", detections.distance_m), ("speed_mps", detections.speed_mps)):
            table.field(f"predicted_{name}")[rows] = np.nan if told is None else told[indices]
        states = table.field("state")
        for row, index in zip(rows.tolist(), indices.tolist(), strict=True):
            states[row] = detections.state[index] if detections.state else None

    def _begin(
        self, detections: Detections, usable: IndexArray, box_px: FloatArray, free: IndexArray, time_ns: int
    ) -> None:
        """Start tracks of unmatched confident detections, the best first, where none is alive yet."""
        score = detections.score[usable[free]]
        order = np.argsort(-score, kind="stable")
        candidates = free[order][score[order] >= self._settings.start_score]
        candidates = candidates[~self._taken(detections, usable[candidates], box_px[candidates])]
        rows = self._table.grow(candidates.size)
        self.refused_detections += int(candidates.size - rows.size)
        started, table = candidates[: rows.size], self._table
        measured = _centre_and_size(box_px[started])
        scale = _scale_px(measured) * np.ones((1, 4))
        table.field("track_id")[rows] = NO_ID
        table.field("camera")[rows] = detections.camera[usable[started]]
        table.field("first_seen_ns")[rows] = time_ns
        table.boxes().begin(rows, measured, (MEASURED_STD * scale) ** 2, RATE_STD_PER_S * scale)
        self._note(rows, detections, usable[started], time_ns)
        if self._settings.confirm_hits == 1:
            table.field("track_id")[rows] = np.arange(self._next_id, self._next_id + rows.size)
            self._next_id += int(rows.size)

    def _taken(self, detections: Detections, indices: IndexArray, box_px: FloatArray) -> NDArray[np.bool_]:
        table = self._table
        group = self._groups[detections.class_id[indices]]
        rows, columns = pairs(table.field("camera"), table.field("group"), detections.camera[indices], group)
        covered = columns[overlap(table.corners()[rows], box_px[columns]) >= TAKEN_OVERLAP]
        taken = np.zeros(indices.size, np.bool_)
        taken[covered] = True
        return taken

    def _bury(self, time_ns: int, geometries: Sequence[Geometry | None] | None) -> None:
        table, settings = self._table, self._settings
        unseen_ns = table.field("unseen_ns")
        alive = unseen_ns <= settings.coast_s * NANOSECONDS_PER_SECOND
        alive &= time_ns - table.field("last_seen_ns") <= settings.forget_s * NANOSECONDS_PER_SECOND
        alive &= (table.field("track_id") != NO_ID) | table.field("visible")
        alive &= ~_is_ghost(table)
        if geometries is not None:
            alive &= table.field("visible") | _inside(table, geometries)
        table.keep(alive)


def _is_ghost(table: TrackTable) -> NDArray[np.bool_]:
    """Unseen tracks that lie on a seen one: the object they followed goes on under the other id."""
    visible, corners = table.field("visible"), table.corners()
    rows, columns = pairs(table.field("camera"), table.field("group"), table.field("camera"), table.field("group"))
    candidates = ~visible[rows] & visible[columns]
    rows, columns = rows[candidates], columns[candidates]
    ghost = np.zeros(table.count, np.bool_)
    ghost[rows[overlap(corners[rows], corners[columns]) > SAME_OBJECT_OVERLAP]] = True
    return ghost


def _inside(table: TrackTable, geometries: Sequence[Geometry | None]) -> NDArray[np.bool_]:
    """Which boxes have their centre in their camera's image; True where its size is not known."""
    size = np.array([(np.inf, np.inf) if g is None else (g.source_width, g.source_height) for g in geometries])
    centre = table.field("box_position")[:, :2]
    low = np.where(np.isinf(size), -np.inf, 0.0)
    camera = table.field("camera")
    return np.asarray(((centre >= low[camera]) & (centre <= size[camera])).all(axis=1))


def _centre_and_size(box_px: FloatArray) -> FloatArray:
    return np.concatenate(((box_px[:, :2] + box_px[:, 2:]) / 2.0, box_px[:, 2:] - box_px[:, :2]), axis=1)


def _scale_px(position: FloatArray) -> FloatArray:
    """`[K, 1]` the side of a square as large as each box: what its noise is measured against."""
    return np.sqrt(np.maximum(position[:, 2:3] * position[:, 3:4], 1.0))
