"""Which runs of the runtime nothing can ask about any more. Their files in `sessions/` go when a new run has started.

A clip needs the session file of the run that fired, and a crash is found by it, as long as there is a firing or a
second of history of that run. So these bound how many are kept, however long the recorder is away, and however often
the runtime dies meanwhile; besides, the newest `MAX_SESSIONS` stay.
"""

from __future__ import annotations

from runtime.recording.firing_files import FiringFileError, read_firing
from runtime.recording.history_reader import HistoryReader
from runtime.recording.layout import HistoryLayout
from runtime.recording.sessions import SessionState, forget_session, list_sessions

#: Runs that are kept whether anything is left of them or not: for who looks at the directory.
MAX_SESSIONS = 16


def forget_old_runs(layout: HistoryLayout) -> None:
    """Remove what is no longer needed. OSError."""
    finished = [run.record.session for run in list_sessions(layout) if run.state is not SessionState.ALIVE]
    too_old = finished[:-MAX_SESSIONS]
    if not too_old:
        return
    needed = HistoryReader(layout.directory).sessions() | _firing_sessions(layout)
    for session in too_old:
        if session not in needed:
            forget_session(layout, session)


def _firing_sessions(layout: HistoryLayout) -> set[str]:
    found = set()
    for path in layout.list_firings():
        try:
            found.add(read_firing(path).session)
        except (FiringFileError, FileNotFoundError):
            continue  # the recorder sets it aside and counts it, or has answered it
    return found
