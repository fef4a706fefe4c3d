"""How much a vehicle says of a clip ahead of it, and how much a receiver takes: both ends hold to the same numbers.

They measure the same text: what the spool keeps and measures when a clip is sealed is what its OFFER carries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Of the metadata's JSON. It travels in the payload of one OFFER and lies in both ledgers; the manifest is in the clip.
MAX_METADATA_BYTES = 64 * 1024
#: Objects and arrays in one another. Python reads more, but not how many more one can rely on.
MAX_METADATA_LEVELS = 64
#: Names, and times of firings, in one list of it: a clip of a trigger storm must still fit. The manifest has them all.
MAX_LISTED = 64


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Metadata as it is kept and sent: compact JSON in ASCII. Raises ValueError or TypeError when it is none."""
    return json.dumps(dict(metadata), sort_keys=True, allow_nan=False, separators=(",", ":"))


def is_deeper_than(value: object, levels: int) -> bool:
    """True when objects and arrays lie in one another in more than `levels` levels; looks no deeper than that."""
    nested = _containers([value])
    for _ in range(levels):
        nested = _containers(
            [inner for each in nested for inner in (each.values() if isinstance(each, dict) else each)]
        )
    return bool(nested)


def _containers(values: list[Any]) -> list[dict[str, Any] | list[Any] | tuple[Any, ...]]:
    """Those that are an object or an array in JSON."""
    return [value for value in values if isinstance(value, (dict, list, tuple))]
