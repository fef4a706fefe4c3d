"""A runtime that died without saying so leaves its last seconds: one firing for each, from the recorder."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.recording.firing_files import crash_firing, write_firing
from runtime.recording.history_reader import HistoryReader
from runtime.recording.layout import HistoryLayout
from runtime.recording.sessions import Session, SessionState, note_crash


def leave_crash_firings(
    layout: HistoryLayout, reader: HistoryReader, sessions: Iterable[Session], pre_s: float
) -> None:
    """A firing over the last `pre_s` seconds of every run that crashed, and a note so that it gets no second one.

    OSError when there is no room for it: to be tried again, which leaves the same firing.
    """
    for session in sessions:
        if session.state is not SessionState.CRASHED or session.crash_is_noted:
            continue
        newest = reader.newest_record(session.record.session)
        if newest is not None:
            version = session.record.provenance.software_version
            write_firing(layout, session.record.session, crash_firing(*newest, pre_s, version))
        note_crash(layout, session.record.session)
