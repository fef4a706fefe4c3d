"""Which of the clips that are still in the spool can serve a range pull, and why another one cannot.

A clip serves when it is a full one, of all topics, open to the vehicle itself, has all cameras that are asked for, and
tells times on the clock of the request. One that is locked for the fleet's key serves nobody here: the vehicle has only
the public half of that key. The fleet is told at once that it waits for such a clip, and where to open it.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.formats.pull_files import PullRequest
from runtime.messages import NANOSECONDS_PER_SECOND, ClipVariant
from runtime.recording.clip_sink import SealedClip
from runtime.recording.delivery_metadata import TOPICS_KEY
from runtime.recording.readiness import Sessions


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
    said = clip.metadata
    if request.clock == "capture" and said.get("session") not in sessions:
        return 0  # of another start of the machine, perhaps: its capture times mean something else
    keys = ("start_wall_ns", "end_wall_ns") if request.clock == "wall" else ("start_ns", "end_ns")
    start_ns, end_ns = (int(said.get(key, 0)) for key in keys)
    return max(0, min(end_ns, request.end_ns) - max(start_ns, request.start_ns))
