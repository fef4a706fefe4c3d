"""A thread beside the receiver's loop, whose death the loop hears of.

What such a thread expects to go wrong it counts and tries again. Anything else ends it, and then the receiver ends as
well, to be started again: one that only seems to verify and to tidy is worse than none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from runtime.messages import NANOSECONDS_PER_SECOND


class ThreadDeathError(RuntimeError):
    """A thread of the receiver has ended with an error that nobody foresaw."""


class BesideThread:
    """Runs `work(stop)` until `stop` is set."""

    def __init__(self, name: str, work: Callable[[threading.Event], None]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def end(self, timeout_s: float | None = None) -> None:
        """Stop, and wait for what is under way, that long at most; what hangs is left behind."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def raise_if_dead(self) -> None:
        """Raise ThreadDeathError when it has ended with an error."""
        if self._failure is not None:
            raise ThreadDeathError(f"the {self._thread.name} has died: {self._failure!r}") from self._failure

    def _run(self) -> None:
        try:
            self._work(self._stop)
        except BaseException as failure:  # kept for the receiver's loop, which raises it
            self._failure = failure


class Heartbeat:
    """Tells whether a thread that has to turn again and again still does: `beat` is its own, the rest the watcher's."""

    def __init__(self) -> None:
        self._beaten = threading.Event()
        self._seen_ns: int | None = None

    def beat(self) -> None:
        """The thread has come round."""
        self._beaten.set()

    def quiet_s(self, now_ns: int, limit_s: float, grace_s: float) -> float:
        """Seconds (of the monotonic `now_ns`) without a beat, 0 while they are no more than `limit_s`.

        Before it is said the thread gets `grace_s` to show that it lives: the whole process may have been paused.
        """
        if self._seen_ns is None or self._beaten.is_set():
            self._beaten.clear()
            self._seen_ns = now_ns
        quiet_s = (now_ns - self._seen_ns) / NANOSECONDS_PER_SECOND
        return quiet_s if quiet_s > limit_s and not self._beaten.wait(grace_s) else 0.0
