"""Labels: boxes with identity and visible fraction, lane-line and drivable masks, from what was painted.

The index image has half the camera's size. Its values: 0 nothing, 1 drivable, 2 lane line, 3 an unlabelled thing,
4 and up the labelled things of this camera in painting order. A visible fraction is the share of a thing's own
pixels that nothing nearer has painted over, so it speaks of occlusion, not of the part outside the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from replay.synthetic.projection import NEAR_M, SUBPIXEL_BITS, SUBPIXELS, CameraView

if TYPE_CHECKING:
    from replay.synthetic.frame import Frame

PointArray = NDArray[np.int32]

DRIVABLE, LANE_LINE, UNLABELLED, FIRST_LABEL = 1, 2, 3, 4
MOST_LABELS = 250
HALF_BITS = SUBPIXEL_BITS + 1  # the same fixed-point coordinates at half size
SMALLEST_BOX_PX = 3.0
FARTHEST_LABEL_M = 130.0
FACING_COSINE = 0.2


@dataclass(frozen=True, slots=True)
class Box:
    """One labelled object in one image: pixels x0, y0, x1, y1 of that image, cut at its border."""

    class_name: str
    box: tuple[float, float, float, float]
    track_id: int
    visible_fraction: float
    state: str | None
    distance_m: float


class LabelCanvas:
    """Collects the labels of one image while it is painted."""

    def __init__(self, width: int, height: int) -> None:
        self._index = np.zeros((height // 2, width // 2), np.uint8)
        self._outline_counts: list[int] = []
        self._owners: list[int] = []
        self._value = UNLABELLED
        self._labelled: set[int] = set()
        self._bounds: dict[int, list[float]] = {}
        self._owner = -1
        self.boxes: list[Box] = []

    def ground_ribbon(self, outline: PointArray, is_line: bool) -> None:
        """A strip of the road."""
        cv2.fillPoly(self._index, [outline], LANE_LINE if is_line else DRIVABLE, cv2.LINE_8, HALF_BITS)

    def ground_line(self, outline: PointArray) -> None:
        """A lane dash."""
        cv2.fillConvexPoly(self._index, outline, LANE_LINE, cv2.LINE_8, HALF_BITS)

    def begin(self, owner: int) -> None:
        """The faces of the next thing follow."""
        self._count_previous()
        self._owner = owner
        self._value = FIRST_LABEL + len(self._owners)
        self._owners.append(owner)
        self._bounds[owner] = [np.inf, np.inf, -np.inf, -np.inf]

    def polygon(self, outline: PointArray) -> None:
        """A face of the current thing."""
        cv2.fillConvexPoly(self._index, outline, self._value, cv2.LINE_8, HALF_BITS)
        bounds = self._bounds[self._owner]
        low, high = outline.min(axis=0), outline.max(axis=0)
        bounds[0], bounds[1] = min(bounds[0], low[0]), min(bounds[1], low[1])
        bounds[2], bounds[3] = max(bounds[2], high[0]), max(bounds[3], high[1])

    def disc(self, x: int, y: int, radius: int) -> None:
        """A ball of the current thing."""
        cv2.circle(self._index, (x, y), radius, self._value, -1, cv2.LINE_8, HALF_BITS)
