"""The detections of one tick as a tracker sees them, and which tracks they belong to.

Detections take their turns (see `tracking`): confident ones first with confirmed tracks, then weak ones with tracks that
were seen a moment ago, then confident ones with tracks that are not confirmed yet. All of it is one sort and one walk
over the few pairs that overlap enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.inference.association import ENLARGED_BY, NEVER, areas, choose, overlaps_of, weaker_sights
from runtime.inference.track_table import CAMERA, GROUP, NO_ID, TRACK_ID, TrackTable
from runtime.inference.tracker_settings import TrackerSettings
from runtime.messages import Detections

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]


@dataclass(slots=True)
class SeenDetections:
    """D detections of one tick, from cameras that delivered, in columns."""

    detections: Detections
    indices: IndexArray  # of each in `detections`
    key: NDArray[np.int64]
    corners: FloatArray  # [4, D]
    score: NDArray[np.float32]
    is_free: NDArray[np.bool_]  # neither matched nor a second sight of another


class Matcher:
    """Matches by camera and group; `groups` has the group of each class (`association.class_groups`)."""

    def __init__(self, groups: NDArray[np.int64], settings: TrackerSettings) -> None:
        self.groups = groups
        self._settings = settings

    def keys_of(self, table: TrackTable) -> NDArray[np.int64]:
        """The key of every living track: only what has the same key may be the same object."""
        return self._key(table.line(CAMERA), table.line(GROUP))

    def seen(self, detections: Detections, present: NDArray[np.bool_]) -> SeenDetections:
        """What counts of the detections; those that see an object a second time are not free."""
        indices = present.take(detections.camera).nonzero()[0]
        key = self._key(detections.camera.take(indices), self.groups.take(detections.class_id.take(indices)))
        corners = detections.box_px.take(indices, axis=0).T.astype(np.float64, order="C")
        score = detections.score.take(indices)
        is_free = np.ones(indices.size, np.bool_)
        is_free[weaker_sights(areas(corners), key, score)] = False
        return SeenDetections(detections, indices, key, corners, score, is_free)

    def match(self, table: TrackTable, seen: SeenDetections) -> tuple[IndexArray, IndexArray]:
        """Rows of the table and the columns of `seen` that belong to them; these are free no more."""
        settings, score = self._settings, seen.score.astype(np.float64)
        is_confident = score >= settings.confident_score
        weight = np.where(is_confident, score, 1.0)
        at_least = np.where(is_confident, settings.confident_overlap * score, settings.weak_overlap)
        tracks, found = areas(table.corners(), ENLARGED_BY), areas(seen.corners, ENLARGED_BY)
        rows, columns, shared = overlaps_of(tracks, self.keys_of(table), found, seen.key)
        value = shared * weight.take(columns)
        good = value >= at_least.take(columns)
        good &= shared > 0.0
        good &= seen.is_free.take(columns)
        some = good.nonzero()[0]
        rows, columns = rows.take(some), columns.take(some)
        turn = _turns(table, rows, is_confident.take(columns))
        chosen_rows, chosen_columns = choose(rows, columns, turn, value.take(some))
        seen.is_free[chosen_columns] = False
        return np.array(chosen_rows, np.intp), np.array(chosen_columns, np.intp)

    def _key(self, camera: NDArray[np.integer], group: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(camera * (2 + self.groups.size) + group, np.int64)


def _turns(table: TrackTable, rows: IndexArray, is_confident: NDArray[np.bool_]) -> NDArray[np.int64]:
    """When each pair may be chosen, by the track in `rows` and the detection."""
    is_confirmed = table.whole[TRACK_ID].take(rows) != NO_ID
    for_weak = np.where(is_confirmed & table.visible.take(rows), 1, NEVER)
    return np.where(is_confident, np.where(is_confirmed, 0, 2), for_weak)
