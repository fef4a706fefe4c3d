"""Decoder `control`: what the candidate would do now, and the vehicle ahead as it sees it.

    control [1, 2..4]   acceleration in m/s², curvature in 1/m (left positive)[, lead distance in m[, its probability]]

The lead distance is told when its probability reaches `lead_threshold`, or always where the head gives none. A value
that is not finite is unknown. A network that runs once per camera speaks for its `camera`, by default the first; when
that camera delivered no frame, nothing is said. A network over all cameras speaks as long as any delivers.
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
from runtime.inference.heads.specification import ControlHead
from runtime.messages import Action

WIDTHS = (2, 3, 4)


class ControlDecoder:
    """Reads the action of one head."""

    def __init__(self, head: ControlHead, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        self._tensor, self._lead_threshold = head.outputs.control, head.lead_threshold
        stacked = shapes[head.outputs.control][0] == layout.rows and layout.rows > 1
        self._row = scene_row(head.camera, layout, head.name) if stacked else 0
        self._needs_row = stacked

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        if not (row_present[self._row] if self._needs_row else row_present.any()):
            return HeadResult()
        values: list[float] = tensors[self._tensor][self._row].tolist()
        known = [value if math.isfinite(value) else None for value in values]
        distance_m = known[2] if len(known) > 2 else None
        probability = known[3] if len(known) > 3 else 1.0
        sees_lead = distance_m is not None and probability is not None and probability >= self._lead_threshold
        return HeadResult(
            control=Action(accel_mps2=known[0], curvature_1pm=known[1]),
            lead_distance_m=distance_m if sees_lead else None,
            scalars={} if len(known) < 4 or probability is None else {"lead_probability": probability},
        )


def check(head: ControlHead, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Whether the tensor holds two to four values a row."""
    shape = shapes[head.outputs.control]
    allowed = ((1, width) for width in WIDTHS)
    stacked = ((layout.rows, width) for width in WIDTHS)
    if any(fits(shape, expected) for expected in (*allowed, *stacked)):
        return []
    message = f"tensor has shape {describe(shape)}, this decoder needs [1, 2], [1, 3] or [1, 4]"
    return [HeadFault("control", message, "name the output that holds acceleration and curvature")]
