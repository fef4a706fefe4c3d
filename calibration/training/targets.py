"""What the network should have said: dense targets on the heads' grids, from the labels of one or more instants.

An object whose box is tiny or mostly hidden is neither wanted nor punished: its cells are *ignored* (weight zero). When
two objects of one image have the same centre cell, the larger, nearer one wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.training.layout import CAMERAS, CLASSES, DETECTION_STRIDE, GRID_HEIGHT, GRID_WIDTH, MIRRORED_CAMERA

MINIMUM_SIDE_PX = 3.0
MINIMUM_VISIBLE_FRACTION = 0.3
#: Gaussian width as a share of the box side, and its limits in cells.
SIGMA_SHARE = 0.12
SIGMA_LIMITS = (0.55, 3.0)


@dataclass(slots=True)
class DetectionTargets:
    """Dense targets of N images."""

    heatmap: NDArray[np.float32]  # [N, classes, 24, 40], 1 at centres, Gaussian around
    weight: NDArray[np.float32]  # [N, classes, 24, 40], 0 where ignored
    image: NDArray[np.int64]  # [P] image of each positive
    cell: NDArray[np.int64]  # [P, 2] its row and column
    box: NDArray[np.float32]  # [P, 4] offset x, y in 0..1, log width, log height in cells
    state: NDArray[np.int64]  # [P] light state, -1 where it has none


def is_countable(objects: NDArray[np.void]) -> NDArray[np.bool_]:
    """Objects that the network is trained to find; the others are ignored, neither wanted nor punished."""
    box = objects["box"]
    sides = np.minimum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    return np.asarray((sides >= MINIMUM_SIDE_PX) & (objects["visible_fraction"] >= MINIMUM_VISIBLE_FRACTION))


def detection_targets(objects_by_instant: list[NDArray[np.void]]) -> DetectionTargets:
    """Targets for `len(objects_by_instant) * 8` images."""
    images = len(objects_by_instant) * len(CAMERAS)
    heatmap = np.zeros((images, len(CLASSES), GRID_HEIGHT, GRID_WIDTH), np.float32)
    weight = np.ones_like(heatmap)
    positives: dict[tuple[int, int, int], tuple[list[float], int]] = {}
    for instant, objects in enumerate(objects_by_instant):
        countable = is_countable(objects)
        for item in objects[~countable]:
            _ignore(weight[instant * len(CAMERAS) + int(item["camera"]), item["class_id"]], item["box"])
        chosen = objects[countable]
        for item in chosen[np.argsort(_areas(chosen))]:
            image = instant * len(CAMERAS) + int(item["camera"])
            _paint(heatmap[image, item["class_id"]], item["box"])
            (row, column), target = _centre_and_box(item["box"])
            positives[image, row, column] = (target, int(item["state"]))
    keys = np.array(list(positives), np.int64).reshape(-1, 3)
    return DetectionTargets(
        heatmap=heatmap,
        weight=np.maximum(weight, heatmap == 1.0),
        image=keys[:, 0],
        cell=keys[:, 1:],
        box=np.array([box for box, _ in positives.values()], np.float32).reshape(-1, 4),
        state=np.array([state for _, state in positives.values()], np.int64),
    )


def mirror_objects(objects: NDArray[np.void], image_width: int) -> NDArray[np.void]:
    """Objects of the scene mirrored left to right; cameras swap sides."""
    mirrored = objects.copy()
    mirrored["camera"] = np.array(MIRRORED_CAMERA, np.int8)[objects["camera"]]
    mirrored["box"][:, 0] = image_width - objects["box"][:, 2]
    mirrored["box"][:, 2] = image_width - objects["box"][:, 0]
    return mirrored


def _areas(objects: NDArray[np.void]) -> NDArray[np.float32]:
    box = objects["box"]
    return np.asarray((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))


def _centre_and_box(box: NDArray[np.float32]) -> tuple[tuple[int, int], list[float]]:
    x0, y0, x1, y1 = (float(value) / DETECTION_STRIDE for value in box)
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    column, row = min(max(int(centre_x), 0), GRID_WIDTH - 1), min(max(int(centre_y), 0), GRID_HEIGHT - 1)
    return (row, column), [centre_x - column, centre_y - row, float(np.log(x1 - x0)), float(np.log(y1 - y0))]


def _paint(heat: NDArray[np.float32], box: NDArray[np.float32]) -> None:
    (row, column), target = _centre_and_box(box)
    sigma_x, sigma_y = np.clip(np.exp(target[2:]) * SIGMA_SHARE, *SIGMA_LIMITS)
    rows = np.exp(-0.5 * ((np.arange(GRID_HEIGHT) - row) / sigma_y) ** 2)
    columns = np.exp(-0.5 * ((np.arange(GRID_WIDTH) - column) / sigma_x) ** 2)
    np.maximum(heat, np.outer(rows, columns).astype(np.float32), out=heat)


def _ignore(weight: NDArray[np.float32], box: NDArray[np.float32]) -> None:
    x0, y0, x1, y1 = (box / DETECTION_STRIDE).astype(int)
    weight[max(y0, 0) : max(y1, 0) + 1, max(x0, 0) : max(x1, 0) + 1] = 0.0
