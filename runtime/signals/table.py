"""Every signal as it stood at one instant.

Sources `offer` samples from their threads, each with its capture time; the tick asks for the state `at` its instant.
Only samples at or before that instant count: later ones wait, so that the same samples give the same state whenever
they arrived. A pulse shorter than a tick is latched: `samples` of a signal holds everything since the previous `at`.
A signal that was never seen, or whose newest sample is older than its timeout, is unknown (None) - never false or zero.
The first sample of a button that is pressed is preceded by one that says that it was not, so that the press is an edge.

Memory is bounded: so many signals, so many waiting samples for each. What does not fit is refused and counted.
"""

from __future__ import annotations

import math
import threading
from bisect import insort
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from runtime.messages import NANOSECONDS_PER_SECOND, SignalSample, SignalValue

MAX_SIGNALS = 4096
#: At 1 kHz a signal fills this in a second: a tick that has not come by then has other troubles.
MAX_WAITING_SAMPLES = 1024


@dataclass(slots=True)
class TableCounters:
    """What became of the samples."""

    accepted: int = 0
    refused_full: int = 0  # too many waiting samples, or too many different signals
    refused_old: int = 0  # not newer than what the signal's state is already made of
    refused_invalid: int = 0  # not a number


@dataclass(slots=True)
class _Signal:
    timeout_ns: int
    newest: SignalSample | None = None
    waiting: list[SignalSample] = field(default_factory=list)  # in order of time


@dataclass(frozen=True, slots=True)
class SignalSnapshot:
    """The signals at one instant: a `SignalReader`."""

    time_ns: int
    known: Mapping[str, SignalValue]
    latched: Mapping[str, Sequence[SignalSample]]
    seen: tuple[str, ...]

    def value(self, name: str) -> SignalValue | None:
        return self.known.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return self.latched.get(name, ())

    def names(self) -> Sequence[str]:
        return self.seen


class SignalTable:
    """The signals of the vehicle and its controller. `offer` may be called by any thread, `at` by the tick."""

    def __init__(
        self,
        timeouts_s: Mapping[str, float] | None = None,
        default_timeout_s: float = 1.0,
        buttons: Collection[str] = (),
    ) -> None:
        """`timeouts_s` declares signals and after how long each is unknown; others get the default."""
        self._buttons = frozenset(buttons)
        self._default_timeout_ns = _nanoseconds(default_timeout_s)
        self._lock = threading.Lock()
        self._counters = TableCounters()
        self._signals = {name: _Signal(_nanoseconds(timeout)) for name, timeout in (timeouts_s or {}).items()}
        self._names: tuple[str, ...] = tuple(sorted(self._signals))

    def offer(self, sample: SignalSample) -> bool:
        """Take a sample in; False, counted, when it is refused."""
        with self._lock:
            if isinstance(sample.value, float) and not math.isfinite(sample.value):
                self._counters.refused_invalid += 1
                return False
            signal = self._signal(sample.name)
            if signal is None or len(signal.waiting) >= MAX_WAITING_SAMPLES:
                self._counters.refused_full += 1
                return False
            if signal.newest is not None and sample.time_ns <= signal.newest.time_ns:
                self._counters.refused_old += 1
                return False
            if signal.waiting and sample.time_ns < signal.waiting[-1].time_ns:
                insort(signal.waiting, sample, key=lambda other: other.time_ns)
            else:
                signal.waiting.append(sample)
            self._counters.accepted += 1
            return True

    def _signal(self, name: str) -> _Signal | None:
        signal = self._signals.get(name)
        if signal is None and len(self._signals) < MAX_SIGNALS:
            signal = self._signals[name] = _Signal(self._default_timeout_ns)
            self._names = tuple(sorted(self._signals))
        return signal

    def at(self, time_ns: int) -> SignalSnapshot:
        """The state at `time_ns`, from samples at or before it, and every sample that came in since the last call."""
        known: dict[str, SignalValue] = {}
        latched: dict[str, Sequence[SignalSample]] = {}
        with self._lock:
            for name, signal in self._signals.items():
                if signal.waiting and signal.waiting[0].time_ns <= time_ns:
                    is_first = signal.newest is None
                    latched[name] = _take_until(signal, time_ns)
                    if is_first and name in self._buttons:
                        latched[name] = (_not_pressed_before(latched[name][0]), *latched[name])
                newest = signal.newest
                if newest is not None and time_ns - newest.time_ns <= signal.timeout_ns:
                    known[name] = newest.value
            return SignalSnapshot(time_ns, known, latched, self._names)

    def counters(self) -> TableCounters:
        """A copy of the counters."""
        with self._lock:
            current = self._counters
            return TableCounters(current.accepted, current.refused_full, current.refused_old, current.refused_invalid)


def _take_until(signal: _Signal, time_ns: int) -> Sequence[SignalSample]:
    """Move the samples at or before `time_ns` out of the waiting ones; the last of them is the signal's state."""
    count = len(signal.waiting)
    if signal.waiting[-1].time_ns > time_ns:
        count = next(index for index, sample in enumerate(signal.waiting) if sample.time_ns > time_ns)
    taken = tuple(signal.waiting[:count])
    del signal.waiting[:count]
    signal.newest = taken[-1]
    return taken


def _not_pressed_before(first: SignalSample) -> SignalSample:
    return SignalSample(first.name, first.time_ns - 1, False)


def _nanoseconds(seconds: float) -> int:
    if not 0 < seconds < math.inf:
        raise ValueError(f"a signal's timeout is {seconds} s; it must be positive and finite")
    return round(seconds * NANOSECONDS_PER_SECOND)
