"""A relay between vehicle and receiver that understands messages: it loses, repeats, reorders and damages them.

    vehicle --CURVE--> MessageRelay (holds both ends' secret keys) --CURVE--> receiver

The encryption lets nobody in between touch a message, so this one is no attacker: it stands for a process or a library
that fails at either end. `Meddler`s see every message, oldest connection first, and say what goes on instead of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack
import zmq

from runtime.uplink.keys import load_keys
from runtime.uplink.sockets import set_limits, vehicle_socket

POLL_MS = 20
Frames = list[bytes]


@dataclass(frozen=True, slots=True)
class Passing:
    """A message on its way. `kind` is its type; `is_upward`: from the vehicle."""

    kind: str
    is_upward: bool
    frames: Frames


#: What goes on instead of a message: nothing, the same, several, something else.
Meddler = Callable[[Passing], Sequence[Frames]]


class MessageRelay:
    """A context manager. `address` is where the vehicle connects; `record` has what arrived, `count()` how much."""

    def __init__(self, server: str, vehicle_keys: Path, receiver_keys: Path, meddler: Meddler) -> None:
        self.address = ""
        self.record: list[Passing] = []
        self._server = server
        self._vehicle = load_keys(vehicle_keys, "vehicle")
        self._receiver = load_keys(receiver_keys, "receiver")
        self._meddler = meddler
        self._bound = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="message relay", daemon=True)

    def __enter__(self) -> MessageRelay:
        self._thread.start()
        assert self._bound.wait(10.0)
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def count(self, kind: str) -> int:
        """How many messages of a type came to the relay."""
        return sum(passing.kind == kind for passing in self.record)

    def _run(self) -> None:
        with zmq.Context() as context:
            near = context.socket(zmq.ROUTER)
            set_limits(near)
            near.setsockopt(zmq.CURVE_SERVER, 1)
            near.setsockopt(zmq.CURVE_PUBLICKEY, self._receiver.public)
            near.setsockopt(zmq.CURVE_SECRETKEY, self._receiver.secret)
            near.setsockopt(zmq.RCVHWM, 1000)
            near.setsockopt(zmq.SNDHWM, 1000)
            port = near.bind_to_random_port("tcp://127.0.0.1")
            self.address = f"tcp://127.0.0.1:{port}"
            self._bound.set()
            try:
                self._relay(context, near)
            finally:
                context.destroy(linger=0)

    def _relay(self, context: zmq.Context, near: zmq.Socket) -> None:
        far: dict[bytes, zmq.Socket] = {}  # routing id of the vehicle's connection -> our connection for it
        poller = zmq.Poller()
        poller.register(near, zmq.POLLIN)
        while not self._ended.is_set():
            ready = dict(poller.poll(POLL_MS))
            if near in ready:
                route, *frames = near.recv_multipart()
                if route not in far:
                    for left in far.values():  # the vehicle has left it: kept, it would come back silently when cut
                        poller.unregister(left)
                        left.close(0)
                    far = {}
                    far[route] = self._connected(context)
                    poller.register(far[route], zmq.POLLIN)
                for each in self._changed(frames, is_upward=True):
                    far[route].send_multipart(each)
            for route, socket in far.items():
                if socket in ready:
                    for each in self._changed(socket.recv_multipart(), is_upward=False):
                        near.send_multipart([route, *each])

    def _connected(self, context: zmq.Context) -> zmq.Socket:
        socket = vehicle_socket(context, self._vehicle, self._receiver.public)
        socket.setsockopt(zmq.IMMEDIATE, 0)
        socket.setsockopt(zmq.SNDHWM, 1000)
        socket.connect(self._server)
        return socket

    def _changed(self, frames: Frames, is_upward: bool) -> Sequence[Frames]:
        passing = Passing(str(msgpack.unpackb(frames[0]).get("type")), is_upward, frames)
        self.record.append(passing)
        return self._meddler(passing)


def lose(kind: str, times: int = 1) -> Meddler:
    """The first `times` messages of a type never arrive."""
    left = [times]

    def meddle(passing: Passing) -> Sequence[Frames]:
        if passing.kind == kind and left[0] > 0:
            left[0] -= 1
            return []
        return [passing.frames]

    return meddle


def repeat(kinds: Sequence[str], times: int = 2) -> Meddler:
    """Messages of these types arrive `times` times."""

    def meddle(passing: Passing) -> Sequence[Frames]:
        return [passing.frames] * (times if passing.kind in kinds else 1)

    return meddle


def reorder(kind: str, depth: int) -> Meddler:
    """Messages of a type are held back until `depth` of them have come, or another type does; then newest first."""
    held: list[Frames] = []

    def meddle(passing: Passing) -> Sequence[Frames]:
        if passing.kind == kind:
            held.append(passing.frames)
            if len(held) < depth:
                return []
        elif not passing.is_upward:
            return [passing.frames]
        out = list(reversed(held))
        held.clear()
        return out if passing.kind == kind else [*out, passing.frames]

    return meddle


def damage(kind: str, change: Callable[[Frames], Frames], times: int = 1) -> Meddler:
    """The first `times` messages of a type arrive changed."""
    left = [times]

    def meddle(passing: Passing) -> Sequence[Frames]:
        if passing.kind == kind and left[0] > 0:
            left[0] -= 1
            return [change(passing.frames)]
        return [passing.frames]

    return meddle
