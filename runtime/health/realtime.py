"""Real-time settings: applied where the system allows them, reported where it does not.

A missing right is a finding and never an error: the same daemon runs on a laptop without rights and in the car with
them, and its status says which. What is asked for: SCHED_FIFO for the tick with the capture threads below it and the
runtime's other threads below those (sched(7)), processor affinity, all memory locked (mlockall(2)), an allocator
that gives nothing back, and a garbage collector that waits for slack.

Why all other threads too: they share the interpreter's lock with the tick. A thread at normal priority that holds the
lock can be put aside by any program on the machine, and then the tick waits for that program: priority inversion. At
the lowest real-time priority it holds the lock for as long as it computes, and no longer.

Memory is locked only when the limit cannot be hit later: with `MCL_FUTURE` under a finite RLIMIT_MEMLOCK every
allocation beyond it fails, which turns a wish into a crash.
"""

from __future__ import annotations

import ctypes
import os
import resource
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MCL_CURRENT = 1
_MCL_FUTURE = 2
_CAP_IPC_LOCK = 14


@dataclass(frozen=True, slots=True)
class RealtimeSetting:
    """One wish to the operating system and what became of it."""

    setting: str
    applied: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RealtimeReport:
    """What became of all wishes of one process or thread."""

    settings: tuple[RealtimeSetting, ...] = ()

    @property
    def all_applied(self) -> bool:
        """True when nothing was refused."""
        return all(setting.applied for setting in self.settings)

    def __add__(self, other: RealtimeReport) -> RealtimeReport:
        return RealtimeReport(self.settings + other.settings)

    def to_list(self) -> list[dict[str, str | bool]]:
        """For status files: `[{"setting", "applied", "reason"}]`."""
        return [{"setting": s.setting, "applied": s.applied, "reason": s.reason} for s in self.settings]


def apply_to_thread(role: str, priority: int, cpus: Sequence[int] = ()) -> RealtimeReport:
    """Give the calling thread SCHED_FIFO at `priority` (0: leave it alone) and pin it to `cpus` (empty: do not)."""
    settings = []
    if priority > 0:
        setting = _set_fifo(role, priority)
        if setting is not None:
            settings.append(setting)
    if cpus:
        settings.append(_set_affinity(role, cpus))
    return RealtimeReport(tuple(settings))


def apply_to_library_threads(priority: int) -> RealtimeReport:
    """Give SCHED_FIFO at `priority` to every thread of this process but the calling one.

    Call it before the process starts threads of its own: what exists by then belongs to libraries (a network's pool,
    ZeroMQ's input and output), and the tick waits for it. A thread that ends meanwhile is no finding.
    """
    if priority <= 0:
        return RealtimeReport()
    others = sorted(int(entry) for entry in os.listdir("/proc/self/task") if int(entry) != threading.get_native_id())
    settings = [_set_fifo("libraries", priority, thread) for thread in others]
    refused = [setting for setting in settings if setting is not None and not setting.applied]
    applied = [setting for setting in settings if setting is not None and setting.applied]
    return RealtimeReport(tuple((refused or applied)[:1]))


@contextmanager
def inherited(role: str, priority: int) -> Iterator[RealtimeReport]:
    """Threads that are started within get SCHED_FIFO at `priority` (0: nothing is done); the caller is as before."""
    policy, before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield apply_to_thread(role, priority)
    finally:
        if priority > 0:
            os.sched_setscheduler(0, policy, before)


def apply_to_process(lock_memory: bool) -> RealtimeReport:
    """Lock the memory of this process, now and in future. Call it after the large allocations of start-up."""
    return RealtimeReport((_lock_memory(),)) if lock_memory else RealtimeReport()


def _set_fifo(role: str, priority: int, thread: int = 0) -> RealtimeSetting | None:
    """None for a thread (0: the calling one) that has ended."""
    name = f"{role}: SCHED_FIFO {priority}"
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
    except ProcessLookupError:
        return None
    except OSError as error:
        limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
        fix = "grant CAP_SYS_NICE or LimitRTPRIO" if isinstance(error, PermissionError) else "use 1 to 99"
        return RealtimeSetting(name, False, f"{error.strerror} (RLIMIT_RTPRIO is {limit}; {fix})")
    return RealtimeSetting(name, True)


def _set_affinity(role: str, cpus: Iterable[int]) -> RealtimeSetting:
    wanted = sorted(set(cpus))
    name = f"{role}: processors {','.join(map(str, wanted))}"
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        return RealtimeSetting(name, False, f"{error.strerror} ({_available_cpus()})")
    # The kernel quietly leaves out processors that do not exist.
    missing = sorted(set(wanted) - os.sched_getaffinity(0))
    if missing:
        return RealtimeSetting(name, False, f"there is no processor {missing[0]} ({_available_cpus()})")
    return RealtimeSetting(name, True)


def _available_cpus() -> str:
    return f"this machine has processors 0 to {(os.cpu_count() or 1) - 1}"


def _lock_memory() -> RealtimeSetting:
    name = "process: memory locked"
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not has_capability(_CAP_IPC_LOCK):
        return RealtimeSetting(name, False, f"RLIMIT_MEMLOCK is {limit} bytes (grant LimitMEMLOCK=infinity)")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        return RealtimeSetting(name, False, os.strerror(ctypes.get_errno()))
    return RealtimeSetting(name, True)


def unlock_memory() -> None:
    """Undo `apply_to_process`."""
    ctypes.CDLL(None, use_errno=True).munlockall()


def has_capability(number: int, status_file: Path = Path("/proc/self/status")) -> bool:
    """True when this process holds the Linux capability (capabilities(7)) effectively."""
    for line in status_file.read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
