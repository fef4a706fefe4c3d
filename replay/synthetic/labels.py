"""Labels: boxes with identity and visible fraction, lane-line and drivable masks, from what was painted.

The index image has half the camera's size. Its values: 0 nothing, 1 drivable, 2 lane line, 3 an unlabelled thing,
4 and up the labelled things of this camera in painting order. A visible fraction is the share of a thing's own
pixels inside its box that nothing nearer has painted over: it speaks of occlusion, not of the part outside the image.
A thing that leaves the image has the box of its painted part, which the projected corners alone would overstate.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from replay.synthetic.frame import Frame
from replay.synthetic.projection import NEAR_M, SUBPIXEL_BITS, SUBPIXELS, CameraView
from replay.synthetic.things import Thing

FloatArray = NDArray[np.float64]
PointArray = NDArray[np.int32]
Corners = tuple[float, float, float, float]

DRIVABLE, LANE_LINE, UNLABELLED, FIRST_LABEL = 1, 2, 3, 4
MOST_LABELS = 250  # per image: the index image has eight bits; the nearest are painted last, so the farthest win
HALF_BITS = SUBPIXEL_BITS + 1  # the same fixed-point coordinates at half size
SMALLEST_BOX_PX = 3.0
FARTHEST_LABEL_M = 130.0
FACING_COSINE = 0.2
LEAST_VISIBLE_FRACTION = 0.02
BOX_FACES = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]])


@dataclass(frozen=True, slots=True)
class Box:
    """One labelled object in one image: pixels x0, y0, x1, y1 of that image, cut at its border."""

    class_name: str
    box: Corners
    track_id: int
    visible_fraction: float
    state: str | None
    distance_m: float


@dataclass(slots=True)
class _Painted:
    """A labelled thing whose faces are being, or have been, painted."""

    thing: Thing
    box: Corners
    distance_m: float
    value: int
    window: tuple[slice, slice]  # the box in the index image
    leaves_image: bool
    own_pixels: int = 0


class LabelCanvas:
    """Collects the labels of one image while it is painted."""

    def __init__(self, view: CameraView, frame: Frame) -> None:
        self._view = view
        self._frame = frame
        self._index = np.zeros((view.height // 2, view.width // 2), np.uint8)
        self._painted: list[_Painted] = []
        self._current: _Painted | None = None
        self._value = UNLABELLED

    def ground_ribbon(self, outline: PointArray, is_line: bool) -> None:
        """A strip of the road."""
        cv2.fillPoly(self._index, [outline], LANE_LINE if is_line else DRIVABLE, cv2.LINE_8, HALF_BITS)

    def ground_line(self, outline: PointArray) -> None:
        """A lane dash."""
        cv2.fillConvexPoly(self._index, outline, LANE_LINE, cv2.LINE_8, HALF_BITS)

    def begin(self, owner: int) -> None:
        """The faces of the next thing follow."""
        self._count_current()
        self._value = UNLABELLED
        labelled = self._label(owner) if len(self._painted) < MOST_LABELS else None
        if labelled is not None:
            self._painted.append(labelled)
            self._value = labelled.value
        self._current = labelled

    def polygon(self, outline: PointArray) -> None:
        """A face of the current thing."""
        cv2.fillConvexPoly(self._index, outline, self._value, cv2.LINE_8, HALF_BITS)

    def disc(self, x: int, y: int, radius: int) -> None:
        """A ball of the current thing."""
        cv2.circle(self._index, (x, y), radius, self._value, -1, cv2.LINE_8, HALF_BITS)

    def boxes(self) -> list[Box]:
        """All labels, after everything has been painted; wholly hidden things have none."""
        self._count_current()
        self._current = None
        boxes = [self._box(painted) for painted in self._painted if painted.own_pixels > 0]
        return [box for box in boxes if box.visible_fraction >= LEAST_VISIBLE_FRACTION]

    def lane_mask(self) -> NDArray[np.uint8]:
        """[H / 2, W / 2] 255 where a lane line is visible."""
        return np.where(self._index == LANE_LINE, 255, 0).astype(np.uint8)

    def drivable_mask(self) -> NDArray[np.uint8]:
        """[H / 2, W / 2] 255 where road of the driving direction (its lines included) is visible."""
        return np.where((self._index == DRIVABLE) | (self._index == LANE_LINE), 255, 0).astype(np.uint8)

    def _count_current(self) -> None:
        painted = self._current
        if painted is None:
            return
        own = self._pixels_of(painted)
        painted.own_pixels = int(np.count_nonzero(own))
        if painted.leaves_image and painted.own_pixels:
            painted.box = _painted_box(painted, own)

    def _pixels_of(self, painted: _Painted) -> NDArray[np.bool_]:
        return np.asarray(self._index[painted.window] == painted.value)

    def _box(self, painted: _Painted) -> Box:
        thing = painted.thing
        fraction = int(np.count_nonzero(self._pixels_of(painted))) / painted.own_pixels
        name = str(thing.class_name)
        return Box(name, painted.box, thing.track_id, round(fraction, 3), thing.state, round(painted.distance_m, 2))

    def _label(self, owner: int) -> _Painted | None:
        """The label of a thing, or None where it has none or cannot be told in this image."""
        thing = self._frame.things[owner]
        if thing.class_name is None:
            return None
        centre = self._frame.centres[owner]
        distance_m = float(np.linalg.norm(centre - self._view.place))
        if distance_m > FARTHEST_LABEL_M or (thing.must_face and not self._sees_front(thing, centre)):
            return None
        outer = self._outer_box(thing)
        size = (float(self._view.width), float(self._view.height))
        x0, y0, x1, y1 = (min(max(value, 0.0), size[i % 2]) for i, value in enumerate(outer or (0.0,) * 4))
        box: Corners = (x0, y0, x1, y1)
        if min(box[2] - box[0], box[3] - box[1]) < SMALLEST_BOX_PX:
            return None
        rows = slice(int(box[1] / 2), int(np.ceil(box[3] / 2)))
        columns = slice(int(box[0] / 2), int(np.ceil(box[2] / 2)))
        value = FIRST_LABEL + len(self._painted)
        return _Painted(thing, box, distance_m, value, (rows, columns), leaves_image=box != outer)

    def _sees_front(self, thing: Thing, centre: FloatArray) -> bool:
        front = self._frame.ego.rotated(np.array([np.cos(thing.yaw_rad), np.sin(thing.yaw_rad), 0.0]))
        towards = self._view.place[:2] - centre[:2]
        return float(front[:2] @ towards) > FACING_COSINE * float(np.linalg.norm(towards))

    def _outer_box(self, thing: Thing) -> Corners | None:
        """Bounds of the projected corners, which may reach far outside the image; None behind the camera."""
        points = self._view.points(self._frame.ego.to_vehicle(thing.posed().label_points))
        if points[:, 2].min() >= NEAR_M:
            pixels = self._view.pixels(points)
        else:
            faces = points.reshape(-1, 8, 3)[:, BOX_FACES].reshape(-1, 4, 3)
            outlines = [outline for outline in self._view.clipped_polygons(faces) if len(outline)]
            if not outlines:
                return None
            pixels = np.concatenate(outlines) / SUBPIXELS
        (x0, y0), (x1, y1) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
        return x0, y0, x1, y1


def _painted_box(painted: _Painted, own: NDArray[np.bool_]) -> Corners:
    """The bounds of the thing's own pixels, inside its outer box."""
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    top, left = painted.window[0].start, painted.window[1].start
    x0, y0, x1, y1 = painted.box
    return (
        max(x0, 2.0 * (left + int(columns[0]))),
        max(y0, 2.0 * (top + int(rows[0]))),
        min(x1, 2.0 * (left + int(columns[-1]) + 1)),
        min(y1, 2.0 * (top + int(rows[-1]) + 1)),
    )
