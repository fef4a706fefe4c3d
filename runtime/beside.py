"""Runs one piece of work beside the tick's thread while that waits for the network.

The network's run holds no Python lock for most of a tick, so that another thread can compute meanwhile what does not
depend on it. `Thread` hands each piece to one thread of its own. If that has not begun when the result is wanted (all
cores are busy), the tick's thread takes the piece back and does it itself: it waits only for work that is under way.
`Inline` does the work at once, and is for one core, and for tests.

The thread starts with the first piece, so that it inherits the priority and the processors of the tick's thread.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")


class Beside(Protocol):
    """Whoever does such work."""

    def begin(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Have `work` done; what is returned gives its result, or raises what it raised, as often as it is asked.

        One piece at a time.
        """

    def close(self) -> None:
        """No more work comes."""


class Inline:
    """Does it at once."""

    def begin(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """See `Beside`."""
        result = work()
        return lambda: result

    def close(self) -> None:
        """Nothing is held."""


class _Piece(Generic[Result]):
    """One piece of work: done by whoever claims it first."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._claim = threading.Lock()
        self._done = threading.Event()
        self._result: Result | None = None
        self._error: BaseException | None = None

    def run_if_free(self) -> bool:
        """Do it, unless another thread does or did; True when this call did it."""
        if not self._claim.acquire(blocking=False):
            return False
        try:
            self._result = self._work()
        except BaseException as error:  # told to the thread that wants the result
            self._error = error
        finally:
            self._done.set()
        return True

    def result(self) -> Result:
        """Of the work, once it is done."""
        if not self.run_if_free():
            self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # it is what the work returned


class Thread:
    """Does it on a thread of its own."""

    def __init__(self, name: str = "beside") -> None:
        self._name = name
        self._pieces: queue.SimpleQueue[_Piece[object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """See `Beside`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        piece: _Piece[Result] = _Piece(work)
        self._pieces.put(piece)  # type: ignore[arg-type]  # the queue does not read results
        return piece.result

    def close(self) -> None:
        """End the thread; a later piece would start another one."""
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join(1.0)
            self._thread = None

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            piece.run_if_free()


def beside_the_network() -> Beside:
    """A thread where there is a processor for it, else none."""
    return Thread() if len(os.sched_getaffinity(0)) > 1 else Inline()
