"""Who may ask for the interpreter's lock, and when.

CPython lets one thread compute at a time. A thread that wants the lock waits for the switch interval and then makes the
holder give it up. Both ends of that matter to the tick: while it waits to begin, or for the lock after its network has
run, a short interval makes others yield soon; while it computes its result, a short interval would make it yield to
eight cameras again and again. So the interval is short except from the network's end to the result. It is set for the
whole process (`sys.setswitchinterval`), which is meant: nobody else's wait is as urgent.

That alone does not keep the others away: NumPy and most calls of the system give the lock up by themselves, and whoever
waits for it then takes it, some fifty times a tick. So history, and cameras where they are threads of this process, ask
between two pieces of their work whether the tick computes (`give_way`), and sleep until its result is there.

The longer interval is still finite: NumPy gives the lock away in the middle of a tick, and the tick must get it back
from a thread that computes at length (the rules of a campaign being loaded).
"""

from __future__ import annotations

import sys
import threading

#: A tick waits no longer than this for a thread that computes; CPython's own is 5 ms. The rules of a campaign are
#: loaded beside the ticks: with 2,000 of them ticks then begin about half as late.
SHARED_INTERVAL_S = 0.001
#: While the tick computes its result.
HELD_INTERVAL_S = 0.005
#: No one waits longer for a tick's result: a tick that hangs must not take cameras and history along.
LONGEST_WAY_S = 0.05


class InterpreterLock:
    """`hold` and `share` are the tick's thread's, `give_way` is for all others."""

    def __init__(self, shared_s: float = SHARED_INTERVAL_S, held_s: float = HELD_INTERVAL_S) -> None:
        self._shared_s = shared_s
        self._held_s = held_s
        self._before_s = sys.getswitchinterval()
        self._is_shared = threading.Event()
        self._is_shared.set()

    def hold(self) -> None:
        """The tick computes: do not ask it to yield."""
        self._is_shared.clear()
        sys.setswitchinterval(self._held_s)

    def share(self) -> None:
        """The result is there, or the tick waits: whoever computes yields soon."""
        sys.setswitchinterval(self._shared_s)
        self._is_shared.set()

    def leave(self) -> None:
        """No more ticks come: the process has its own interval again."""
        sys.setswitchinterval(self._before_s)
        self._is_shared.set()

    def give_way(self) -> None:
        """Between two pieces of work: wait while the tick computes its result, at most `LONGEST_WAY_S`."""
        if not self._is_shared.is_set():
            self._is_shared.wait(LONGEST_WAY_S)
