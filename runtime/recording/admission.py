"""Of merged firings whose clip a policy refuses: which may be sealed after all, and which not even alone. Pure."""

from __future__ import annotations

from collections.abc import Callable

from runtime.recording.clip_plan import ClipPlan, plan_clips
from runtime.recording.sealing_policy import SealingRefusal

Refused = list[tuple[ClipPlan, SealingRefusal]]


def admitted_parts(
    plan: ClipPlan, refusal: SealingRefusal, judge: Callable[[ClipPlan], SealingRefusal | None], max_clip_ns: int
) -> tuple[list[ClipPlan], Refused]:
    """Plans of the firings that `judge` admits alone, merged again, and the others with their reason.

    A plan that may be mended later, or has one firing, is refused as it is; so is one whose firings are all admitted
    alone: what forbids them together lies in their seconds.
    """
    if not refusal.is_final or len(plan.firings) == 1:
        return [], [(plan, refusal)]
    admitted, refused = [], []
    for waiting in plan.firings:
        alone = ClipPlan(waiting.start_ns, waiting.end_ns, (waiting,))
        verdict = judge(alone)
        if verdict is None:
            admitted.append(waiting)
        else:
            refused.append((alone, verdict))
    if not refused:
        return [], [(plan, refusal)]
    return plan_clips(admitted, max_clip_ns), refused
