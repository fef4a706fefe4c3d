"""The doctor's checks of the machine: processor, rights, memory, disks."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import threading
from pathlib import Path

from runtime.health.doctor_findings import Finding, Outcome
from runtime.health.machine_limits import machine_report
from runtime.health.realtime import RealtimeReport, apply_to_thread, has_capability

_CAP_IPC_LOCK = 14
_GIGABYTE = 1e9

#: Instruction sets that make INT8 fast, by machine, the weakest first (names as /proc/cpuinfo writes them).
_INT8_FEATURES = {
    "x86_64": ("avx2", "avx_vnni", "avx512_vnni", "amx_int8"),
    "aarch64": ("asimddp", "i8mm"),
}


def check_processor(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = "") -> Outcome:
    """Enough processors, with instructions for INT8."""
    machine = machine or platform.machine()
    known = _INT8_FEATURES.get(machine)
    if known is None:
        return Finding.warn(f"{machine} is not x86_64 or aarch64", "run on one of them: nothing else is tested")
    flags = _processor_flags(cpuinfo.read_text(errors="replace"))
    found = [name for name in known if name in flags]
    detail = f"{os.cpu_count()} processors, {machine}, INT8 by {', '.join(found) or 'nothing'}"
    if not found:
        return Finding.warn(detail, f"INT8 will be slow: use a processor with {' or '.join(known)}")
    if machine == "x86_64" and len(found) == 1:
        return Finding.ok(f"{detail} (no VNNI: INT8 gains less)")
    return Finding.ok(detail)


def _processor_flags(cpuinfo: str) -> set[str]:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def check_clock_rate(cpu: Path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) -> Outcome:
    """A governor that slows the processor down between ticks makes latency wander."""
    try:
        governor = cpu.read_text().strip()
    except OSError:
        return Finding.ok("not controlled from here (virtual machine or container)")
    if governor != "performance":
        fix = "set it: 'cpupower frequency-set -g performance', on a Jetson 'jetson_clocks'"
        return Finding.warn(f"governor is {governor}", fix)
    return Finding.ok("governor is performance")


def check_realtime(priority: int) -> Outcome:
    """A thread of its own asks for what the tick will ask for, and ends."""
    reports: list[RealtimeReport] = []
    thread = threading.Thread(
        target=lambda: reports.append(apply_to_thread("thread", priority)), name="doctor-realtime"
    )
    thread.start()
    thread.join()
    refused = [setting for report in reports for setting in report.settings if not setting.applied]
    if not refused:
        return Finding.ok(f"SCHED_FIFO {priority} granted")
    fix = "use deploy/systemd, or add '@shadowrig - rtprio 99' to /etc/security/limits.conf"
    return Finding.warn(f"{refused[0].setting}: {refused[0].reason}", fix)


def check_machine_limits() -> Outcome:
    """What the machine itself holds against constant latency."""
    found = machine_report()
    against = [setting.reason for setting in found.settings if not setting.applied]
    return Finding.ok("; ".join(against) or "nothing stands against real-time threads")


def check_memory_lock() -> Outcome:
    """All memory may be locked, without a limit that could be hit later."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY or has_capability(_CAP_IPC_LOCK):
        return Finding.ok("unlimited")
    fix = "use deploy/systemd, or add '@shadowrig - memlock unlimited' to /etc/security/limits.conf"
    return Finding.warn(f"limited to {limit} bytes: memory will not be locked", fix)


def check_tmpfs(directory: Path, wanted_bytes: int, mounts: Path = Path("/proc/self/mounts")) -> Outcome:
    """History lies in memory, and there is room for all of it."""
    existing = nearest_existing(directory)
    kind = _file_system(existing, mounts.read_text())
    free = shutil.disk_usage(existing).free
    detail = f"{directory}: {kind}, {free / _GIGABYTE:.1f} GB free for {wanted_bytes / _GIGABYTE:.1f} GB"
    if free < wanted_bytes:
        return Finding.fail(detail, "lower history.max_bytes or make the tmpfs larger")
    if kind not in ("tmpfs", "ramfs"):
        return Finding.warn(detail, "put history.directory on a tmpfs: a disk wears out and stalls")
    return Finding.ok(detail)


def check_disk(directory: Path, wanted_bytes: int) -> Outcome:
    """The spool's quota fits on the disk."""
    existing = nearest_existing(directory)
    free = shutil.disk_usage(existing).free
    detail = f"{directory}: {free / _GIGABYTE:.1f} GB free for a quota of {wanted_bytes / _GIGABYTE:.1f} GB"
    if not os.access(existing, os.W_OK):
        return Finding.fail(f"{existing} cannot be written to by this user", "choose another state_directory")
    if free < wanted_bytes:
        return Finding.warn(detail, "lower spool.quota or free space: clips are refused when the disk is full")
    return Finding.ok(detail)


def nearest_existing(directory: Path) -> Path:
    """The directory, or the first of its parents that is there."""
    absolute = directory.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _file_system(path: Path, mounts: str) -> str:
    """Type of the file system that holds `path`, from the text of /proc/mounts."""
    best = ("", "unknown")
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        mount_point = fields[1].replace("\\040", " ")
        if path.is_relative_to(mount_point) and len(mount_point) >= len(best[0]):
            best = (mount_point, fields[2])
    return best[1]
