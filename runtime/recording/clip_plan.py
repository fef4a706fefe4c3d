"""Which firings share a clip. Pure: the same firings give the same plans, in whichever order they were found.

Firings whose windows overlap become one clip that keeps all their names, as long as it stays within the longest allowed
clip; the firing that would make it longer starts the next clip. A single window longer than that is kept whole: what a
rule asked for is never cut short here (its length is bounded by the configuration).

Firings that ask for thumbnails only share clips among themselves: a cheap rule must not make an expensive clip longer.
Where a full clip holds all of their window and cameras anyway, they join it, and there is no second clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from runtime.messages import ClipVariant, Priority
from runtime.recording.firing_files import CRASH_RULE, PULL_RULE, WaitingFiring

#: Why a clip was cut: rules fired, the runtime died, or the fleet asked for a range.
EVENT, CRASH, PULL = "event", "crash", "pull"


def pull_clip_id(request_id: str) -> str:
    """The clip that answers a request."""
    return f"pull-{request_id}"


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """What is left of a plan that had no room as a whole."""

    start_ns: int
    end_ns: int
    cameras: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """A window of history to keep and the firings that asked for it."""

    start_ns: int
    end_ns: int
    firings: tuple[WaitingFiring, ...]
    shrunk: Shrinkage | None = None

    @property
    def clip_id(self) -> str:
        """Stable name: the session and the first firing, or the request that it answers."""
        first = self.firings[0]
        return pull_clip_id(first.path.stem) if self.kind == PULL else f"{first.session}-{first.path.stem}"

    @property
    def kind(self) -> str:
        """EVENT, CRASH or PULL."""
        rules = {waiting.firing.rule for waiting in self.firings}
        return CRASH if CRASH_RULE in rules else PULL if PULL_RULE in rules else EVENT

    @property
    def pull_id(self) -> str | None:
        """The request that it answers, where it is one of kind PULL."""
        return self.firings[0].path.stem if self.kind == PULL else None

    @property
    def window_ns(self) -> tuple[int, int]:
        """First and last instant to cut: what was asked for, unless it had to shrink."""
        return (self.shrunk.start_ns, self.shrunk.end_ns) if self.shrunk else (self.start_ns, self.end_ns)

    @property
    def variant(self) -> ClipVariant:
        """Full as soon as one firing wants it."""
        variants = {waiting.firing.capture.variant for waiting in self.firings}
        return ClipVariant.FULL if ClipVariant.FULL in variants else ClipVariant.THUMBNAILS

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras to keep; empty means all, as soon as one firing wants all."""
        return _union(waiting.firing.capture.cameras for waiting in self._askers)

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics to keep besides the cameras' own; empty means all that the variant holds."""
        return _union(waiting.firing.capture.topics for waiting in self._askers)

    @property
    def priority(self) -> Priority:
        """The highest of its firings."""
        return min((firing.firing.priority for firing in self.firings), key=lambda priority: priority.rank)

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules that fired, each once, in order of time."""
        return tuple(dict.fromkeys(firing.firing.rule for firing in self.firings))

    @property
    def _askers(self) -> list[WaitingFiring]:
        """The firings that decide what is in it: those that joined a full clip take it as it is."""
        return [waiting for waiting in self.firings if waiting.firing.capture.variant is self.variant]

    def covers(self, firing: WaitingFiring) -> bool:
        """True when this full clip holds all that a firing for thumbnails asked for."""
        wanted = firing.firing.capture
        in_time = self.start_ns <= firing.start_ns and firing.end_ns <= self.end_ns
        return in_time and _holds(self.cameras, wanted.cameras) and _holds(self.topics, wanted.topics)


def plan_clips(firings: Iterable[WaitingFiring], max_clip_ns: int) -> list[ClipPlan]:
    """Merge overlapping windows up to `max_clip_ns`; plans come in order of their start."""
    ordered = sorted(firings, key=lambda firing: (firing.start_ns, firing.firing.time_ns, firing.path.name))
    plans = _chain((item for item in ordered if item.firing.capture.variant is ClipVariant.FULL), max_clip_ns)
    left = []
    for firing in (item for item in ordered if item.firing.capture.variant is ClipVariant.THUMBNAILS):
        host = next((index for index, plan in enumerate(plans) if plan.covers(firing)), None)
        if host is None:
            left.append(firing)
        else:
            plans[host] = replace(plans[host], firings=(*plans[host].firings, firing))
    plans += _chain(left, max_clip_ns)
    return sorted(plans, key=lambda plan: plan.start_ns)


def _chain(ordered: Iterable[WaitingFiring], max_clip_ns: int) -> list[ClipPlan]:
    plans: list[ClipPlan] = []
    for firing in ordered:
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


def _holds(selection: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether a selection has all that is wanted; an empty one is everything."""
    return not selection or (bool(wanted) and set(wanted) <= set(selection))
