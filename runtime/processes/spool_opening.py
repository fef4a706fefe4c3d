"""The spool of a vehicle process: waited for while its disk is full or fails, and shown in figures that may be old.

A disk that others have filled is no reason to end: started again, a process would find it as full, and its supervisor
would give it up in the end. So it stays up, says what it waits for, and tries again, longer apart each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from runtime.backoff import Backoff
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.processes.shell import PASSING_ERRORS, ProcessShell, log
from runtime.spool import LedgerError, RecoveryReport, Spool

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0


#: Opens a spool, and calls `progress`, the one argument that it is given, while it gets on.
Open = Callable[..., Spool]


def open_spool(opened: Open, shell: ProcessShell, stop: threading.Event) -> Spool | None:
    """What `opened` gives; None when told to stop before the disk came back.

    Raises SpoolError for a folder that contradicts itself, and other OSError: waiting mends none of those.
    """
    backoff, attempts = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S), 0
    while not stop.is_set():
        try:
            spool = opened(progress=shell.starting)
            if spool.last_recovery != RecoveryReport():
                log.warning("the spool was not left in order: %s", spool.last_recovery)
            return spool
        except OSError as error:
            if not isinstance(error, LedgerError) and error.errno not in PASSING_ERRORS:
                raise
            attempts += 1
            wait_s = backoff.next_s()
            text = f"the spool cannot be used now, next attempt in {wait_s:.0f} s: {error}"
            shell.wait_out(text, {"waiting_for_spool": str(error), "attempts": attempts}, wait_s, stop)
    return None


class SpoolFigures:
    """The ledger in numbers for a status file, read once a second; where it cannot be read, the last ones, and why."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._next_ns: int | None = None
        self._last: dict[str, Any] = {}

    def __call__(self, at_once: bool = False) -> dict[str, Any]:
        """Numbers of clips and bytes; `error` is empty when they are of now. With nothing else they were never read."""
        now_ns = self._spool.monotonic_ns()
        if at_once or self._next_ns is None or now_ns >= self._next_ns:
            self._next_ns = now_ns + NANOSECONDS_PER_SECOND
            try:
                self._last = self._read()
            except LedgerError as error:
                if not self._last.get("error"):  # once: a status must not fill the log
                    log.error("the spool's figures cannot be read: %s", error)
                self._last = {**self._last, "error": str(error)}
        return self._last

    def _read(self) -> dict[str, Any]:
        return {**asdict(self._spool.counts()), "tidying_failures": self._spool.tidying_failures, "error": ""}
