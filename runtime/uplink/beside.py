"""A thread beside the receiver's loop, whose death the loop hears of.

What such a thread expects to go wrong it counts and tries again. Anything else ends it, and then the receiver ends as
well, to be started again: one that only seems to verify and to tidy is worse than none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


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

    def end(self) -> None:
        """Stop, and wait for what is under way."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def raise_if_dead(self) -> None:
        """Raise ThreadDeathError when it has ended with an error."""
        if self._failure is not None:
            raise ThreadDeathError(f"the {self._thread.name} has died: {self._failure!r}") from self._failure

    def _run(self) -> None:
        try:
            self._work(self._stop)
        except BaseException as failure:  # kept for the receiver's loop, which raises it
            self._failure = failure
