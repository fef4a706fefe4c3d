"""Which names and messages of a clip tell where the vehicle was.

`runtime.privacy.location` takes them out or makes them coarse, `privacy_promises` looks whether that was done: both by
what stands here. A value is a place when its name says so; a message that is neither JSON nor of a kind known to hold
no place may tell one.
"""

from __future__ import annotations

from typing import Any

from runtime.formats.topics import ANNOTATIONS_SCHEMA, CALIBRATION_SCHEMA, THUMBNAIL_SCHEMA

LOCATION_FIX_SCHEMA = "foxglove.LocationFix"
#: Kinds that tell no place, beside video.
PLACELESS_SCHEMAS = (ANNOTATIONS_SCHEMA, CALIBRATION_SCHEMA, THUMBNAIL_SCHEMA)
_WORDS = ("latitude", "longitude", "altitude")
_ROUNDED_WORDS = ("latitude", "longitude")
#: What a message that names a place holds, in small letters.
PLACE_WORDS = tuple(word.encode() for word in _WORDS)


def names_place(name: str) -> bool:
    """Whether a value of this name tells where the vehicle is."""
    return any(word in name.lower() for word in _WORDS)


def rounded(name: str, value: Any, decimals: int) -> float | None:
    """A place cut to a grid of `decimals` places of degrees; None for one that has no such grid, or is no number."""
    if not any(word in name.lower() for word in _ROUNDED_WORDS):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return round(float(value), decimals)
    except OverflowError:  # an integer beyond every float
        return None
