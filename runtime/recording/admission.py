"""Of merged firings whose clip a policy refuses for good: which are lost, and which may still be sealed, in what clips.

Lost is only what may not be sealed by itself. What that costs does not grow with the firings, of which a storm merges
hundreds: none is tried by itself to find out.
1. The refusal says which times are forbidden. Firings whose own window has one of them are lost; the others are merged
   again.
2. If there are none, what is forbidden lies before all windows, in the lead-in to the first key frame. Of firings that
   begin alike (same run, same cameras) those that reach back so far come first: a binary search finds the last one.
3. If there are none either, only together they are forbidden: some cameras have a longer lead-in than others, or
   nobody recorded between two runs. Then those that begin alike share a clip; and where they all begin alike, or a
   refusal says nothing of times, each half of them.

Every step leaves fewer firings in a plan, so it ends with what is sealed and what is refused alone. Pure, but for
`judge` and the times of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from runtime.recording.clip_plan import ClipPlan, plan_clips
from runtime.recording.firing_files import WaitingFiring
from runtime.recording.record_source import RecordSource
from runtime.recording.sealing_policy import ForbiddenTime, SealingRefusal

Refused: TypeAlias = list[tuple[ClipPlan, SealingRefusal]]
#: What forbids a clip, if anything does.
Judge: TypeAlias = Callable[[ClipPlan], SealingRefusal | None]


def admitted_parts(
    plan: ClipPlan, refusal: SealingRefusal, judge: Judge, source: RecordSource, max_clip_ns: int
) -> tuple[list[ClipPlan], Refused]:
    """Smaller plans to try next, and firings that are refused, as plans of those that share a reason.

    A plan that may be mended later, or has one firing, is refused as it is. As `RecordSource` for errors.
    """
    if not refusal.is_final or len(plan.firings) == 1:
        return [], [(plan, refusal)]
    refused = _in_forbidden_times(plan, [_recorded(time, plan, source) for time in refusal.forbidden])
    if refusal.forbidden and not refused:
        refused = _reaching_back(plan, judge)
    if not refused:
        return [part for group in _apart(plan) for part in plan_clips(group, max_clip_ns)], []
    gone = {waiting.path for part, _ in refused for waiting in part.firings}
    return plan_clips((waiting for waiting in plan.firings if waiting.path not in gone), max_clip_ns), refused


def _recorded(time: ForbiddenTime, plan: ClipPlan, source: RecordSource) -> ForbiddenTime:
    """From its first record to its last one: a clip ends with a record, not where nobody recorded any more."""
    return replace(
        time,
        from_ns=source.first_time_ns(time.from_ns, plan.end_ns),
        until_ns=source.last_time_ns(plan.start_ns, time.until_ns),
    )


def _in_forbidden_times(plan: ClipPlan, forbidden: Sequence[ForbiddenTime]) -> Refused:
    lost: dict[ForbiddenTime, list[WaitingFiring]] = {}
    for waiting in plan.firings:
        if why := next((time for time in forbidden if time.forbids(waiting)), None):
            lost.setdefault(why, []).append(waiting)
    return [(_plan_of(firings), SealingRefusal(why.reason, why.detail)) for why, firings in lost.items()]


def _reaching_back(plan: ClipPlan, judge: Judge) -> Refused:
    found = ((firings, *_first_admitted(firings, judge)) for firings in _alike(plan.firings))
    return [(_plan_of(firings[:admitted]), why) for firings, admitted, why in found if why is not None]


def _first_admitted(firings: Sequence[WaitingFiring], judge: Judge) -> tuple[int, SealingRefusal | None]:
    """The index of the first one that is admitted by itself, and why the one before it is not."""
    low, high, why = 0, len(firings), None
    while low < high:
        middle = (low + high) // 2
        verdict = judge(_plan_of([firings[middle]]))
        if verdict is None:
            high = middle
        else:
            low, why = middle + 1, verdict
    return low, why


def _apart(plan: ClipPlan) -> Iterable[Sequence[WaitingFiring]]:
    alike = _alike(plan.firings)
    if len(alike) > 1:
        return alike
    (firings,) = alike
    middle = len(firings) // 2
    return firings[:middle], firings[middle:]


def _alike(firings: Iterable[WaitingFiring]) -> list[list[WaitingFiring]]:
    """By run and cameras, on which the lead-in depends; in order of their start."""
    groups: dict[tuple[str, tuple[str, ...]], list[WaitingFiring]] = {}
    for waiting in sorted(firings, key=lambda waiting: waiting.start_ns):
        groups.setdefault((waiting.session, waiting.firing.capture.cameras), []).append(waiting)
    return list(groups.values())


def _plan_of(firings: Sequence[WaitingFiring]) -> ClipPlan:
    ends_ns = (waiting.end_ns for waiting in firings)
    return ClipPlan(min(waiting.start_ns for waiting in firings), max(ends_ns), tuple(firings))
