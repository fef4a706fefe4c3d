"""Alarms of the spool, told to people: each as one warning in the log, the newest in a process's status.

Whoever looks first tells it, the recorder or the uploader, whichever of them raised it; the ledger remembers what was
told, so that neither the other one nor the next start says it again. A ledger that cannot be read or written now is
said once, and its alarms are told when it can be again.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from runtime.formats.printable import counted, printable
from runtime.health.status import read_status
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.processes.shell import log
from runtime.spool import LedgerError, Spool

#: How many a status lists, newest first. The ledger keeps a thousand.
LISTED_ALARMS = 8


class AlarmLog:
    """Tells the alarms of one spool."""

    def __init__(self, spool: Spool) -> None:
        self.newest: list[dict[str, Any]] = []
        self._spool = spool
        self._failure = ""

    def step(self) -> None:
        """Log what nobody was told of yet, at most a hundred at once, and look up what a status lists."""
        try:
            for alarm in self._spool.take_untold_alarms():
                log.warning("spool alarm: %s", printable(alarm.text))
            listed = self._spool.alarms(LISTED_ALARMS)
        except LedgerError as error:
            if str(error) != self._failure:
                log.warning("alarms of the spool cannot be told: %s", error)
            self._failure = str(error)
            return
        self._failure = ""
        self.newest = [{"wall_ns": alarm.wall_ns, "text": printable(alarm.text)} for alarm in listed]


def newest_alarm(status_directory: Path) -> str:
    """For `shadowrig doctor`: what the recorder's status says of alarms. Raises ValueError and OSError."""
    status = read_status(status_directory / "recorder.json")
    if status is None:
        return f"no recorder has run: {status_directory} has no recorder.json"
    try:
        count, newest = status["spool"]["alarms"], status["spool"]["newest_alarms"]
        if not newest:
            return "none"
        raised = datetime.fromtimestamp(newest[0]["wall_ns"] // NANOSECONDS_PER_SECOND, timezone.utc)
        return f"{counted(count, 'alarm')} so far; the newest, {raised:%Y-%m-%d %H:%M:%S} UTC: {newest[0]['text']}"
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{status_directory / 'recorder.json'} says nothing of alarms: start the recorder") from error
