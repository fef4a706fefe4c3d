"""When to cut: once the post-roll is in history, or will never be. And why it is short, if it is.

A camera whose pictures are encoded first comes later than the others: as long as one that was there just before the end
has nothing from after it, the cut waits, `LATE_NS` longer at most. One that died in its last second costs that wait.
"""

from __future__ import annotations

from typing import TypeAlias

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.history_reader import HistoryReader
from runtime.recording.layout import LATE_NS
from runtime.recording.sessions import Session, SessionState

#: Runs of the runtime by name.
Sessions: TypeAlias = dict[str, Session]

#: Between two attempts to seal a clip that the disk or the quota refused.
RETRY_NS = 5 * NANOSECONDS_PER_SECOND
#: A second is taken as complete when records of this much later have arrived: packets queue before they are written.
SETTLE_NS = 500_000_000
#: A living runtime whose history stands still for this long will not deliver the post-roll.
STALL_NS = 10 * NANOSECONDS_PER_SECOND


def readiness(
    reader: HistoryReader, plan: ClipPlan, sessions: Sessions, now_ns: int
) -> tuple[bool, str | None]:  # fmt: skip
    """Whether to cut now, and why the post-roll is short if it is."""
    newest_ns = reader.newest_start_ns()
    if newest_ns is not None and newest_ns >= plan.end_ns + SETTLE_NS:
        is_late = newest_ns >= plan.end_ns + SETTLE_NS + LATE_NS
        return is_late or not reader.cameras_behind(plan.end_ns), None
    session = sessions.get(plan.firings[-1].session)
    if session is None or session.state is not SessionState.ALIVE:
        return True, _why_over(reader, plan, session)
    stalled = now_ns > plan.end_ns + STALL_NS and (newest_ns is None or now_ns > newest_ns + STALL_NS)
    return stalled, "history stopped growing while the runtime was alive" if stalled else None


def _why_over(reader: HistoryReader, plan: ClipPlan, session: Session | None) -> str | None:
    newest = reader.newest_record(plan.firings[-1].session)
    if newest is not None and newest[0] >= plan.end_ns:
        return None  # it left after the post-roll was in
    if session is None:
        return "the runtime that fired is gone"
    return "the runtime ended" if session.state is SessionState.ENDED else "the runtime crashed"
