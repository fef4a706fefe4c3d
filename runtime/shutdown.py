"""How a process learns that it shall leave."""

from __future__ import annotations

import signal
import threading


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM, SIGHUP and SIGINT set.

    A second SIGINT acts as usual: whoever presses Ctrl-C again means it. The others may come twice without anybody
    meaning more (once to the process, once to its group), and a clean end must survive that.
    """
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        stop.set()
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, handle)
    return stop
