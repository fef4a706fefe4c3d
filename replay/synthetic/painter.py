"""The painter: one camera's image of one frame, far things first (painter's algorithm), and what labels need.

Order: sky, verge, strips of the road, ground marks, haze on the ground, things from far to near, then what the lens
and the sensor add (`sensor`). With a `LabelCanvas` the same polygons go into an index image at half size, so that
masks and visible fractions are exact with respect to what was painted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from replay.synthetic.atmosphere import PANORAMA_HEIGHT, PANORAMA_TOP_DEG, PANORAMA_WIDTH, Atmosphere
from replay.synthetic.frame import Frame
from replay.synthetic.labels import LabelCanvas
from replay.synthetic.projection import NEAR_M, SUBPIXEL_BITS, CameraView, subpixels
from replay.synthetic.scenery import Mark
from runtime.rig import RigCamera

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]

DETAIL_PX = 22.0  # things less tall than this are painted without their details
SMALLEST_PX = 1.5
HAZE_FLOOR = 0.02


@dataclass(slots=True)
class _Visible:
    """What of a frame's things one camera sees, in painting order."""

    outlines: list[NDArray[np.int32] | None]  # None: a ball
    colours: list[list[int]]
    owners: list[int]
    discs: list[tuple[int, int, int]]  # x, y, radius in sub-pixels, used where the outline is None


