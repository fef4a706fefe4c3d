"""Processor time and memory of every process over a spell, and what the hypervisor took meanwhile (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from runtime.health.process_usage import ProcessUsage, read_usage
from runtime.messages import NANOSECONDS_PER_SECOND

_STEAL_FIELD = 8  # of the line "cpu" in /proc/stat: time that the hypervisor gave to others
_BYTES_PER_MEGABYTE = 1e6
_SECONDS_PER_HOUR = 3600.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class ProcessSamples:
    """One process over a spell."""

    first: ProcessUsage | None = None
    last: ProcessUsage | None = None
    seconds: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)


class UsageMeter:
    """Samples the processes of a spell, about once a second."""

    def __init__(self, pids: Mapping[str, int], now_ns: int) -> None:
        self._pids = dict(pids)
        self._began_ns = now_ns
        self._ended_ns = now_ns
        self._began_steal_s = stolen_s()
        self._stolen_s = 0.0
        self._samples = {name: ProcessSamples() for name in pids}
        self.sample(now_ns)

    def sample(self, now_ns: int) -> None:
        """Look at every process; one that has ended keeps its last figures."""
        self._ended_ns = now_ns
        self._stolen_s = stolen_s() - self._began_steal_s
        for name, pid in self._pids.items():
            usage = read_usage(pid)
            if usage is None:
                continue
            samples = self._samples[name]
            samples.first = samples.first or usage
            samples.last = usage
            samples.seconds.append((now_ns - self._began_ns) / NANOSECONDS_PER_SECOND)
            samples.rss_bytes.append(usage.rss_bytes)

    def cores(self) -> dict[str, float]:
        """Processor cores that each process used (1.3: one and a third)."""
        elapsed_s = (self._ended_ns - self._began_ns) / NANOSECONDS_PER_SECOND
        used = {}
        for name, samples in self._samples.items():
            if samples.first is not None and samples.last is not None and elapsed_s > 0:
                used[name] = (samples.last.cpu_s - samples.first.cpu_s) / elapsed_s
        return used

    def rss_mb(self) -> dict[str, float]:
        """Resident memory of each process at the end."""
        return {
            name: samples.last.rss_bytes / _BYTES_PER_MEGABYTE
            for name, samples in self._samples.items()
            if samples.last is not None
        }

    def rss_slope_mb_per_h(self, *names: str) -> float:
        """Growth of these processes' resident memory by least squares; 0 for fewer than three samples."""
        samples = [self._samples[name] for name in names if name in self._samples]
        return sum(slope_mb_per_h(each.seconds, each.rss_bytes) for each in samples)

    @property
    def stolen_share(self) -> float:
        """Share of all processor time that the hypervisor gave to others."""
        elapsed_s = (self._ended_ns - self._began_ns) / NANOSECONDS_PER_SECOND
        return self._stolen_s / (elapsed_s * (os.cpu_count() or 1)) if elapsed_s > 0 else 0.0


def slope_mb_per_h(seconds: list[float], rss_bytes: list[int]) -> float:
    """The least-squares slope of memory over time."""
    if len(seconds) < 3:
        return 0.0
    slope = float(np.polyfit(np.array(seconds), np.array(rss_bytes, np.float64), 1)[0])
    return slope * _SECONDS_PER_HOUR / _BYTES_PER_MEGABYTE


def stolen_s(stat: Path = Path("/proc/stat")) -> float:
    """Processor time taken by the hypervisor since boot, over all processors."""
    fields = stat.read_text().splitlines()[0].split()
    return int(fields[_STEAL_FIELD]) / _TICKS_PER_SECOND if len(fields) > _STEAL_FIELD else 0.0
