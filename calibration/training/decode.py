"""From the network's dense detection outputs to boxes, for evaluation: NumPy, one image at a time.

A detection is a cell whose heat is the largest of its 3x3 neighbourhood (Zhou et al. 2019 do without non-maximum
suppression; neighbouring peaks of one large object are still merged by IoU). Boxes are network pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.metrics import iou_matrix
from calibration.training.layout import DETECTION_STRIDE

MOST_PER_IMAGE = 100


@dataclass(frozen=True, slots=True)
class Boxes:
    """Detections of one image, best first."""

    class_id: NDArray[np.int64]  # [K]
    score: NDArray[np.float32]  # [K]
    box: NDArray[np.float32]  # [K, 4] x0, y0, x1, y1
    state: NDArray[np.int64]  # [K] most likely light state


def decode_image(
    heatmap: NDArray[np.float32],
    box: NDArray[np.float32],
    state: NDArray[np.float32],
    score_threshold: float,
    iou_threshold: float,
) -> Boxes:
    """`heatmap [C, h, w]`, `box [4, h, w]`, `state [S, h, w]` of one image to boxes."""
    kernel = np.ones((3, 3), np.uint8)
    peaks = np.stack([heat * (heat >= cv2.dilate(heat, kernel)) for heat in heatmap])
    class_id, row, column = np.nonzero(peaks >= score_threshold)
    score = peaks[class_id, row, column]
    order = np.argsort(-score, kind="stable")[:MOST_PER_IMAGE]
    class_id, row, column, score = class_id[order], row[order], column[order], score[order]
    offset_x, offset_y, width, height = box[:, row, column]
    centre_x, centre_y = column + offset_x, row + offset_y
    corners = np.stack(
        [centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2], axis=1
    )
    kept = suppress(class_id, corners, iou_threshold)
    states = state[:, row, column].argmax(axis=0)
    pixels = (corners * DETECTION_STRIDE).astype(np.float32)
    return Boxes(class_id[kept], score[kept], pixels[kept], states[kept])


def suppress(class_id: NDArray[np.int64], box: NDArray[np.float32], iou_threshold: float) -> NDArray[np.int64]:
    """Indices that survive non-maximum suppression within each class; rows are sorted, best first."""
    overlap = iou_matrix(box, box)
    kept: list[int] = []
    for index in range(len(class_id)):
        if not any(class_id[other] == class_id[index] and overlap[index, other] > iou_threshold for other in kept):
            kept.append(index)
    return np.array(kept, np.int64)


def boxes_of_class(boxes: Boxes, class_id: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores and boxes of one class."""
    chosen = boxes.class_id == class_id
    return boxes.score[chosen], boxes.box[chosen]