class Painter:
    """Paints one camera. Keeps what depends only on camera and atmosphere."""

    def __init__(self, view: CameraView, atmosphere: Atmosphere) -> None:
        self.view = view
        self._atmosphere = atmosphere
        self._sky_maps = _sky_maps(view.camera)
        sky = np.clip(atmosphere.panorama.astype(np.float64) * atmosphere.exposure, 0, 255).astype(np.uint8)
        self._sky = np.concatenate((sky, sky[:, : PANORAMA_WIDTH // 2 + 2], sky[:, :1]), axis=1)
        self._haze_keep, self._haze_add = _haze_rows(view, atmosphere)
        self._headlights = _headlight_gain(view.camera) if atmosphere.is_dark else None

    def paint(self, frame: Frame, image: Image, labels: LabelCanvas | None = None) -> None:
        """Fill `image` [H, W, 3] RGB, before lens and sensor."""
        self._paint_sky(image, frame.ego.yaw_rad)
        corners = (0, self.view.horizon_row), (self.view.width, self.view.height)
        cv2.rectangle(image, *corners, frame.ground.verge_colour, -1)
        self._paint_ribbons(image, frame, labels)
        self._paint_marks(image, frame, labels)
        self._light_ground(image)
        self._paint_things(image, frame, labels)

    def _paint_sky(self, image: Image, yaw_rad: float) -> None:
        rows = self.view.horizon_row
        if rows == 0:
            return
        turned = (yaw_rad + self.view.bearing_rad) % (2 * math.pi)  # the panorama runs clockwise (to the right)
        first = int((1.0 - turned / (2 * math.pi)) * PANORAMA_WIDTH) % PANORAMA_WIDTH
        part = self._sky[:, first : first + PANORAMA_WIDTH // 2 + 2]
        cv2.remap(part, *self._sky_maps, cv2.INTER_LINEAR, dst=image[:rows], borderMode=cv2.BORDER_REPLICATE)

    def _paint_ribbons(self, image: Image, frame: Frame, labels: LabelCanvas | None) -> None:
        outlines = self.view.clipped_polygons(self.view.points(frame.ground.ribbons))
        for outline, kind, colour in zip(outlines, frame.ground.ribbon_kinds, frame.ground.ribbon_colours, strict=True):
            if len(outline) < 3:
                continue
            cv2.fillPoly(image, [outline], colour, cv2.LINE_8, SUBPIXEL_BITS)
            if labels is not None and kind is not Mark.VERGE:
                labels.ground_ribbon(outline, is_line=kind is Mark.LINE)

    def _paint_marks(self, image: Image, frame: Frame, labels: LabelCanvas | None) -> None:
        points = self.view.points(frame.ground.marks)
        chosen, outlines = _visible_outlines(self.view, points)
        order = np.argsort(frame.ground.mark_kinds[chosen], kind="stable")
        colours = frame.ground.mark_colours[chosen].astype(int).tolist()
        kinds = frame.ground.mark_kinds[chosen].tolist()
        for row in order.tolist():
            cv2.fillConvexPoly(image, outlines[row], colours[row], cv2.LINE_8, SUBPIXEL_BITS)
            if labels is not None and kinds[row] == Mark.LINE:
                labels.ground_line(outlines[row])

    def _light_ground(self, image: Image) -> None:
        """Headlights on the road at night, and haze towards the horizon."""
        ground = image[self.view.horizon_row :]
        if self._headlights is not None:
            cv2.multiply(ground, self._headlights, dst=ground, scale=1 / 32)
        rows = ground[: len(self._haze_keep)]
        if len(rows):
            cv2.multiply(rows, self._haze_keep, dst=rows, scale=1 / 255)
            cv2.add(rows, self._haze_add, dst=rows)

    def _paint_things(self, image: Image, frame: Frame, labels: LabelCanvas | None) -> None:
        faces = _visible(self.view, frame)
        previous = -1
        for outline, colour, owner, disc in zip(faces.outlines, faces.colours, faces.owners, faces.discs, strict=True):
            if labels is not None and owner != previous:
                labels.begin(owner)
                previous = owner
            if outline is None:
                x, y, radius = disc
                cv2.circle(image, (x, y), radius, colour, -1, cv2.LINE_8, SUBPIXEL_BITS)
                if labels is not None:
                    labels.disc(x, y, radius)
            else:
                cv2.fillConvexPoly(image, outline, colour, cv2.LINE_8, SUBPIXEL_BITS)
                if labels is not None:
                    labels.polygon(outline)


def _visible_outlines(view: CameraView, polygons: FloatArray) -> tuple[NDArray[np.int64], list[NDArray[np.int32]]]:
    """Rows and outlines of the camera-frame polygons [K, M, 3] that can be seen, near ones clipped."""
    z = polygons[..., 2]
    front = z.min(axis=1) >= NEAR_M
    crossing = np.flatnonzero(~front & (z.max(axis=1) > NEAR_M))
    whole = np.flatnonzero(front)
    pixels = view.pixels(polygons[whole])
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    on_image = (high[:, 0] > 0) & (high[:, 1] > 0) & (low[:, 0] < view.width) & (low[:, 1] < view.height)
    whole = whole[on_image]
    outlines = list(subpixels(pixels[on_image]))
    cut = view.clipped_polygons(polygons[crossing])
    kept = [index for index, outline in enumerate(cut) if len(outline) >= 3]
    return np.concatenate((whole, crossing[kept])), outlines + [cut[index] for index in kept]


def _visible(view: CameraView, frame: Frame) -> _Visible:
    """Cull, project and order all faces and balls."""
    faces, balls = frame.faces, frame.balls
    centres = view.points(frame.centres)
    distance_m = np.linalg.norm(centres, axis=1)
    tall_px = view.fy * frame.heights_m / np.maximum(distance_m, 0.5)
    seen = view.sees(centres, frame.radii) & (tall_px > SMALLEST_PX)
    towards = np.einsum("ij,ij->i", faces.normals, faces.quads[:, 0] - view.place)
    wanted = seen[faces.owner] & (towards < 0) & (~faces.detail | (tall_px > DETAIL_PX)[faces.owner])
    rows = np.flatnonzero(wanted)
    chosen, outlines = _visible_outlines(view, view.points(faces.quads[rows]))
    rows = rows[chosen]
    ball_rows, discs = _discs(view, frame, seen)
    owners = np.concatenate((faces.owner[rows], balls.owner[ball_rows]))
    layers = np.concatenate((faces.layer[rows], balls.layer[ball_rows]))
    colours = np.concatenate((faces.colours[rows], balls.colours[ball_rows])).tolist()
    order = np.lexsort((layers, owners, -distance_m[owners])).tolist()
    all_outlines: list[NDArray[np.int32] | None] = [*outlines, *([None] * len(discs))]
    all_discs = [(0, 0, 0)] * len(outlines) + discs
    owner_list = owners.tolist()
    return _Visible(
        [all_outlines[i] for i in order],
        [colours[i] for i in order],
        [owner_list[i] for i in order],
        [all_discs[i] for i in order],
    )


def _discs(
    view: CameraView, frame: Frame, seen: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], list[tuple[int, int, int]]]:
    """Balls in front of the camera as discs in sub-pixels."""
    balls = frame.balls
    rows = np.flatnonzero(seen[balls.owner]) if len(balls.owner) else np.zeros(0, np.int64)
    places = view.points(balls.places[rows, :3])
    away = np.einsum("ij,ij->i", balls.facing[rows], balls.places[rows, :3] - view.place)
    in_front = (places[:, 2] > NEAR_M + balls.places[rows, 3]) & (away <= 0.0)
    rows, places = rows[in_front], places[in_front]
    pixels = subpixels(view.pixels(places))
    radii = subpixels(balls.places[rows, 3] * view.fx / places[:, 2])
    discs = [(x, y, radius) for (x, y), radius in zip(pixels.tolist(), radii.tolist(), strict=True)]
    return rows, discs


@lru_cache(maxsize=32)
def _sky_maps(camera: RigCamera) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Where each sky pixel lies in the half panorama that starts at the camera's bearing minus ninety degrees."""
    view = CameraView(camera)
    columns, rows = np.meshgrid(np.arange(view.width), np.arange(view.horizon_row))
    rays = np.stack(((columns - view.cx) / view.fx, (rows - view.cy) / view.fy, np.ones(columns.shape)), axis=-1)
    directions = rays @ view.to_camera.T  # camera -> vehicle
    cos, sin = math.cos(-view.bearing_rad), math.sin(-view.bearing_rad)
    ahead = directions[..., 0] * cos - directions[..., 1] * sin
    left = directions[..., 0] * sin + directions[..., 1] * cos
    azimuth = np.arctan2(-left, ahead)  # right positive
    elevation = np.degrees(np.arctan2(directions[..., 2], np.hypot(ahead, left)))
    map_x = (azimuth / (2 * np.pi) + 0.25) * PANORAMA_WIDTH
    map_y = (1 - elevation / PANORAMA_TOP_DEG) * (PANORAMA_HEIGHT - 1)
    fixed, fraction = cv2.convertMaps(map_x.astype(np.float32), map_y.astype(np.float32), cv2.CV_16SC2)
    return fixed, fraction


def _ground_distance_m(view: CameraView) -> FloatArray:
    """Distance to the ground along the middle column, by row below the horizon."""
    rows = np.arange(view.horizon_row, view.height) + 0.5
    fall = view.camera.rotation_matrix[2, 1] * (rows - view.cy) / view.fy + view.camera.rotation_matrix[2, 2]
    return np.asarray(view.place[2] / np.maximum(-fall, 1e-4))


def _haze_rows(view: CameraView, atmosphere: Atmosphere) -> tuple[Image, Image]:
    """Per row: how much of the ground is kept (0..255) and the haze to add."""
    keep = np.exp(-3.0 * _ground_distance_m(view) / atmosphere.visibility_m)
    keep = keep[keep < 1 - HAZE_FLOOR]
    shape = (len(keep), view.width, 3)
    haze = np.clip(atmosphere.haze * atmosphere.exposure, 0, 255)
    add = np.broadcast_to(((1 - keep)[:, None] * haze)[:, None, :], shape)
    kept = np.broadcast_to((keep * 255)[:, None, None], shape)
    return np.ascontiguousarray(kept.astype(np.uint8)), np.ascontiguousarray(add.astype(np.uint8))


@lru_cache(maxsize=32)
def _headlight_gain(camera: RigCamera) -> Image | None:
    """Brightness of the ground in the headlights, 32 = unlit; None for cameras that look elsewhere."""
    view = CameraView(camera)
    if abs(view.bearing_rad) > 1.2:
        return None
    columns, rows = np.meshgrid(np.arange(view.width), np.arange(view.horizon_row, view.height))
    rays = np.stack(((columns - view.cx) / view.fx, (rows + 0.5 - view.cy) / view.fy, np.ones(columns.shape)), axis=-1)
    directions = rays @ view.to_camera.T
    reach = view.place[2] / np.maximum(-directions[..., 2], 1e-4)
    x = view.place[0] + reach * directions[..., 0] - 3.5
    y = view.place[1] + reach * directions[..., 1]
    cone = np.exp(-((y / (0.28 * np.abs(x) + 1.6)) ** 2)) * np.exp(-np.abs(x) / 28.0) * (x > -1)
    gain = np.clip(32 * (1 + 4.5 * cone), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(gain[:, :, None], 3, axis=2))
