"""Framesets without a picture, on which networks are warmed, measured and asked what they publish."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.formats.image_spec import ImageSpec
from runtime.messages import Frameset


def padding_frameset(cameras: Sequence[str], spec: ImageSpec, *, present: bool) -> Frameset:
    """Every camera shows nothing but the pad value; where it is not `present`, every camera is missing."""
    count = len(cameras)
    return Frameset(
        sequence=0,
        time_ns=0,
        cameras=tuple(cameras),
        present=np.full(count, present, np.bool_),
        frame_time_ns=np.zeros(count, np.int64),
        frame_sequence=np.full(count, 0 if present else -1, np.int64),
        images=np.full((count, *spec.plane_shape), spec.pad_value, np.uint8),
    )
