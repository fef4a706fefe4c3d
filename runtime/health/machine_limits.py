"""What on this machine stands between real-time threads and constant latency, and cannot be changed from a process.

| finding | why it matters |
|---|---|
| clock rate | a governor that slows the processor down between ticks makes every tick wait for it to speed up |
| real-time share | beyond `sched_rt_runtime_us` of a processor the kernel stops real-time threads: 50 ms in a second |
| group's share | a control group of version 1 has a real-time share of its own, which may be 0: no rights |
| processor quota | `cpu.max` stops the threads of a group that are not real-time for the rest of each period |

They are reported in the runtime's status beside what was applied, and by `shadowrig doctor`.
"""

from __future__ import annotations

from pathlib import Path

from runtime.health.realtime import RealtimeReport, RealtimeSetting

_PROC = Path("/proc")
_SYS = Path("/sys")


def machine_report(proc: Path = _PROC, system: Path = _SYS) -> RealtimeReport:
    """Every limit that can be read here; those that do not exist on this machine are left out."""
    found = [
        _clock_rate(system),
        _realtime_share(proc / "sys/kernel/sched_rt_runtime_us", proc / "sys/kernel/sched_rt_period_us"),
        _group_share(proc, system),
        _quota(proc, system),
    ]
    return RealtimeReport(tuple(setting for setting in found if setting is not None))


def _clock_rate(system: Path) -> RealtimeSetting | None:
    governor = _text(system / "devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor is None:
        return None
    text = f"governor is {governor} (set it: 'cpupower frequency-set -g performance', on a Jetson 'jetson_clocks')"
    text = _unless(governor, "performance", text)
    return RealtimeSetting("machine: constant clock rate", governor == "performance", text)


def _realtime_share(runtime: Path, period: Path) -> RealtimeSetting | None:
    allowed_us, period_us = _integer(runtime), _integer(period)
    if allowed_us is None or period_us is None:
        return None
    name = "machine: real-time threads may use a whole processor"
    if allowed_us < 0 or allowed_us >= period_us:
        return RealtimeSetting(name, True)
    share = allowed_us / period_us
    text = f"at most {share:.0%} of each {period_us / 1e6:g} s (sched_rt_runtime_us; keep ticks and capture below it)"
    return RealtimeSetting(name, False, text)


def _group_share(proc: Path, system: Path) -> RealtimeSetting | None:
    group = _group(proc, "cpu")
    allowed_us = None if group is None else _integer(system / "fs/cgroup/cpu" / group / "cpu.rt_runtime_us")
    if allowed_us is None:
        return None
    text = "its cpu.rt_runtime_us is 0 (give it a share, or leave the group)"
    return RealtimeSetting("machine: control group grants real time", allowed_us != 0, "" if allowed_us else text)


def _quota(proc: Path, system: Path) -> RealtimeSetting | None:
    group = _group(proc, "")
    said = None if group is None else _text(system / "fs/cgroup" / group / "cpu.max")
    if said is None:
        return None
    name = "machine: control group has no processor quota"
    text = f"cpu.max is {said!r}: its threads stand still when it is used up (set CPUQuota= to nothing)"
    return RealtimeSetting(name, said.startswith("max"), _unless(said[:3], "max", text))


def _group(proc: Path, controller: str) -> str | None:
    """This process's control group below the controller's root (version 2: controller "")."""
    for line in (_text(proc / "self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.strip("/")
    return None


def _unless(value: str, wished: str, text: str) -> str:
    return "" if value == wished else text


def _integer(path: Path) -> int | None:
    said = _text(path)
    return None if said is None else int(said)


def _text(path: Path) -> str | None:
    """A kernel file's text; None where this kernel or machine has no such file."""
    try:
        return path.read_text().strip()
    except OSError:
        return None
