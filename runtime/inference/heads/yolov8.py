"""Decoder `yolov8`: anchor-free boxes without objectness, as Ultralytics exports them (YOLOv8, YOLO11, YOLO26).

    form: channels_first   predictions [B, 4 + classes, N]   centre x, centre y, width, height; class scores
    form: channels_last    predictions [B, N, 4 + classes]   the same, transposed
    form: suppressed       predictions [B, N, 6]             x1, y1, x2, y2, score, class

Boxes are pixels of the prepared image. Scores are probabilities, or logits with `activation: sigmoid`. A candidate has
the class it scores highest in; suppression is by class, as for `yolox`. A `suppressed` head comes from an export with
non-maximum suppression inside, or from a network that needs none: its rows are final, unused ones score 0, and only
threshold and `max_per_camera` are applied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import (
    BatchLayout,
    HeadFault,
    HeadResult,
    RowDetections,
    TensorShape,
    describe,
    fits,
)
from runtime.inference.heads.selection import strongest, suppress
from runtime.inference.heads.specification import MAX_DETECTIONS_PER_CAMERA, Yolov8Form, Yolov8Head

FIRST_CLASS = 4
SUPPRESSED_VALUES = 6
#: Half precision may round a probability beyond its bounds by as much.
PROBABILITY_SLACK = 0.01


class Yolov8Decoder:
    """Decodes the candidates of one head that score high enough."""

    def __init__(self, head: Yolov8Head, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        self._head = head
        rows, *sizes = shapes[head.outputs.predictions]
        self._is_suppressed = head.form == "suppressed"
        self._is_logit = head.activation == "sigmoid"
        # Logits are compared as they are: only what passes is worth an exponential.
        self._cut = _logit(head.score_threshold) if self._is_logit else head.score_threshold
        candidates = sizes[0] if head.form != "channels_first" else sizes[1]
        self._highest: NDArray[np.float32] = np.empty((rows, candidates), np.float32)

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        predictions = np.asarray(tensors[self._head.outputs.predictions], np.float32)
        if self._is_suppressed:
            return HeadResult(detections=self._final(predictions, row_present))
        if self._head.form == "channels_last":
            predictions = predictions.transpose(0, 2, 1)
        np.max(predictions[:, FIRST_CLASS:], axis=1, out=self._highest)
        row, cell = np.nonzero(self._highest >= self._cut)
        seen = row_present[row]
        row, cell = row[seen], cell[seen]
        score = self._probability(self._highest[row, cell])
        best = strongest(row, score, self._head.max_per_camera)
        if best.size == 0:
            return HeadResult(detections=RowDetections.empty())
        row, cell, score = row[best], cell[best], score[best]
        values = predictions[row, :, cell]
        class_id = np.argmax(values[:, FIRST_CLASS:], axis=1)
        half_px = np.maximum(values[:, 2:4], 0.0) / 2.0
        box_px = np.concatenate((values[:, :2] - half_px, values[:, :2] + half_px), axis=1).astype(np.float32)
        kept = suppress(row, class_id, score, box_px, self._head.iou_threshold, self._head.max_per_camera)
        return HeadResult(detections=_found(row[kept], class_id[kept], score[kept], box_px[kept]))

    def _final(self, predictions: NDArray[np.float32], row_present: NDArray[np.bool_]) -> RowDetections:
        row, place = np.nonzero(predictions[:, :, 4] >= self._cut)
        class_id = predictions[row, place, 5]
        # A class that does not exist (or is not finite) has no name to be published under.
        good = row_present[row] & (class_id > -0.5) & (class_id < len(self._head.classes) - 0.5)
        good &= np.isfinite(predictions[row, place, :4]).all(axis=1)
        row, values = row[good], predictions[row[good], place[good]]
        best = strongest(row, values[:, 4], self._head.max_per_camera)
        row, values = row[best], values[best]
        first_of_row = np.searchsorted(row, row, side="left")
        kept = np.arange(row.size) - first_of_row < self._head.max_per_camera
        values = values[kept]
        return _found(row[kept], np.rint(values[:, 5]), self._probability(values[:, 4]), values[:, :4])

    def _probability(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._is_logit:
            return score
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(score, -80.0, 80.0))), np.float32)


def _found(
    row: NDArray[np.intp], class_id: NDArray[np.generic], score: NDArray[np.float32], box_px: NDArray[np.float32]
) -> RowDetections:
    states = [None] * int(row.size)
    return RowDetections(row.astype(np.int32), class_id.astype(np.int32), score, box_px, states)


def check(head: Yolov8Head, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Whether the graph's tensor has the form that the head says."""
    rows = 1 if layout.per_camera else layout.rows
    shape = shapes[head.outputs.predictions]
    classes = len(head.classes)
    expected = _expected(head.form, rows, classes)
    if fits(shape, expected):
        return []
    message = f"tensor has shape {describe(shape)}, form {head.form} needs {describe(expected)}"
    if head.form != "suppressed":
        message += f" (4 of a box + {classes} classes)"
    forms: tuple[Yolov8Form, ...] = ("channels_first", "channels_last", "suppressed")
    others = [form for form in forms if fits(shape, _expected(form, rows, classes))]
    if others:
        return [HeadFault("predictions", message, f"write form: {others[0]}")]
    if any(size == FIRST_CLASS + 1 + classes for size in shape[1:]):
        fix = "one value more is an objectness: YOLOX has it (decoder: yolox); of others export the boxes without it"
        return [HeadFault("predictions", message, fix)]
    return [HeadFault("predictions", message, "list as many classes as the head has scores, or name another output")]


def misreading(head: Yolov8Head, tensors: Mapping[str, NDArray[np.generic]]) -> str | None:
    """What is wrong when the outputs for an image of padding are read as this head says; None: nothing is."""
    if head.activation == "sigmoid":
        return None
    predictions = np.asarray(tensors[head.outputs.predictions], np.float32)
    if head.form == "suppressed":
        score = predictions[:, :, 4]
    else:
        score = predictions[:, FIRST_CLASS:] if head.form == "channels_first" else predictions[:, :, FIRST_CLASS:]
    low, high = float(score.min(initial=0.0)), float(score.max(initial=0.0))
    if low >= -PROBABILITY_SLACK and high <= 1.0 + PROBABILITY_SLACK:
        return None
    return f"scores are {low:.3g} to {high:.3g} on an image of padding, and no probabilities (fix: activation: sigmoid)"


def form_of(shape: TensorShape) -> Yolov8Form | None:
    """The form that a tensor has by its shape alone, None when it has none: there are more candidates than values.

    `[B, N, 6]` may be two classes or final boxes; a grid has more cells than anybody keeps boxes.
    """
    if len(shape) != 3:
        return None
    _, first, last = shape
    if last == SUPPRESSED_VALUES and (first is None or SUPPRESSED_VALUES < first <= MAX_DETECTIONS_PER_CAMERA):
        return "suppressed"
    if first is not None and first > FIRST_CLASS and (last is None or last > first):
        return "channels_first"
    if last is not None and last > FIRST_CLASS and (first is None or first > last):
        return "channels_last"
    return None


def _expected(form: Yolov8Form, rows: int, classes: int) -> TensorShape:
    if form == "suppressed":
        return (rows, None, SUPPRESSED_VALUES)
    values = FIRST_CLASS + classes
    return (rows, values, None) if form == "channels_first" else (rows, None, values)


def _logit(probability: float) -> float:
    return math.inf if probability >= 1.0 else math.log(probability / (1.0 - probability))
