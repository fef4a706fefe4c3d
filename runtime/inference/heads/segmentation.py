"""Decoder `segmentation`: a class for each pixel of each camera.

    mask [B, classes, h, w]   scores by class

The mask itself is handed on as the backend wrote it (a view into its ring, one row per batch row). Rules get numbers:
for each published class, `<class>_fraction`, its share of the pixels of the cameras that delivered a frame. The share
is counted on a grid of at most `COUNTED_SIDE` points a side, because a fraction needs no more and a tick has no time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import BatchLayout, HeadFault, HeadResult, TensorShape, misfit
from runtime.inference.heads.specification import SegmentationHead

COUNTED_SIDE = 80


class SegmentationDecoder:
    """Counts the classes of one head."""

    def __init__(self, head: SegmentationHead, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        self._head = head
        _, _, height, width = shapes[head.outputs.mask]
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
        counted = np.asarray(mask[:, :, :: self._step_y, :: self._step_x], np.float32)[row_present]
        shares = self._shares(counted)
        return HeadResult(arrays=arrays, scalars={name: float(shares[index]) for index, name in self._published})

    def _shares(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        if self._head.exclusive:
            classes = np.argmax(scores, axis=1).reshape(-1)
            return np.asarray(np.bincount(classes, minlength=scores.shape[1]) / classes.size)
        planes = (scores >= self._cut).reshape(*scores.shape[:2], -1)
        pixels = planes.shape[0] * planes.shape[2]
        # Counting bits plane by plane is an order of magnitude faster than a mean over three axes.
        counts = [sum(map(np.count_nonzero, planes[:, index])) for index in range(planes.shape[1])]
        return np.asarray(np.array(counts, np.float64) / pixels)


def class_planes(head: SegmentationHead, scores: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which pixels are of which class, `[B, classes, h, w]`, of the tensor `[B, classes, h, w]`."""
    values = np.asarray(scores, np.float32)
    if head.exclusive:
        return np.argmax(values, axis=1)[:, None] == np.arange(len(head.classes)).reshape(1, -1, 1, 1)
    return np.asarray(values >= (0.0 if head.activation == "sigmoid" else 0.5))


def check(head: SegmentationHead, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Whether the tensor holds one plane per class."""
    rows = 1 if layout.per_camera else layout.rows
    expected = (rows, len(head.classes), None, None)
    return misfit("mask", shapes[head.outputs.mask], expected, "batch, classes, rows, columns")
