"""The rig of the synthetic drives: the eight-camera file that calibration and the runtime share."""

from __future__ import annotations

from pathlib import Path

import calibration
from runtime.rig import Rig, load_rig

RIG_FILE = Path(calibration.__file__).parent / "rigs" / "demo_eight.yaml"
CAMERAS = (
    "front_main",
    "front_wide",
    "front_narrow",
    "front_left",
    "front_right",
    "rear_left",
    "rear_right",
    "rear",
)


def synthetic_rig(width: int, height: int) -> Rig:
    """The eight cameras with images stretched to this size."""
    rig = load_rig(RIG_FILE)
    if rig.names != CAMERAS:
        raise ValueError(f"{RIG_FILE}: cameras are {rig.names}; the synthetic drive needs {CAMERAS} in this order")
    return rig.scaled(width, height)
