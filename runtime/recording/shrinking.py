"""Cutting a clip down when there is no room for all of it: fewer cameras, then fewer seconds around what happened.

The sink says what it has room for (`ShrinkToError`); here that becomes a plan. The seconds that stay lie around the
firing of the highest priority, before and after it in the proportion that was asked for. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.clip_plan import ClipPlan, Shrinkage


@dataclass(frozen=True, slots=True)
class ClipExtent:
    """How much a clip would hold: cameras, the most wanted first, and seconds."""

    cameras: tuple[str, ...]
    seconds: float
    #: What a half-written clip is known by after a crash: `delivery_metadata.known_beforehand`, and what was judged.
    known_by: Mapping[str, Any] = field(default_factory=dict, compare=False)
    #: The number of the sealed clip that it is cut out of, and as old as; None: it is cut out of history.
    cut_from: int | None = field(default=None, compare=False)


class ShrinkToError(OSError):
    """There is room for a clip of `extent` at most."""

    def __init__(self, message: str, extent: ClipExtent) -> None:
        super().__init__(message)
        self.extent = extent


def extent_of(plan: ClipPlan, cameras: Sequence[str]) -> ClipExtent:
    """What a plan would hold as it is; `cameras` are those that it would keep, in the order of the rig.

    Cameras that a firing names come first, those of the highest priority before all others.
    """
    named: dict[str, None] = {}
    for waiting in sorted(plan.firings, key=lambda waiting: waiting.firing.priority.rank):
        named.update(dict.fromkeys(waiting.firing.capture.cameras))
    ordered = dict.fromkeys((*(camera for camera in named if camera in cameras), *cameras))
    start_ns, end_ns = plan.window_ns
    return ClipExtent(tuple(ordered), (end_ns - start_ns) / NANOSECONDS_PER_SECOND)


def shrink(plan: ClipPlan, have: ClipExtent, limit: ShrinkToError) -> ClipPlan:
    """The plan cut down to the limit. The limit itself as an OSError when it is nothing less than `have`."""
    wanted = set(limit.extent.cameras)
    cameras = tuple(camera for camera in have.cameras if camera in wanted)
    seconds = min(have.seconds, limit.extent.seconds)
    if cameras == have.cameras and seconds >= have.seconds:
        raise limit
    start_ns, end_ns = plan.window_ns
    if seconds < have.seconds:
        start_ns, end_ns = _around(plan, round(seconds * NANOSECONDS_PER_SECOND))
    return replace(plan, shrunk=Shrinkage(start_ns, end_ns, cameras, str(limit)))


def _around(plan: ClipPlan, length_ns: int) -> tuple[int, int]:
    start_ns, end_ns = plan.window_ns
    pivot = min(plan.firings, key=lambda waiting: (waiting.firing.priority.rank, waiting.firing.time_ns))
    at_ns = min(max(pivot.firing.time_ns, start_ns), end_ns)
    before_ns = (at_ns - start_ns) * length_ns // max(1, end_ns - start_ns)
    return at_ns - before_ns, at_ns - before_ns + length_ns
