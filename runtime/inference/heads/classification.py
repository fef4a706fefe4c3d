"""Decoder `classification`: one class for the whole scene.

    probabilities [1, classes]   (or one row per camera, of which `camera`'s is read, by default the first)

Rules see `<head>` (the most probable class) and `<head>_<class>_probability` for each of up to 16 classes. A head with
one class is a yes/no question: `<head>` is true or false and `<head>_probability` how sure the network is.
`<head>_entropy` and `<head>_margin` tell how sure it is of that (see `uncertainty`).
With `activation: softmax` or `sigmoid` the tensor holds logits. Scores that are not finite say nothing.
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
    TensorShape,
    describe,
    fits,
    scene_row,
)
from runtime.inference.heads.specification import Activation, ClassificationHead
from runtime.inference.heads.uncertainty import entropy_and_margin
from runtime.messages import SignalValue

MAX_PUBLISHED_CLASSES = 16


class ClassificationDecoder:
    """Names the class that one head finds most probable."""

    def __init__(self, head: ClassificationHead, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        self._name, self._classes, self._activation = head.name, head.classes, head.activation
        self._tensor = head.outputs.probabilities
        self._stacked = shapes[head.outputs.probabilities][0] == layout.rows and layout.rows > 1
        self._row = scene_row(head.camera, layout, head.name) if self._stacked else 0
        names = head.classes[:MAX_PUBLISHED_CLASSES]
        self._keys = [f"{head.name}_{name.replace(' ', '_')}_probability" for name in names]

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        if not (row_present[self._row] if self._stacked else row_present.any()):
            return HeadResult()
        scores = np.asarray(tensors[self._tensor][self._row], np.float64).reshape(-1)
        probabilities: list[float] = scores.tolist()  # few: lists are faster than arrays
        if not all(map(math.isfinite, probabilities)):
            return HeadResult()
        if self._activation != "none":
            probabilities = activate(scores, self._activation).tolist()
        return HeadResult(scalars=self._scalars(probabilities))

    def _scalars(self, probabilities: list[float]) -> dict[str, SignalValue]:
        scalars: dict[str, SignalValue]
        name = self._name
        if len(self._classes) == 1:
            scalars = {name: probabilities[0] >= 0.5, f"{name}_probability": probabilities[0]}
        else:
            scalars = {name: self._classes[probabilities.index(max(probabilities))]}
            scalars.update(zip(self._keys, probabilities, strict=False))
        certainty = entropy_and_margin(probabilities)
        if certainty is not None:
            scalars[f"{name}_entropy"], scalars[f"{name}_margin"] = certainty
        return scalars


def activate(scores: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    """Probabilities from a vector of scores."""
    if activation == "sigmoid":
        return 1.0 / (1.0 + np.exp(-np.clip(scores, -500.0, 500.0)))
    if activation == "softmax":
        powers = np.exp(scores - scores.max())
        return np.asarray(powers / powers.sum(), np.float64)
    return scores


def check(head: ClassificationHead, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Whether the tensor holds one score per class."""
    shape = shapes[head.outputs.probabilities]
    classes = len(head.classes)
    allowed: tuple[TensorShape, ...] = ((1, classes), (layout.rows, classes), (1, classes, 1, 1))
    if any(fits(shape, expected) for expected in allowed):
        return []
    message = f"tensor has shape {describe(shape)}, this decoder needs [1, {classes}], one score per class"
    return [HeadFault("probabilities", message, "list as many classes as the head has scores")]
