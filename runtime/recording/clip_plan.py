"""Which firings share a clip. Pure: the same firings give the same plans, in whichever order they were found.

Firings whose windows overlap become one clip that keeps all their names, as long as it stays within the longest allowed
clip; the firing that would make it longer starts the next clip. A single window longer than that is kept whole: what a
rule asked for is never cut short here (its length is bounded by the configuration).

Firings that ask for thumbnails only share clips among themselves: a cheap rule must not make an expensive clip longer.
Where a full clip holds all of their window and cameras anyway, they join it, and there is no second clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

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


@dataclass(frozen=True)
class ClipPlan:
    """A window of history to keep and the firings that asked for it.

    What follows from the firings is worked out once: a cut asks for it at every record, and a storm has a thousand.
    """

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

    @cached_property
    def variant(self) -> ClipVariant:
        """Full as soon as one firing wants it."""
        variants = {waiting.firing.capture.variant for waiting in self.firings}
        return ClipVariant.FULL if ClipVariant.FULL in variants else ClipVariant.THUMBNAILS

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """Cameras to keep; empty means all, as soon as one firing wants all."""
        return _union(waiting.firing.capture.cameras for waiting in self._askers)

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """Topics to keep besides the cameras' own; empty means all that the variant holds."""
        return _union(waiting.firing.capture.topics for waiting in self._askers)

    @cached_property
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


@dataclass(slots=True)
class _Group:
    """A plan in the making. A storm fills it with a thousand firings: what it costs must not grow with their square."""

    start_ns: int
    end_ns: int
    firings: list[WaitingFiring]

    @property
    def plan(self) -> ClipPlan:
        return ClipPlan(self.start_ns, self.end_ns, tuple(self.firings))


@dataclass(slots=True)
class _Host:
    """A full clip, and the firings for thumbnails that it holds all of."""

    plan: ClipPlan
    cameras: tuple[str, ...]
    topics: tuple[str, ...]
    guests: list[WaitingFiring] = field(default_factory=list)

    def covers(self, firing: WaitingFiring, start_ns: int, end_ns: int) -> bool:
        """True when the clip holds all that a firing with this window asked for."""
        wanted = firing.firing.capture
        in_time = self.plan.start_ns <= start_ns and end_ns <= self.plan.end_ns
        return in_time and _holds(self.cameras, wanted.cameras) and _holds(self.topics, wanted.topics)

    @property
    def full(self) -> ClipPlan:
        return replace(self.plan, firings=(*self.plan.firings, *self.guests)) if self.guests else self.plan


def plan_clips(firings: Iterable[WaitingFiring], max_clip_ns: int) -> list[ClipPlan]:
    """Merge overlapping windows up to `max_clip_ns`; plans come in order of their start."""
    ordered = sorted(firings, key=lambda firing: (firing.start_ns, firing.firing.time_ns, firing.path.name))
    full = _chain((item for item in ordered if item.firing.capture.variant is ClipVariant.FULL), max_clip_ns)
    hosts = [_Host(plan, plan.cameras, plan.topics) for plan in full]
    left = [
        firing
        for firing in ordered
        if firing.firing.capture.variant is ClipVariant.THUMBNAILS and not _joins(firing, hosts)
    ]
    plans = [host.full for host in hosts] + _chain(left, max_clip_ns)
    return sorted(plans, key=lambda plan: plan.start_ns)


def _joins(firing: WaitingFiring, hosts: Iterable[_Host]) -> bool:
    """Whether a full clip took it in."""
    start_ns, end_ns = firing.start_ns, firing.end_ns
    host = next((host for host in hosts if host.covers(firing, start_ns, end_ns)), None)
    if host is not None:
        host.guests.append(firing)
    return host is not None


def _chain(ordered: Iterable[WaitingFiring], max_clip_ns: int) -> list[ClipPlan]:
    groups: list[_Group] = []
    for firing in ordered:
        if not (groups and _merges(groups[-1], firing, max_clip_ns)):
            groups.append(_Group(firing.start_ns, firing.end_ns, [firing]))
    return [group.plan for group in groups]


def _merges(group: _Group, firing: WaitingFiring, max_clip_ns: int) -> bool:
    end_ns = max(group.end_ns, firing.end_ns)
    if firing.start_ns > group.end_ns or end_ns - group.start_ns > max_clip_ns:
        return False
    group.end_ns = end_ns
    group.firings.append(firing)
    return True


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
