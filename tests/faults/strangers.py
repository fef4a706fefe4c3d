"""Those who try to get in, or to speak as somebody else: sockets of a test's own against a receiver process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import zmq

from runtime.uplink.keys import KeyPair, enroll, load_keys, load_public_key, new_keys, pin_receiver
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.wire import PROTOCOL_VERSION, Hello, encode

REFUSAL_WAIT_MS = 700
ANSWER_WAIT_MS = 5000
HELLO = [encode(Hello(PROTOCOL_VERSION, "test")), b""]


def with_unknown_key(context: zmq.Context, receiver_key: bytes) -> zmq.Socket:
    """Speaks CURVE to the right receiver with a key that nobody enrolled."""
    return vehicle_socket(context, KeyPair(*zmq.curve_keypair()), receiver_key)


def without_key(context: zmq.Context, receiver_key: bytes) -> zmq.Socket:
    """No encryption at all."""
    return context.socket(zmq.DEALER)


def with_password(context: zmq.Context, receiver_key: bytes) -> zmq.Socket:
    """PLAIN where CURVE is spoken."""
    socket = context.socket(zmq.DEALER)
    socket.plain_username, socket.plain_password = b"admin", b"admin"
    return socket


STRANGERS = (with_unknown_key, without_key, with_password)


@contextmanager
def connected(address: str, keys: KeyPair, receiver_key: bytes) -> Iterator[zmq.Socket]:
    """A connection with a key of one's own."""
    with zmq.Context() as context:
        socket = vehicle_socket(context, keys, receiver_key)
        try:
            socket.connect(address)
            yield socket
        finally:
            socket.close(0)


def ask(socket: zmq.Socket, frames: list[bytes], wait_ms: int = ANSWER_WAIT_MS) -> dict[str, Any] | None:
    """The header of the answer; None when there is none."""
    if not socket.poll(wait_ms, zmq.POLLOUT):
        return None
    try:
        socket.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        return None
    if not socket.poll(wait_ms):
        return None
    header: dict[str, Any] = msgpack.unpackb(socket.recv_multipart()[0])
    return header


def strangers_let_in(address: str, receiver_key: bytes) -> list[str]:
    """Which of all strangers were answered by a receiver."""
    with zmq.Context() as context:
        sockets = {stranger.__name__: stranger(context, receiver_key) for stranger in STRANGERS}
        for socket in sockets.values():
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
        deadline_s = time.monotonic() + REFUSAL_WAIT_MS / 1000
        unheard, answered = dict(sockets), []
        while time.monotonic() < deadline_s:
            unheard = {name: socket for name, socket in unheard.items() if not say_hello(socket)}
            answered += [name for name, socket in sockets.items() if socket.poll(20)]
        for socket in sockets.values():
            socket.close(0)
    return sorted(set(answered))


def say_hello(socket: zmq.Socket) -> bool:
    """False while there is no connection to say it over."""
    try:
        socket.send_multipart(HELLO, zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True


def enrolled(receiver_keys: Path, directory: Path, name: str) -> tuple[KeyPair, bytes]:
    """Keys of one more vehicle, enrolled, and the receiver's public key."""
    keys = new_keys(directory, "vehicle")
    enroll(receiver_keys, name, keys.public)
    receiver_key = load_public_key(receiver_keys / "receiver.public")
    pin_receiver(directory, receiver_key)
    return keys, receiver_key


def own_keys(vehicle_keys: Path) -> KeyPair:
    """The bench's own vehicle."""
    return load_keys(vehicle_keys, "vehicle")
