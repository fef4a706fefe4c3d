"""What can be asked of a clip, taken out of the metadata that came with its offer.

The metadata is the vehicle's word (`runtime.recording.delivery_metadata`) and may be anything that is a JSON object:
whatever is missing, of another type or out of bounds is unknown, and never an error of the receiver's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runtime.formats.offer_limits import MAX_LISTED

MAX_LABEL_LENGTH = 256
MAX_TIME_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """Columns of a clip. Wall times span what the clip shows; None where that is not known."""

    start_wall_ns: int | None
    end_wall_ns: int | None
    kind: str | None
    model: str | None
    software_version: str | None
    rules: tuple[str, ...]
    campaigns: tuple[str, ...]

    @property
    def columns(self) -> dict[str, Any]:
        """For the row of `clips`."""
        names = ("start_wall_ns", "end_wall_ns", "kind", "model", "software_version")
        return {name: getattr(self, name) for name in names}

    def may_overlap(self, from_wall_ns: int, to_wall_ns: int, known_by_wall_ns: int) -> bool:
        """True unless the clip certainly shows nothing of `[from, to]`.

        Without times of its own it can show anything up to the moment at which we heard of it.
        """
        start = 0 if self.start_wall_ns is None else self.start_wall_ns
        end = known_by_wall_ns if self.end_wall_ns is None else self.end_wall_ns
        return start <= to_wall_ns and end >= from_wall_ns


def facts_of(metadata: str) -> ClipFacts:
    """What the metadata says."""
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError):
        found = {}
    values = found if isinstance(found, dict) else {}
    start, end = _time(values.get("start_wall_ns")), _time(values.get("end_wall_ns"))
    if start is None or end is None or start > end:
        start = end = None  # half a span, or one that runs backwards, says nothing
    campaigns = tuple(label for name in _texts(values.get("campaigns")) for label in _with_lineage(name))
    return ClipFacts(
        start,
        end,
        _text(values.get("kind")),
        _text(values.get("model")),
        _text(values.get("software_version")),
        tuple(dict.fromkeys(_texts(values.get("rules")))),
        tuple(dict.fromkeys(campaigns)),
    )


def _time(value: object) -> int | None:
    is_time = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_TIME_NS
    return int(value) if is_time else None  # type: ignore[call-overload]


def _text(value: object) -> str | None:
    """Text that every database takes: JSON can spell zero characters and halves of surrogate pairs."""
    if not isinstance(value, str):
        return None
    return value[:MAX_LABEL_LENGTH].replace("\0", "").encode("utf-8", "replace").decode() or None


def _texts(value: object) -> Iterator[str]:
    for entry in value[:MAX_LISTED] if isinstance(value, list) else ():
        text = _text(entry)
        if text:
            yield text


def _with_lineage(campaign: str) -> Iterator[str]:
    """`night@3` is asked for by that name, or as `night` for every version of it."""
    yield campaign
    name, separator, _ = campaign.partition("@")
    if separator and name:
        yield name
