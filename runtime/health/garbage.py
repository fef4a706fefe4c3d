"""Garbage collection that waits for slack.

Python's collector stops every thread at a moment of its own choosing. The tick cannot have that: after warm-up the
objects of start-up are frozen (they are never examined again), the collector is switched off, and the tick offers it
the slack that is left before the next beat. A generation is collected when its turn has come and its longest run so
far, with a safety factor, fits into the slack. When slack never suffices, memory wins: beyond `MAX_YOUNG_OBJECTS`
new objects the youngest generation is collected at once, and counted as forced.

The cameras' process has no slack to offer, its threads compute whenever frames come: it offers a fixed allowance.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

MAX_YOUNG_OBJECTS = 50_000
_SAFETY = 2.0
_FIRST_GUESS_NS = 1_000_000
#: A generation is due after this many offers; beats come some 20 times a second.
_DUE_AFTER_OFFERS = (20, 200, 2000)


class SlackCollector:
    """Owns the collector of this process between `start` and `stop`. `clock_ns` measures how long runs take."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._longest_ns = [_FIRST_GUESS_NS] * len(_DUE_AFTER_OFFERS)
        self._offers_since = [0] * len(_DUE_AFTER_OFFERS)
        self.collections = 0
        self.forced = 0

    def start(self) -> None:
        """Collect once, freeze what start-up has made and switch automatic collection off."""
        gc.collect()
        gc.freeze()
        gc.disable()

    def stop(self) -> None:
        """Give the collector back to Python."""
        gc.unfreeze()
        gc.enable()

    def offer(self, slack_ns: int) -> int | None:
        """Use up to `slack_ns` of idle time; returns the generation that was collected, if any."""
        for generation in range(len(self._offers_since)):
            self._offers_since[generation] += 1
        for generation in reversed(range(len(_DUE_AFTER_OFFERS))):
            is_due = self._offers_since[generation] >= _DUE_AFTER_OFFERS[generation]
            if is_due and self._longest_ns[generation] * _SAFETY <= slack_ns:
                self._collect(generation)
                return generation
        if gc.get_count()[0] > MAX_YOUNG_OBJECTS:
            self.forced += 1
            self._collect(0)
            return 0
        return None

    def _collect(self, generation: int) -> None:
        began_ns = self._clock_ns()
        gc.collect(generation)
        took_ns = self._clock_ns() - began_ns
        self._longest_ns[generation] = max(took_ns, round(self._longest_ns[generation] * 0.9))
        for younger in range(generation + 1):
            self._offers_since[younger] = 0
        self.collections += 1
