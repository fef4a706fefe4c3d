"""Chooses the phase: how long after the cameras expose the tick begins.

Too early, and frames are missing from their tick; too late, and every result is older than it need be. So the runtime
measures, at start-up, how long after its instant each camera's frame stands ready in its batch slot, in two rounds: the
first at a safe provisional phase of one period, the second at what the first has found, because ticks and decoders
share processors and the phase decides where they meet. Then the phase stands still: latency that follows the load would
not be constant. It is measured again only on command (SIGUSR1 to the runtime).

    needed = the slowest frame of a second, as a median over the seconds of a round: one stall of the machine, which
             no phase can absorb, does not make every result late for good
    phase  = needed and a quarter more, at least 0.5 ms more: load that comes later slows decoding down too

A phase that fits lets the tick end before the cameras expose next (period - p99 of the tick's own time): then decoding
and ticks never contend. Where the margin alone would go beyond that, it is cut; where frames need longer, frames win,
and the choice says so (`overlaps_capture`).

A camera most of whose frames no phase can wait for (`too_slow`) is not waited for: the others would be late and it
would still be missing. One that sent nothing while the phase was measured (`unseen`) may need another phase when it
comes: that too is said, and left to people.

Time comes in as an argument; nothing here reads a clock. `ready` may be called from any camera's thread.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime.health.histogram import LatencyHistogram
from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND

TICK_QUANTILE = 0.99
LEAST_MARGIN_NS = NANOSECONDS_PER_MILLISECOND // 2
#: The margin as a divisor of what is needed: load that comes later slows decoding down too.
MARGIN_DIVISOR = 4
#: Frames beyond this would meet a batch ring that has no slot for them.
LATEST_PHASE_PERIODS_NUMERATOR, LATEST_PHASE_PERIODS_DENOMINATOR = 3, 2
#: Each round lasts so long, after a while in which caches, clocks and queues settle.
ROUND_NS = 5 * NANOSECONDS_PER_SECOND
SETTLE_NS = NANOSECONDS_PER_SECOND
ROUNDS = 2
#: A camera's readiness counts from so many frames on; until one camera has them a round does not end.
LEAST_FRAMES = 20
#: Where cameras stay away for long, only the newest seconds count.
MOST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class PhaseChoice:
    """What one round has led to. Times in nanoseconds."""

    phase_ns: int
    needed_ns: int
    tick_ns: int
    period_ns: int
    frames: int
    too_slow: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def overlaps_capture(self) -> bool:
        """True when a tick that begins at the phase is not over when the cameras expose next."""
        return self.phase_ns + self.tick_ns > self.period_ns

    def to_dict(self) -> dict[str, float | int | bool | list[str]]:
        """For the status file, in milliseconds."""
        return {
            "phase_ms": _milliseconds(self.phase_ns),
            "needed_ms": _milliseconds(self.needed_ns),
            "tick_ms": _milliseconds(self.tick_ns),
            "frames": self.frames,
            "overlaps_capture": self.overlaps_capture,
            "too_slow": list(self.too_slow),
            "unseen": list(self.unseen),
        }


def choose_phase(slowest_ns: Sequence[int], frames: int, tick_ns: int, period_ns: int) -> PhaseChoice | None:
    """The phase for these slowest frames, one a second, of all `frames`; None while those are fewer than needed."""
    if not slowest_ns or frames < LEAST_FRAMES:
        return None
    needed_ns = statistics.median_high(slowest_ns)
    least_ns = needed_ns + LEAST_MARGIN_NS
    phase_ns = max(least_ns, needed_ns + needed_ns // MARGIN_DIVISOR)
    if least_ns <= period_ns - tick_ns < phase_ns:
        phase_ns = period_ns - tick_ns
    return PhaseChoice(min(phase_ns, latest_phase_ns(period_ns)), needed_ns, tick_ns, period_ns, frames)


def latest_phase_ns(period_ns: int) -> int:
    """No phase is later than this."""
    return period_ns * LATEST_PHASE_PERIODS_NUMERATOR // LATEST_PHASE_PERIODS_DENOMINATOR


class PhaseSearch:
    """Measures and chooses. `ready` from any thread, everything else from the tick's."""

    def __init__(self, cameras: Sequence[str], period_ns: int) -> None:
        """Without cameras there is nothing to wait for: the phase is half a period."""
        self._cameras = tuple(cameras)
        self._period_ns = period_ns
        self._round = 0
        self._began_ns: int | None = None
        self._second_began_ns = 0
        self._settled = False
        self.choices: list[PhaseChoice] = []
        self.phase_ns = period_ns if cameras else period_ns // 2
        self._readiness: dict[str, LatencyHistogram] = {}
        self._slowest_ns: dict[str, int] = {}
        self._forget()

    @property
    def is_measuring(self) -> bool:
        """True until the phase stands."""
        return bool(self._cameras) and self._round < ROUNDS

    def ready(self, camera: str, after_ns: int) -> None:
        """A frame stood ready this long after its instant, or was refused then because its tick had begun."""
        self._readiness[camera].record_ns(max(0, after_ns))
        self._slowest_ns[camera] = max(self._slowest_ns[camera], after_ns)

    def ticked(self, began_ns: int, result_ns: int) -> int | None:
        """A tick is over; the new phase, when a round has ended with it."""
        if not self.is_measuring:
            return None
        if self._began_ns is None:
            self._began_ns = self._second_began_ns = began_ns
        if not self._settled:
            if result_ns - self._began_ns >= SETTLE_NS:
                self._settled = True
                self._second_began_ns = result_ns
                self._forget()
            return None
        self._ticks.record_ns(result_ns - began_ns)
        if result_ns - self._second_began_ns >= NANOSECONDS_PER_SECOND:
            self._end_second(result_ns)
        if result_ns - self._began_ns < SETTLE_NS + ROUND_NS:
            return None
        return self._end_round()

    def again(self) -> int:
        """Measure anew, from the provisional phase on; returns it."""
        self._round = 0
        self._begin_round()
        self.choices.clear()
        self.phase_ns = self._period_ns if self._cameras else self._period_ns // 2
        return self.phase_ns

    def status(self) -> dict[str, Any]:
        """`{"state", "period_ms", "phase_ms", "rounds", "readiness_ms": {camera: quantiles}}`; see the head of file.

        Readiness is what is being measured, or what has been seen since the phase was chosen.
        """
        state = "measuring" if self.is_measuring else "chosen" if self._cameras else "no cameras"
        return {
            "state": state,
            "period_ms": _milliseconds(self._period_ns),
            "phase_ms": _milliseconds(self.phase_ns),
            "rounds": [choice.to_dict() for choice in self.choices],
            "readiness_ms": {camera: histogram.to_dict() for camera, histogram in self._readiness.items()},
        }

    def _end_second(self, now_ns: int) -> None:
        self._second_began_ns = now_ns
        slowest_ns, self._slowest_ns = self._slowest_ns, dict.fromkeys(self._cameras, 0)
        if any(slowest_ns.values()):
            self._seconds_ns.append(slowest_ns)

    def _is_too_slow(self, camera: str) -> bool:
        """Most of its frames are: one that only some are of is late under load, and is worth waiting for."""
        usual_ns = self._readiness[camera].quantile_ns(0.5)
        return usual_ns is not None and usual_ns > latest_phase_ns(self._period_ns)

    def _end_round(self) -> int | None:
        frames = sum(histogram.count for histogram in self._readiness.values())
        tick_ns = self._ticks.quantile_ns(TICK_QUANTILE) or 0
        too_slow = tuple(camera for camera in self._cameras if self._is_too_slow(camera))
        waited_for = [camera for camera in self._cameras if camera not in too_slow] or self._cameras
        slowest_ns = [max(second[camera] for camera in waited_for) for second in self._seconds_ns]
        choice = choose_phase([slow for slow in slowest_ns if slow > 0], frames, tick_ns, self._period_ns)
        if choice is None:
            return None  # no camera yet: go on measuring, at the provisional phase
        unseen = tuple(camera for camera, histogram in self._readiness.items() if not histogram.count)
        choice = replace(choice, too_slow=too_slow, unseen=unseen)
        self.choices.append(choice)
        self.phase_ns = choice.phase_ns
        self._round += 1
        self._begin_round()
        return self.phase_ns

    def _begin_round(self) -> None:
        self._began_ns = None
        self._settled = False
        self._forget()

    def _forget(self) -> None:
        """New ones rather than cleared ones: a camera's thread may be writing to the old."""
        self._readiness = {camera: LatencyHistogram() for camera in self._cameras}
        self._slowest_ns = dict.fromkeys(self._cameras, 0)
        self._seconds_ns: deque[dict[str, int]] = deque(maxlen=MOST_SECONDS)
        self._ticks = LatencyHistogram()


def fixed_phase(phase_ns: int, period_ns: int) -> dict[str, Any]:
    """The status of a phase that the configuration sets."""
    return {"state": "configured", "period_ms": _milliseconds(period_ns), "phase_ms": _milliseconds(phase_ns)}


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / NANOSECONDS_PER_MILLISECOND, 4)
