"""The seam between signal sources and the table: one protocol, and the thread that every source runs on.

A source delivers samples to the function it is started with, from a thread of its own, in the order in which it
receives them, until it is stopped. A source that loses its bus or its sender tries again with bounded pauses; nothing
it receives can end the runtime, and what it cannot use is counted.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from runtime.backoff import Backoff
from runtime.messages import SignalSample

Offer = Callable[[SignalSample], object]

#: A blocking receive returns at least so often, to see whether it should stop.
RECEIVE_TIMEOUT_S = 0.2


class SignalSourceError(OSError):
    """A source cannot be opened or broke off; the message says which, why, and what to do."""


@dataclass(slots=True)
class SignalSourceStatus:
    """How one source fares."""

    name: str
    state: str = "idle"  # idle, connecting, running, ended, failed, stopped
    samples: int = 0
    malformed: int = 0  # messages that could not be used
    reconnects: int = 0
    error: str = ""


class SignalSource(Protocol):
    """Where signals come from."""

    def start(self, offer: Offer) -> None:
        """Begin to deliver samples. Never blocks, and never raises for a bus that is not there yet."""

    def stop(self) -> None:
        """End; when this returns no further sample is delivered."""

    def status(self) -> SignalSourceStatus:
        """A copy of the source's counters and state."""


class SourceThread(ABC):
    """A source on its own thread: subclasses say how to receive, this class when, and what after an error."""

    def __init__(self, name: str) -> None:
        self._status = SignalSourceStatus(name)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._offer: Offer | None = None

    @abstractmethod
    def _receive(self) -> None:
        """Open, deliver until `_stopping` is set or the source is over, and close. Raises SignalSourceError."""

    def start(self, offer: Offer) -> None:
        if self._thread is not None:
            raise RuntimeError(f"signal source {self._status.name} has been started before")
        self._offer = offer
        self._thread = threading.Thread(target=self._run, name=f"signals-{self._status.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._status.state not in ("ended", "failed"):
            self._status.state = "stopped"

    def status(self) -> SignalSourceStatus:
        return replace(self._status)

    def _deliver(self, sample: SignalSample) -> None:
        assert self._offer is not None
        self._status.samples += 1
        self._offer(sample)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            samples_before = self._status.samples
            self._status.state = "connecting"
            try:
                self._receive()
                self._status.state = "ended"
                return
            except SignalSourceError as error:
                self._status.error = str(error)
                self._status.reconnects += 1
            except Exception as error:  # the last line of defence: a source must not take the runtime along
                self._status.error = f"{type(error).__name__}: {error}"
                self._status.state = "failed"
                return
            if self._status.samples > samples_before:
                backoff.reset()
            self._stopping.wait(backoff.next_s())
