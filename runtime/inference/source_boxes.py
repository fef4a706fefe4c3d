"""Boxes from pixels of the prepared image to pixels of each camera's source image, for all cameras at once.

Does what `Geometry.boxes_to_source` does for one camera, in one step over all. What clipping to the source image leaves
without area lay in the padding, and a box that is not finite lies nowhere: both are dropped, as is everything of a
camera whose geometry is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.formats.image_spec import Geometry
from runtime.inference.heads.decoder import RowDetections
from runtime.messages import Detections

MIN_SIDE_PX = 1.0


class SourceBoxes:
    """The mapping of one rig; geometries are taken over when they change, which is when a camera starts."""

    def __init__(self, rows: Sequence[int], batch_rows: int, identity: Geometry) -> None:
        self._identity = identity
        self._count = len(rows)
        self._camera_of_row = np.full(batch_rows, -1, np.int32)
        self._camera_of_row[list(rows)] = np.arange(len(rows))
        self._geometries: list[Geometry | None] = [None] * self._count
        self._scale = np.ones((self._count, 4), np.float32)
        self._offset = np.zeros((self._count, 4), np.float32)
        self._limit = np.zeros((self._count, 4), np.float32)

    def map(self, found: RowDetections, geometries: Sequence[Geometry | None] | None) -> Detections:
        """`found` by camera and in source pixels. Without `geometries` the prepared image is the source."""
        self._take_over([self._identity] * self._count if geometries is None else list(geometries))
        if len(found) == 0:
            return Detections.empty()
        camera = self._camera_of_row.take(found.row)
        box_px = found.box_px - self._offset.take(camera, axis=0, mode="wrap")  # camera -1: a row of padding
        box_px /= self._scale.take(camera, axis=0, mode="wrap")
        box_px.clip(0.0, self._limit.take(camera, axis=0, mode="wrap"), out=box_px)
        # A comparison with NaN is false: boxes that are not finite go the same way as those without area.
        is_good = box_px[:, 2:] - box_px[:, :2] >= MIN_SIDE_PX
        good = (is_good[:, 0] & is_good[:, 1] & (camera >= 0)).nonzero()[0]
        if good.size == camera.size:
            state = list(found.state)
            return Detections(camera, found.class_id, found.score, box_px, state, found.distance_m, found.speed_mps)
        return Detections(
            camera=camera[good],
            class_id=found.class_id[good],
            score=found.score[good],
            box_px=box_px[good],
            state=[found.state[index] for index in good.tolist()],
            distance_m=None if found.distance_m is None else found.distance_m[good],
            speed_mps=None if found.speed_mps is None else found.speed_mps[good],
        )

    def _take_over(self, geometries: list[Geometry | None]) -> None:
        if geometries == self._geometries:
            return
        if len(geometries) != self._count:
            raise ValueError(f"{len(geometries)} geometries for {self._count} cameras; give one (or None) per camera")
        for camera, geometry in enumerate(geometries):
            if geometry is None:
                self._limit[camera] = 0.0
                continue
            self._scale[camera] = (geometry.scale_x, geometry.scale_y) * 2
            self._offset[camera] = (geometry.offset_x, geometry.offset_y) * 2
            self._limit[camera] = (geometry.source_width, geometry.source_height) * 2
        self._geometries = geometries
