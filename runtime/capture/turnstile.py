"""Lets few cameras work at once: one processor is left to the tick, and as many cameras as there are others may work.

Eight cameras expose at the same moment, so eight threads would begin to decode together. On two cores that is no
faster, and each asks for the interpreter's lock some dozens of times a frame: with eight of them asking, most of these
times end in a change of threads. In turns, a frame finds its decoder's memory in the cache and the lock free. (Eight
cameras of 1280x960 on two cores: 2.0 ms of processor time a frame instead of 2.5, and ticks wait far less.)

A place is waited for at most `LONGEST_WAIT_S`: a camera whose decoder hangs delays the others once, and never stops
them.
"""

from __future__ import annotations

import os
import queue
from types import TracebackType

LONGEST_WAIT_S = 0.25


class Turnstile:
    """`with turnstile:` around the work on one frame. For any number of threads."""

    def __init__(self, places: int) -> None:
        """ValueError for less than one place."""
        if places < 1:
            raise ValueError(f"a turnstile has 1 place or more, not {places}")
        # A queue of C: a thread that finds a place free does not even let go of the interpreter's lock.
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(places):
            self._places.put(None)
        self._places_count = places
        #: Turns that began without a place, because none became free in time.
        self.unwaited = 0

    def __enter__(self) -> None:
        try:
            self._places.get(timeout=LONGEST_WAIT_S)
        except queue.Empty:
            self.unwaited += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._places.qsize() < self._places_count:  # never more places than there were, whoever hung and came back
            self._places.put(None)


def places_here() -> int:
    """One for each processor that this process may use, but one."""
    return max(1, len(os.sched_getaffinity(0)) - 1)
