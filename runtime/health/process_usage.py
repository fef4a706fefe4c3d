"""Processor time and memory of a process, from /proc (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runtime.messages import NANOSECONDS_PER_SECOND

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a process has used so far."""

    pid: int
    cpu_s: float  # user and system time of all its threads; its children's is theirs
    rss_bytes: int
    threads: int


def read_usage(pid: int, proc: Path = Path("/proc")) -> ProcessUsage | None:
    """The usage of a process at this moment; None when there is no such process."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command in parentheses may itself hold spaces and parentheses: fields count from behind the last one.
    fields = stat[stat.rindex(")") + 2 :].split()
    user_ticks, system_ticks = int(fields[11]), int(fields[12])
    threads, rss_pages = int(fields[17]), int(fields[21])
    return ProcessUsage(pid, (user_ticks + system_ticks) / _TICKS_PER_SECOND, rss_pages * _PAGE_BYTES, threads)


class CpuMeter:
    """The processor cores that a process has used between two readings."""

    def __init__(self) -> None:
        self._last: tuple[int, ProcessUsage] | None = None

    def cores(self, usage: ProcessUsage, now_ns: int) -> float | None:
        """Cores since the reading before (1.3: one and a third); None for the first of a process."""
        before, self._last = self._last, (now_ns, usage)
        if before is None or before[1].pid != usage.pid or now_ns <= before[0]:
            return None
        return (usage.cpu_s - before[1].cpu_s) / ((now_ns - before[0]) / NANOSECONDS_PER_SECOND)
