"""When to cut: once the post-roll is in history, or will never be. And why it is short, if it is.

A camera whose pictures are encoded first comes later than the others: as long as one that was there just before the end
has nothing from after it, the cut waits, `LATE_NS` longer at most. One that died in its last second costs that wait.

A runtime that is started again records on in the same history. What it adds is not the post-roll of the run that
fired: that one's own records tell whether it came so far, also where a firing of the next run made the clip longer. A
range that the fleet asked for belongs to whoever recorded its end.
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
    """Whether to cut now, and why the post-roll is short if it is: that of the last run, or else of one before it."""
    due, why = _readiness_of_last(reader, plan, sessions, now_ns)
    if not due or why is not None:
        return due, why
    earlier = (
        _why_over(reader, end_ns, name, sessions.get(name))
        for name, end_ns in _ends_of_runs(plan).items()
        if end_ns < plan.end_ns and not _is_alive(sessions.get(name))
    )
    return due, next((why for why in earlier if why is not None), None)


def _readiness_of_last(
    reader: HistoryReader, plan: ClipPlan, sessions: Sessions, now_ns: int
) -> tuple[bool, str | None]:  # fmt: skip
    name = _run_at_end(reader, plan)
    session = sessions.get(name)
    if not _is_alive(session):
        return True, _why_over(reader, plan.end_ns, name, session)  # no camera of it is late: nothing more comes
    newest_ns = reader.newest_start_ns() or 0
    if newest_ns >= plan.end_ns + SETTLE_NS:
        is_late = newest_ns >= plan.end_ns + SETTLE_NS + LATE_NS
        return is_late or not reader.cameras_behind(plan.end_ns), None
    stalled = now_ns > max(plan.end_ns, newest_ns) + STALL_NS
    return stalled, "history stopped growing while the runtime was alive" if stalled else None


def _is_alive(session: Session | None) -> bool:
    return session is not None and session.state is SessionState.ALIVE


def _run_at_end(reader: HistoryReader, plan: ClipPlan) -> str:
    own = max(plan.firings, key=lambda waiting: waiting.end_ns).session  # merged ones stand in the order of their start
    return (reader.session_at(plan.end_ns) or own) if plan.kind == PULL else own


def _ends_of_runs(plan: ClipPlan) -> dict[str, int]:
    """By run: the last instant that its own firings want. A pull is of no run."""
    ends_ns: dict[str, int] = {}
    for waiting in plan.firings if plan.kind != PULL else ():
        ends_ns[waiting.session] = max(waiting.end_ns, ends_ns.get(waiting.session, waiting.end_ns))
    return ends_ns


def _why_over(reader: HistoryReader, end_ns: int, name: str, session: Session | None) -> str | None:
    """Why this run's records do not reach so far; None: they do."""
    newest = reader.newest_record(name)
    if newest is not None and newest[0] >= end_ns:
        return None  # it left after the post-roll was in
    if session is None:
        return "the runtime that fired is gone"
    return "the runtime ended" if session.state is SessionState.ENDED else "the runtime crashed"
