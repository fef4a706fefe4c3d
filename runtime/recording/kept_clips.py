"""Which of the clips that are still in the spool can serve a range pull, and why another one cannot.

A clip serves when it is a full one, of all topics, open to the vehicle itself, has all cameras that are asked for, and
tells times on the clock of the request. One that is locked for the fleet's key serves nobody here: the vehicle has only
the public half of that key. The fleet is told at once that it waits for such a clip, and where to open it.

A clip knows wall time by its first and its last record. Where the clock was set between the two it has two readings of
it, and is cut by the one that finds more of the range (`wall_offset_ns`). Either way it is as long as its capture times
say: from 1970 to today it holds a minute, not all those years, and serves nothing that other clips really have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runtime.formats.pull_files import PullRequest
from runtime.messages import NANOSECONDS_PER_SECOND, ClipVariant
from runtime.recording.clip_sink import SealedClip
from runtime.recording.delivery_metadata import TOPICS_KEY
from runtime.recording.readiness import Sessions

#: First and last record of one clock tell offsets that differ by less: jitter of a start, and a clock that is slewed.
_STEADY_NS = NANOSECONDS_PER_SECOND


class ClipTimes(NamedTuple):
    """First and last record of a clip on both clocks, ns."""

    start_ns: int
    end_ns: int
    start_wall_ns: int
    end_wall_ns: int

    @property
    def offsets_ns(self) -> tuple[int, int]:
        """Wall minus capture time at the first and at the last record."""
        return self.start_wall_ns - self.start_ns, self.end_wall_ns - self.end_ns

    @property
    def is_steady(self) -> bool:
        """False where the wall clock was set in between."""
        first_ns, last_ns = self.offsets_ns
        return abs(last_ns - first_ns) < _STEADY_NS


def times_of(clip: SealedClip) -> ClipTimes:
    """What travels ahead of it; what is not said counts as 0."""
    return ClipTimes(*(int(clip.metadata.get(key, 0)) for key in ClipTimes._fields))


def wall_offset_ns(request: PullRequest, times: ClipTimes) -> int:
    """Wall minus capture time by which a clip is cut for a request: that of its first record, unless its last finds
    more of the range.
    """
    first_ns, last_ns = times.offsets_ns
    if request.clock != "wall" or times.is_steady:
        return first_ns
    return max((first_ns, last_ns), key=lambda offset_ns: _overlap_ns(request, times, offset_ns))


def overlap_ns(request: PullRequest, clip: SealedClip, sessions: Sessions) -> int:
    """How much of the range a kept clip can serve; 0 where it cannot."""
    return 0 if _hindrance(request, clip) else _shared_ns(request, clip, sessions)


def why_none_serves(request: PullRequest, clips: Iterable[SealedClip], sessions: Sessions) -> str:
    """Of the clip that has most of the range, why it cannot give it; empty where no clip has any of it."""
    hindered = ((_shared_ns(request, clip, sessions), clip) for clip in clips if _hindrance(request, clip))
    shared_ns, clip = max(hindered, key=lambda pair: pair[0], default=(0, None))
    if clip is None or shared_ns == 0:
        return ""
    share = f"clip {clip.number} in the spool has {shared_ns / NANOSECONDS_PER_SECOND:.1f} s of it"
    return f"{share}, but {_hindrance(request, clip)}"


def _hindrance(request: PullRequest, clip: SealedClip) -> str:
    """Why this clip can serve nothing of the request, whenever it was recorded; empty where it can."""
    said = clip.metadata
    if said.get("encryption"):
        return (
            "it is locked for the fleet's key, which the vehicle does not have: wait for the whole clip, "
            "and open it with 'shadowrig clip decrypt'"
        )
    if said.get("partial"):
        return "it is what was left of a clip, without a manifest to cut by: wait for it as it is"
    if said.get("variant", ClipVariant.FULL.value) != ClipVariant.FULL.value:
        return "it holds thumbnails only"
    if said.get(TOPICS_KEY):  # what was left out of it cannot be told from what never was
        return "it holds chosen topics only"
    lacking = sorted(set(request.cameras) - set(said.get("cameras", ())))
    return f"it lacks {', '.join(lacking)}" if lacking else ""


def _shared_ns(request: PullRequest, clip: SealedClip, sessions: Sessions) -> int:
    """How much of the range its window and the request's have in common."""
    if request.clock == "capture" and clip.metadata.get("session") not in sessions:
        return 0  # of another start of the machine, perhaps: its capture times mean something else
    times = times_of(clip)
    return _overlap_ns(request, times, wall_offset_ns(request, times) if request.clock == "wall" else 0)


def _overlap_ns(request: PullRequest, times: ClipTimes, offset_ns: int) -> int:
    return max(0, min(times.end_ns + offset_ns, request.end_ns) - max(times.start_ns + offset_ns, request.start_ns))
