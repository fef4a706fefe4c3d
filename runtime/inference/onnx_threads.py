"""Threads and spinning of ONNX Runtime, chosen by measurement when a network is opened (`threads: auto`).

Latency that does not move and few cores come before speed, so the rule starts at one thread and lets another setting in
only where it pays:

- One core is left to capture, signals and recording: a machine with two cores runs one thread, whatever is faster on
  it while nothing else runs. Hyper-threads of one core count once.
- More threads, or spinning, must bring the median run down by `MIN_GAIN` and may cost at most `MAX_CPU_RATIO` times the
  processor time of one thread. The time counted includes a pause after each run, in which spinning threads go on.
- The outputs must be those of one thread to the last bit, so that a replay on another machine says the same.

Contestants take turns, so that whatever else the machine does falls on both; each duel lasts `DUEL_S` at most, unless
`MIN_ROUNDS` take longer. Time comes in as arguments.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.inference.backend import BackendError
from runtime.inference.bundle import ModelBundle
from runtime.inference.onnx_session import RUN_ERRORS, OnnxSettings, open_session, padding_feeds

MIN_GAIN = 0.15
MAX_CPU_RATIO = 1.3
DUEL_S = 0.5
MIN_ROUNDS = 5
MAX_ROUNDS = 60
PAUSE_S = 0.002
CORES_FOR_OTHERS = 1
MAX_THREADS = 16

_TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Clocks:
    """What is measured with, in nanoseconds, and how to pause."""

    wall_ns: Callable[[], int] = time.perf_counter_ns
    cpu_ns: Callable[[], int] = time.process_time_ns
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Trial:
    """What one setting was measured at."""

    threads: int
    spinning: bool
    p50_ms: float
    cpu_ms: float  # per run, of all threads, with the pause after it
    runs: int
    same_bits: bool

    def __str__(self) -> str:
        spinning = ", spinning" if self.spinning else ""
        bits = "" if self.same_bits else ", other bits"
        return f"{self.threads}{spinning}: {self.p50_ms:.2f} ms, {self.cpu_ms:.2f} ms of cores{bits}"


@dataclass(frozen=True, slots=True)
class ThreadChoice:
    """The setting to run with, and every trial that led to it, in order."""

    threads: int
    spinning: bool
    cores: int
    trials: tuple[Trial, ...]

    @property
    def because(self) -> str:
        """The measurement in one line."""
        return f"measured on {self.cores} cores: " + "; ".join(str(trial) for trial in self.trials)


def choose_threads(
    bundle: ModelBundle,
    role: str,
    settings: OnnxSettings,
    calibrations: Mapping[str, NDArray[np.float32]],
    cores: int | None = None,
    clocks: Clocks | None = None,
) -> ThreadChoice:
    """Measure and choose for one file of a bundle; `cores` None: those that this process may use.

    Raises:
        BackendError: the file cannot be opened or run.
    """
    cores, clocks = cores or usable_cores(), clocks or Clocks()
    feeds = _noise_feeds(bundle, calibrations)

    def contestant(threads: int, spinning: bool) -> _Contestant:
        session = open_session(bundle, role, replace(settings, threads=threads, spinning=spinning, profile=None))
        return _Contestant(threads, spinning, session, feeds, clocks)

    try:
        return _tournament(contestant, cores, clocks)
    except RUN_ERRORS as error:
        raise BackendError(f"network {bundle.file(role)} cannot run: {error}") from error


def usable_cores() -> int:
    """Physical cores among the processors that this process may run on."""
    allowed = sorted(os.sched_getaffinity(0))
    return max(1, len({_siblings(processor) for processor in allowed}))


def candidates(cores: int) -> list[tuple[int, bool]]:
    """Threads and spinning to try after one thread, in the order in which they may replace one another."""
    most = min(cores - CORES_FOR_OTHERS, MAX_THREADS)
    counts = [count for count in (2, 4, 8, 16) if count < most] + ([most] if most > 1 else [])
    return [(count, spinning) for count in counts for spinning in (False, True)]


def _siblings(processor: int) -> str:
    """The processors of the same core, as the kernel lists them; the processor itself where it does not say."""
    try:
        return (_TOPOLOGY / f"cpu{processor}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(processor)


class _Contestant:
    """One setting: a session and what it took so far."""

    def __init__(
        self, threads: int, spinning: bool, session: Any, feeds: Mapping[str, NDArray[Any]], clocks: Clocks
    ) -> None:
        self.threads, self.spinning = threads, spinning
        self._session, self._feeds, self._clocks = session, dict(feeds), clocks
        self._names = [output.name for output in session.get_outputs()]
        self.wall_ms: list[float] = []
        self.cpu_ms: list[float] = []
        self.bits = b"".join(np.asarray(output).tobytes() for output in self._run())

    def turn(self) -> None:
        """One run and the pause after it."""
        began_cpu, began = self._clocks.cpu_ns(), self._clocks.wall_ns()
        self._run()
        self.wall_ms.append((self._clocks.wall_ns() - began) / 1e6)
        self._clocks.sleep(PAUSE_S)
        self.cpu_ms.append((self._clocks.cpu_ns() - began_cpu) / 1e6)

    def trial(self, bits: bytes) -> Trial:
        """What is known by now; `bits` are the outputs of one thread."""
        p50_ms, cpu_ms = statistics.median(self.wall_ms), statistics.median(self.cpu_ms)
        return Trial(self.threads, self.spinning, p50_ms, cpu_ms, len(self.wall_ms), self.bits == bits)

    def _run(self) -> Any:
        return self._session.run(self._names, self._feeds)


def _tournament(contestant: Callable[[int, bool], _Contestant], cores: int, clocks: Clocks) -> ThreadChoice:
    holder = contestant(1, False)
    bits = holder.bits
    _duel([holder], clocks)
    single = holder.trial(bits)
    trials = [single]
    for threads, spinning in candidates(cores):
        challenger = contestant(threads, spinning)
        holder.wall_ms.clear()
        holder.cpu_ms.clear()
        _duel([holder, challenger], clocks)
        trials.append(challenger.trial(bits))
        if _is_better(trials[-1], holder.trial(bits), single):
            holder = challenger
    return ThreadChoice(holder.threads, holder.spinning, cores, tuple(trials))


def _duel(contestants: list[_Contestant], clocks: Clocks) -> None:
    """Turn by turn until the time is up."""
    deadline_ns = clocks.wall_ns() + round(DUEL_S * 1e9)
    for done in range(MAX_ROUNDS):
        if done >= MIN_ROUNDS and clocks.wall_ns() >= deadline_ns:
            return
        for contestant in contestants:
            contestant.turn()


def _is_better(challenger: Trial, holder: Trial, single: Trial) -> bool:
    is_faster = challenger.p50_ms <= (1.0 - MIN_GAIN) * holder.p50_ms
    return is_faster and challenger.cpu_ms <= MAX_CPU_RATIO * single.cpu_ms and challenger.same_bits


def _noise_feeds(bundle: ModelBundle, calibrations: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """Inputs like those of a drive as far as time is concerned: images of noise, the same on every start."""
    generator = np.random.default_rng(0)
    feeds = padding_feeds(bundle, calibrations)
    for entry in bundle.manifest.image_inputs:
        pixels = generator.integers(0, 256, entry.shape, dtype=np.uint8)
        feeds[entry.name] = pixels if entry.dtype == "uint8" else (pixels * np.float32(entry.scale)).astype(np.float32)
    return feeds
