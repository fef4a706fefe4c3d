"""The detections of one tick as a tracker sees them, and which tracks they belong to.

Detections take their turns (see `tracking`): confident ones first with confirmed tracks, then weak ones with tracks
that were seen a moment ago, then confident ones with tracks that are not confirmed yet. All of it is one sort and one
walk over the few pairs that overlap enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.inference.association import (
    ENLARGED_BY,
    NEVER,
    SAME_OBJECT_OVERLAP,
    areas,
    choose,
    overlap,
    places_of,
)
from runtime.inference.track_table import CAMERA, GROUP, NO_ID, TRACK_ID, TrackTable
from runtime.inference.tracker_settings import TrackerSettings
from runtime.messages import Detections

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]


@dataclass(slots=True)
class SeenDetections:
    """D detections of one tick, from cameras that delivered, in columns."""

    camera: NDArray[np.int32]
    class_id: NDArray[np.int32]
    group: NDArray[np.int64]
    key: NDArray[np.int64]
    corners: FloatArray  # [4, D]
    score: NDArray[np.float32]
    state: Sequence[str | None] | None  # None: of none
    told: tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]  # distance and speed, as in `Detections`
    is_free: NDArray[np.bool_]  # neither matched nor a second sight of another


@dataclass(slots=True)
class AwaitedTracks:
    """T living tracks where they are awaited on this tick."""

    key: NDArray[np.int64]
    boxes: FloatArray  # [5, T] enlarged


class Matcher:
    """Matches by camera and group; `groups` has the group of each class (`association.class_groups`)."""

    def __init__(self, groups: NDArray[np.int64], settings: TrackerSettings) -> None:
        self.groups = groups
        self._settings = settings
        self._is_earlier = np.zeros((0, 0), np.bool_)

    def keys_of(self, table: TrackTable) -> NDArray[np.int64]:
        """The key of every living track: only what has the same key may be the same object."""
        return self._key(table.line(CAMERA), table.line(GROUP))

    def awaited(self, table: TrackTable) -> AwaitedTracks:
        """The tracks of a table that stands at this tick's time."""
        return AwaitedTracks(self.keys_of(table), areas(table.corners(), ENLARGED_BY))

    def seen(self, detections: Detections, present: NDArray[np.bool_]) -> SeenDetections:
        """What counts of the detections."""
        counted = present.take(detections.camera).nonzero()[0]
        if counted.size < detections.camera.size:
            detections = _some_of(detections, counted)
        group = self.groups.take(detections.class_id)
        return SeenDetections(
            camera=detections.camera,
            class_id=detections.class_id,
            group=group,
            key=self._key(detections.camera, group),
            corners=detections.box_px.T.astype(np.float64, order="C"),
            score=detections.score,
            state=detections.state or None,
            told=(detections.distance_m, detections.speed_mps),
            is_free=np.ones(counted.size, np.bool_),
        )

    def match(self, table: TrackTable, awaited: AwaitedTracks, seen: SeenDetections) -> tuple[IndexArray, IndexArray]:
        """Rows of the table and the columns of `seen` that belong to them; these are free no more."""
        settings, score = self._settings, seen.score.astype(np.float64)
        is_confident = score >= settings.confident_score
        weight = np.where(is_confident, score, 1.0)
        at_least = np.where(is_confident, settings.confident_overlap * score, settings.weak_overlap)
        rows, columns, shared = self._shares(awaited, seen)
        value = shared * weight.take(columns)
        good = value >= at_least.take(columns)
        good &= shared > 0.0
        good &= seen.is_free.take(columns)
        some = good.nonzero()[0]
        rows, columns = rows.take(some), columns.take(some)
        turn = _turns(table, rows, is_confident.take(columns))
        chosen_rows, chosen_columns = choose(rows, columns, turn, value.take(some))
        found = np.array(chosen_columns, np.intp)
        seen.is_free[found] = False
        return np.array(chosen_rows, np.intp), found

    def _shares(self, awaited: AwaitedTracks, seen: SeenDetections) -> tuple[IndexArray, IndexArray, FloatArray]:
        """How much tracks and detections of one key overlap; takes second sights out of what is free.

        Detections with one another go the same way as tracks with detections, in the same calls, but as they are.
        """
        tracks, count = awaited.key.size, seen.key.size
        may = np.concatenate((awaited.key, seen.key))[:, None] == seen.key
        may[tracks:] &= self._earlier(count)
        rows, columns = places_of(may)
        split = int(rows.searchsorted(tracks))
        others = columns.copy()
        others[split:] += count
        bare = areas(seen.corners)
        boxes = np.concatenate((awaited.boxes, bare), axis=1).take(rows, axis=1)
        shared = overlap(boxes, np.concatenate((areas(seen.corners, ENLARGED_BY), bare), axis=1).take(others, axis=1))
        same = (shared[split:] > SAME_OBJECT_OVERLAP).nonzero()[0] + split
        if same.size:
            _drop_second_sights(seen, rows.take(same) - tracks, columns.take(same))
        return rows[:split], columns[:split], shared[:split]

    def _earlier(self, count: int) -> NDArray[np.bool_]:
        """`[count, count]` true where the row is before the column: every two of them once."""
        if count > len(self._is_earlier):
            self._is_earlier = ~np.tri(2 * count, dtype=np.bool_)
        return self._is_earlier[:count, :count]

    def _key(self, camera: NDArray[np.integer], group: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(camera * (2 + self.groups.size) + group, np.int64)


def _drop_second_sights(seen: SeenDetections, first: IndexArray, second: IndexArray) -> None:
    """Of two detections that cover each other the weaker one is not free; of equals, the later.

    Suppression by class leaves an object that looks like a car and like a truck with two boxes; it is one object.
    """
    for earlier, later in zip(first.tolist(), second.tolist(), strict=True):
        seen.is_free[later if seen.score[earlier] >= seen.score[later] else earlier] = False


def _some_of(detections: Detections, rows: IndexArray) -> Detections:
    """Those in `rows`."""
    told = [column if column is None else column.take(rows) for column in (detections.distance_m, detections.speed_mps)]
    state = [detections.state[row] for row in rows.tolist()] if detections.state else []
    return Detections(
        detections.camera.take(rows), detections.class_id.take(rows), detections.score.take(rows),
        detections.box_px.take(rows, axis=0), state, *told,
    )  # fmt: skip


def _turns(table: TrackTable, rows: IndexArray, is_confident: NDArray[np.bool_]) -> NDArray[np.int64]:
    """When each pair may be chosen, by the track in `rows` and the detection."""
    is_confirmed = table.whole[TRACK_ID].take(rows) != NO_ID
    for_weak = np.where(is_confirmed & table.visible.take(rows), 1, NEVER)
    return np.where(is_confident, np.where(is_confirmed, 0, 2), for_weak)
