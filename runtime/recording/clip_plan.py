"""Which firings share a clip. Pure: the same firings give the same plans, in whichever order they were found.

Firings whose windows overlap become one clip that keeps all their names, as long as it stays within the longest allowed
clip; the firing that would make it longer starts the next clip. A single window longer than that is kept whole: what a
rule asked for is never cut short here (its length is bounded by the configuration).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.messages import Priority
from runtime.recording.firing_files import WaitingFiring


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """A window of history to keep and the firings that asked for it."""

    start_ns: int
    end_ns: int
    firings: tuple[WaitingFiring, ...]

    @property
    def clip_id(self) -> str:
        """Stable name: the session and the first firing."""
        first = self.firings[0]
        return f"{first.session}-{first.path.stem}"

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras to keep; empty means all, as soon as one firing wants all."""
        return _union(firing.firing.capture.cameras for firing in self.firings)

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics to keep besides the cameras' own; empty means all."""
        return _union(firing.firing.capture.topics for firing in self.firings)

    @property
    def priority(self) -> Priority:
        """The highest of its firings."""
        return min((firing.firing.priority for firing in self.firings), key=lambda priority: priority.rank)

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules that fired, each once, in order of time."""
        return tuple(dict.fromkeys(firing.firing.rule for firing in self.firings))


def plan_clips(firings: Iterable[WaitingFiring], max_clip_ns: int) -> list[ClipPlan]:
    """Merge overlapping windows up to `max_clip_ns`; plans come in order of their start."""
    plans: list[ClipPlan] = []
    for firing in sorted(firings, key=lambda firing: (firing.start_ns, firing.firing.time_ns, firing.path.name)):
        if plans and (merged := _merged(plans[-1], firing, max_clip_ns)) is not None:
            plans[-1] = merged
        else:
            plans.append(ClipPlan(firing.start_ns, firing.end_ns, (firing,)))
    return plans


def _merged(plan: ClipPlan, firing: WaitingFiring, max_clip_ns: int) -> ClipPlan | None:
    end_ns = max(plan.end_ns, firing.end_ns)
    if firing.start_ns > plan.end_ns or end_ns - plan.start_ns > max_clip_ns:
        return None
    return ClipPlan(plan.start_ns, end_ns, (*plan.firings, firing))


def _union(selections: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    union: dict[str, None] = {}
    for selection in selections:
        if not selection:
            return ()
        union.update(dict.fromkeys(selection))
    return tuple(union)
