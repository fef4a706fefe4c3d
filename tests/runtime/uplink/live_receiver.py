"""A receiver in a thread, and a vehicle's socket that says what a test likes, for the tests over real connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from runtime.clock import SystemClock
from runtime.uplink.keys import EnrolledVehicles, load_keys
from runtime.uplink.limits import VehicleLimits
from runtime.uplink.receiver import Receiver, ReceiverSettings
from runtime.uplink.wire import FROM_RECEIVER, PROTOCOL_VERSION, Hello, decode, encode

VEHICLE = "car-1"
PATIENCE_S = 10.0
REFUSAL_WAIT_MS = 700
HELLO = [encode(Hello(PROTOCOL_VERSION, "test")), b""]


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.01)


class CalledVerifier:
    """A verifier that is a function of the clip's path."""

    def __init__(self, problems_of: Callable[[Path], list[str]]) -> None:
        self._problems_of = problems_of

    def problems_of(self, path: Path, stop: threading.Event) -> list[str]:
        return self._problems_of(path)

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass


class RunningReceiver:
    """A receiver in a thread, with the figures it last published and the error it ended with."""

    def __init__(self, directory: Path, keys: Path, verifier=None, pulls=None, limits=None, places=None) -> None:
        settings = ReceiverSettings(
            "tcp://127.0.0.1:*", directory, keys, reload_s=0.1, vehicle_limits=limits or VehicleLimits(), places=places
        )
        bound = threading.Event()
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.figures: dict = {}
        self.own = load_keys(keys, "receiver")
        self.receiver = Receiver(
            settings,
            self.own,
            EnrolledVehicles(keys),
            SystemClock(),
            self.figures.update,
            verifier,
            lambda address: bound.set(),
            pulls=pulls,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert bound.wait(PATIENCE_S), self.error
        self.address = self.receiver.address

    def _run(self) -> None:
        try:
            self.receiver.run(self.stop)
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.stop.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


def ask(socket, frames: list[bytes], timeout_ms: int = 5000):
    """Send, and return the decoded answer; None when there is none."""
    if not socket.poll(timeout_ms, zmq.POLLOUT):
        return None
    socket.send_multipart(frames)
    return heard(socket, timeout_ms)


def heard(socket, timeout_ms: int = 5000):
    """The next message of the receiver; None when there is none."""
    if not socket.poll(timeout_ms):
        return None
    return decode(socket.recv_multipart(), FROM_RECEIVER)[0]
