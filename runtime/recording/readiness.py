"""When to cut: once the post-roll is in history, or will never be. And why it is short, if it is.

A camera whose pictures are encoded first comes later than the others: as long as one that was there just before the end
has nothing from after it, the cut waits, `LATE_NS` longer at most. One that died in its last second costs that wait.

A runtime that is started again records on in the same history. What it adds is not the post-roll of the run that
fired: that one's own records tell whether it came so far. A range that the fleet asked for belongs to whoever recorded
its end.
"""

from __future__ import annotations

from typing import TypeAlias

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.clip_plan import PULL, ClipPlan
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
    name = _run_at_end(reader, plan)
    session = sessions.get(name)
    if session is None or session.state is not SessionState.ALIVE:
        return True, _why_over(reader, plan, name, session)  # no camera of it is late: nothing more comes
    newest_ns = reader.newest_start_ns() or 0
    if newest_ns >= plan.end_ns + SETTLE_NS:
        is_late = newest_ns >= plan.end_ns + SETTLE_NS + LATE_NS
        return is_late or not reader.cameras_behind(plan.end_ns), None
    stalled = now_ns > max(plan.end_ns, newest_ns) + STALL_NS
    return stalled, "history stopped growing while the runtime was alive" if stalled else None


def _run_at_end(reader: HistoryReader, plan: ClipPlan) -> str:
    own = max(plan.firings, key=lambda waiting: waiting.end_ns).session  # merged ones stand in the order of their start
    return (reader.session_at(plan.end_ns) or own) if plan.kind == PULL else own


def _why_over(reader: HistoryReader, plan: ClipPlan, name: str, session: Session | None) -> str | None:
    newest = reader.newest_record(name)
    if newest is not None and newest[0] >= plan.end_ns:
        return None  # it left after the post-roll was in
    if session is None:
        return "the runtime that fired is gone"
    return "the runtime ended" if session.state is SessionState.ENDED else "the runtime crashed"
