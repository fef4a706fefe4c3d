"""What clips weigh: windows of time, merged as the recorder merges them, times what the cameras recorded a second.

Estimates are of video, which is nearly all of a clip: signals, predictions and ticks add some tens of kB a second at
most. A window that reaches over the drive's end counts in full, for on the road it would have been full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from runtime.messages import NANOSECONDS_PER_SECOND, CaptureWindow, Firing
from runtime.recording.clip_plan import ClipPlan, plan_clips
from runtime.recording.firing_files import WaitingFiring

#: The recorder's default; a rig may configure another.
MAX_CLIP_S = 60.0
BYTES_PER_MB = 1e6


def waiting(firing: Firing) -> WaitingFiring:
    """A firing as the recorder sees it."""
    return WaitingFiring(Path(f"{firing.time_ns:020d}-{firing.sequence:09d}.json"), "backtest", firing)


def clips_of(firings: Iterable[Firing], max_clip_s: float = MAX_CLIP_S) -> list[ClipPlan]:
    """The clips that the recorder would cut for these firings."""
    return plan_clips(map(waiting, firings), round(max_clip_s * NANOSECONDS_PER_SECOND))


def window_ns(capture: CaptureWindow, time_ns: int) -> tuple[int, int]:
    """What a firing wants kept, first and last instant."""
    return (
        time_ns - round(capture.pre_s * NANOSECONDS_PER_SECOND),
        time_ns + round(capture.post_s * NANOSECONDS_PER_SECOND),
    )


def clip_bytes(plan: ClipPlan, bytes_per_s: Mapping[str, float]) -> float:
    """What one clip would weigh, with the cameras that its rules ask for."""
    wanted = plan.cameras or tuple(bytes_per_s)
    rate = sum(bytes_per_s.get(camera, 0.0) for camera in wanted)
    return rate * (plan.end_ns - plan.start_ns) / NANOSECONDS_PER_SECOND


def total_bytes(plans: Sequence[ClipPlan], bytes_per_s: Mapping[str, float]) -> float:
    """What several clips would weigh."""
    return sum(clip_bytes(plan, bytes_per_s) for plan in plans)


class ClipSettling:
    """Tells the engine what clips weigh when the recorder would have sealed them, so that byte budgets bite."""

    def __init__(self, bytes_per_s: Mapping[str, float], max_clip_s: float = MAX_CLIP_S) -> None:
        self._bytes_per_s = bytes_per_s
        self._max_clip_s = max_clip_s
        self._pending: list[Firing] = []
        self._due_ns: int | None = None

    def take(self, firings: Sequence[Firing]) -> None:
        """Firings of this tick."""
        self._pending += firings
        ends = [window_ns(firing.capture, firing.time_ns)[1] for firing in firings]
        self._due_ns = min(ends if self._due_ns is None else [*ends, self._due_ns], default=None)

    def sealed(self, time_ns: int) -> list[tuple[Firing, int]]:
        """Firings whose clip is over by now, with their shares of its bytes, by the seconds that each asked for."""
        if self._due_ns is None or time_ns <= self._due_ns:
            return []
        shares, rest = [], []
        for plan in clips_of(self._pending, self._max_clip_s):
            if plan.end_ns >= time_ns:
                rest.append(plan)
                continue
            size = clip_bytes(plan, self._bytes_per_s)
            asked_ns = sum(each.end_ns - each.start_ns for each in plan.firings) or 1
            shares += [(each.firing, round(size * (each.end_ns - each.start_ns) / asked_ns)) for each in plan.firings]
        self._pending = [waiting.firing for plan in rest for waiting in plan.firings]
        self._due_ns = min((plan.end_ns for plan in rest), default=None)
        return shares
