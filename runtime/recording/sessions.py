"""Runs of the runtime, as the recorder sees them: alive, left cleanly, or crashed.

What a run says of itself at its start holds until it notes a change: `<session>.changes` lists which rules ran from
which instant on, so that a clip names those that were in force when it fired.

A run holds an flock on its lock file from before its session file appears until its process is gone; the kernel lets go
of it however the process ends. A lock that is free without an `.ended` file is a crash.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.recording.layout import HistoryLayout, write_atomically
from runtime.recording.provenance import ModelProvenance, Provenance

#: Changes of rules that a run remembers: history is long gone before so many have come.
MAX_CHANGES = 256


class SessionRecord(BaseModel):
    """The content of `sessions/<session>.json`."""

    model_config = ConfigDict(frozen=True)

    session: str
    pid: int
    started_wall_ns: int
    history_s: float
    provenance: Provenance


class SessionChange(BaseModel):
    """A line of `sessions/<session>.changes`: these rules and this model run from `from_ns` on."""

    model_config = ConfigDict(frozen=True)

    from_ns: int
    rules_sha256: str
    campaigns: tuple[str, ...] = ()
    model: ModelProvenance | None


class SessionState(str, Enum):
    """What became of a run."""

    ALIVE = "alive"
    ENDED = "ended"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Session:
    """One run and what became of it."""

    record: SessionRecord
    state: SessionState
    crash_is_noted: bool
    changes: tuple[SessionChange, ...] = ()

    def provenance_at(self, time_ns: int) -> Provenance:
        """What the run was made of at this instant."""
        changes = [change for change in self.changes if change.from_ns <= time_ns]
        if not changes:
            return self.record.provenance
        newest = changes[-1]
        update = {"rules_sha256": newest.rules_sha256, "model": newest.model}
        return self.record.provenance.model_copy(update=update)


class SessionLock:
    """Held by the runtime. `end` says that it left cleanly; without it the recorder will see a crash."""

    def __init__(self, layout: HistoryLayout, record: SessionRecord) -> None:
        """OSError when it cannot be written (nothing is left then), BlockingIOError when another runs by this name."""
        self._layout = layout
        self.record = record
        self._changes: list[SessionChange] = []
        lock = layout.sessions / f"{record.session}.lock"
        self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write_session()
        except OSError:
            os.close(self._descriptor)
            raise

    def _write_session(self) -> None:
        """A lock without a session file would stay for ever: nobody forgets a run that nobody lists."""
        sessions, record = self._layout.sessions, self.record
        try:
            write_atomically(sessions / f"{record.session}.json", record.model_dump_json(indent=1).encode())
        except OSError:
            (sessions / f"{record.session}.lock").unlink(missing_ok=True)
            raise

    def note_change(self, change: SessionChange) -> None:
        """Other rules run from here on. Older changes than the newest `MAX_CHANGES` are forgotten. OSError."""
        self._changes = [*self._changes, change][-MAX_CHANGES:]
        text = "\n".join(noted.model_dump_json() for noted in self._changes) + "\n"
        write_atomically(self._layout.sessions / f"{self.record.session}.changes", text.encode())

    def end(self) -> None:
        """Leave cleanly."""
        if self._descriptor < 0:
            return
        (self._layout.sessions / f"{self.record.session}.ended").touch()
        os.close(self._descriptor)
        self._descriptor = -1


def list_sessions(layout: HistoryLayout) -> list[Session]:
    """Every run whose session file can be read, oldest first."""
    sessions = []
    for path in layout.sessions.glob("*.json"):
        try:
            record = SessionRecord.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            continue  # removed meanwhile, or not written by a run of ours: no process can be tied to it
        noted = path.with_suffix(".crashed").exists()
        sessions.append(Session(record, _state(path), noted, _changes(path.with_suffix(".changes"))))
    return sorted(sessions, key=lambda session: session.record.started_wall_ns)


def with_runs_of(layout: HistoryLayout, known: Mapping[str, Session], names: Iterable[str]) -> dict[str, Session]:
    """`known`, and those that started since it was listed where one of these names is not in it.

    A run's session file is there before anything bears its name: who read a name first and still finds no run by it
    knows that its file is gone.
    """
    if all(name in known for name in names):
        return dict(known)
    return {**{run.record.session: run for run in list_sessions(layout)}, **known}


def _changes(path: Path) -> tuple[SessionChange, ...]:
    """Oldest first; empty for a run whose rules never changed, or when it is removed meanwhile."""
    try:
        return tuple(SessionChange.model_validate_json(line) for line in path.read_bytes().splitlines())
    except (FileNotFoundError, ValidationError):
        return ()


def note_crash(layout: HistoryLayout, session: str) -> None:
    """Remember that the crash of this run has its firing, so that it gets no second one."""
    (layout.sessions / f"{session}.crashed").touch()


def _state(path: Path) -> SessionState:
    if path.with_suffix(".ended").exists():
        return SessionState.ENDED
    try:
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return SessionState.CRASHED
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return SessionState.ALIVE
    finally:
        os.close(descriptor)
    # It may have left between the two looks: the marker is written before the lock is let go.
    return SessionState.ENDED if path.with_suffix(".ended").exists() else SessionState.CRASHED


def forget_session(layout: HistoryLayout, session: str) -> None:
    """Remove all files of a run that is over."""
    for suffix in (".json", ".lock", ".ended", ".crashed", ".changes"):
        (layout.sessions / f"{session}{suffix}").unlink(missing_ok=True)
