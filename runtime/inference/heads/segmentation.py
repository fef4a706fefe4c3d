"""Decoder `segmentation`: a class for each pixel of each camera.

    form: scores      mask [B, classes, h, w]          scores by class: logits, or what softmax or sigmoid made of them
    form: class_ids   mask [B, h, w] or [B, 1, h, w]   the class of each pixel, as an argmax inside the graph gives it

With `exclusive: true` each pixel has the class that scores highest, for which logits and softmax are the same. Without,
each class is a mask of its own, cut at a probability of 0.5 (`activation: sigmoid`: the tensor holds logits). Several
heads of one network, such as drivable area beside lane lines, are several heads here.

The mask itself is handed on as the backend wrote it (a view into its ring, one row per batch row). Rules get numbers:
for each published class, `<class>_fraction`, its share of the pixels of the cameras that delivered a frame. The share
is counted on a grid of at most `COUNTED_SIDE` points a side, because a fraction needs no more and a tick has no time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import BatchLayout, HeadFault, HeadResult, TensorShape, describe, fits, misfit
from runtime.inference.heads.specification import SegmentationHead

COUNTED_SIDE = 80


class SegmentationDecoder:
    """Counts the classes of one head."""

    def __init__(self, head: SegmentationHead, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        self._head = head
        height, width = shapes[head.outputs.mask][-2:]
        self._step_y = max(1, -(-height // COUNTED_SIDE))
        self._step_x = max(1, -(-width // COUNTED_SIDE))
        published = head.publish or head.classes
        self._published = [(head.classes.index(name), f"{name}_fraction") for name in published]
        self._cut = 0.0 if head.activation == "sigmoid" else 0.5  # a logit of 0 is a probability of 0.5

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        mask = tensors[self._head.outputs.mask]
        arrays = {self._head.name: mask}
        if not row_present.any():
            return HeadResult(arrays=arrays)
        counted = mask[..., :: self._step_y, :: self._step_x]
        shares = self._shares(counted if row_present.all() else counted[row_present])
        return HeadResult(arrays=arrays, scalars={name: float(shares[index]) for index, name in self._published})

    def _shares(self, counted: NDArray[np.generic]) -> NDArray[np.float64]:
        if self._head.form == "class_ids":
            return _shares_of_ids(counted.reshape(-1), len(self._head.classes))
        scores = np.asarray(counted, np.float32)
        if self._head.exclusive:
            return _shares_of_ids(np.argmax(scores, axis=1).reshape(-1), scores.shape[1])
        rows, classes, height, width = scores.shape
        # Classes first, so that what is counted lies together: an order of magnitude faster than a mean over axes.
        planes = np.empty((classes, rows, height, width), np.bool_)
        np.greater_equal(scores.swapaxes(0, 1), self._cut, out=planes)
        return np.array([np.count_nonzero(plane) / plane.size for plane in planes])


def _shares_of_ids(ids: NDArray[np.generic], classes: int) -> NDArray[np.float64]:
    """Share of each class; a class that does not exist counts for none."""
    numbers = np.asarray(ids, np.int64)
    known = numbers[(numbers >= 0) & (numbers < classes)]
    return np.asarray(np.bincount(known, minlength=classes) / numbers.size)


def class_planes(head: SegmentationHead, mask: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which pixels are of which class, `[B, classes, h, w]`, of the head's tensor."""
    ids = np.arange(len(head.classes)).reshape(1, -1, 1, 1)
    if head.form == "class_ids":
        return np.asarray(mask.reshape(mask.shape[0], 1, *mask.shape[-2:]) == ids)
    values = np.asarray(mask, np.float32)
    if head.exclusive:
        return np.asarray(np.argmax(values, axis=1)[:, None] == ids)
    return np.asarray(values >= (0.0 if head.activation == "sigmoid" else 0.5))


def check(head: SegmentationHead, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Whether the tensor holds one plane per class, or one plane of classes."""
    rows = 1 if layout.per_camera else layout.rows
    shape = shapes[head.outputs.mask]
    if head.form == "class_ids":
        if fits(shape, (rows, None, None)) or fits(shape, (rows, 1, None, None)):
            return []
        message = f"tensor has shape {describe(shape)}, form class_ids needs [{rows}, rows, columns]"
        return [HeadFault("mask", message, "write form: scores for a tensor with a plane per class")]
    if fits(shape, (rows, None, None)):
        message = f"tensor has shape {describe(shape)}, form scores needs a plane per class"
        return [HeadFault("mask", message, "write form: class_ids when it holds the class of each pixel")]
    expected = (rows, len(head.classes), None, None)
    return misfit("mask", shape, expected, "batch, classes, rows, columns")
