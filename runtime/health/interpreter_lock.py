"""Who may ask for the interpreter's lock, and when.

CPython lets one thread compute at a time. A thread that wants the lock waits for the switch interval and then makes the
holder give it up. Both ends of that matter to the tick: while it waits to begin, or for the lock after its network has
run, a short interval makes others yield soon; while it computes its result, a short interval would make it yield to
eight cameras again and again. So the interval is short except from the network's end to the result. It is set for the
whole process (`sys.setswitchinterval`), which is meant: nobody else's wait is as urgent.

The longer interval is still finite: NumPy gives the lock away in the middle of a tick, and the tick must get it back
from a thread that computes at length (the rules of a campaign being loaded).
"""

from __future__ import annotations

import sys

#: A tick waits no longer than this for a thread that computes; CPython's own is 5 ms. The rules of a campaign are
#: loaded beside the ticks: with 2,000 of them ticks then begin about half as late.
SHARED_INTERVAL_S = 0.001
#: While the tick computes its result.
HELD_INTERVAL_S = 0.005


class InterpreterLock:
    """Used by the tick's thread."""

    def __init__(self, shared_s: float = SHARED_INTERVAL_S, held_s: float = HELD_INTERVAL_S) -> None:
        self._shared_s = shared_s
        self._held_s = held_s
        self._before_s = sys.getswitchinterval()

    def hold(self) -> None:
        """The tick computes: do not ask it to yield."""
        sys.setswitchinterval(self._held_s)

    def share(self) -> None:
        """The result is there, or the tick waits: whoever computes yields soon."""
        sys.setswitchinterval(self._shared_s)

    def leave(self) -> None:
        """No more ticks come: the process has its own interval again."""
        sys.setswitchinterval(self._before_s)
