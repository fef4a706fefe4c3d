"""The receiver's connections as the kernel sees them, and the power to cut one.

libzmq has no way to close one peer's connection, so a revoked vehicle would keep its place, an enrolled but hostile
one could hold thousands, and one that sends frame after frame of a message without end would fill the memory. libzmq
has no limit for that: ZMQ_MAXMSGSIZE is for one frame, ZMQ_RCVHWM counts messages, a frame with more to come moves
neither count (pipe.cpp: `check_write` looks at messages written, `write` adds one at a message's last frame), and there
is no option for frames a message; only the draft types without multipart (ZMQ_SERVER) have none, and no wheel has
those. So unfinished frames are kept, and never shown. What libzmq does tell is the descriptor a message came from
(ZMQ_SRCFD) and when one is accepted and closed (the monitor). `shutdown` on that descriptor ends the connection for
libzmq as if the peer had, and frees what it had kept.
`connection_guard` looks. What one key has sent over all its connections, each since its last message that was taken,
may therefore be `unfinished_bytes` (as a message without end, or as whole ones of a million frames: `incoming`) and
what its links carry in the guard's period; on a connection that has never said anything, SILENT_LIMIT_BYTES: before its
first message nobody knows whose it is, and how many of those one key may have is counted at the door (`handshakes`).

A descriptor is a number that is used again: a connection is known by descriptor *and* peer address, and both are
compared before anything is cut. How much a connection has received since its last whole message is the kernel's count
(TCP_INFO, tcpi_bytes_received, Linux 4.1); where it is not given, that check is off and the others stay.
"""

from __future__ import annotations

import resource
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from runtime.messages import NANOSECONDS_PER_SECOND

#: What an honest vehicle may have on its way besides a credit of chunks: their headers and encryption, offers, notices,
#: chunks of a clip that it has just let go of. More than that, though queues and kernel would hold it, is not honest.
UNFINISHED_BESIDE_CREDIT_BYTES = 8 << 20
#: Its first message is HELLO, and it waits for the answer to that.
SILENT_LIMIT_BYTES = 1 << 20
#: A vehicle says HELLO at once.
SILENCE_LIMIT_S = 30.0
CONNECTIONS_A_VEHICLE = 8
MOST_OPEN_FILES = 1 << 17
TCP_INFO_BYTES = 256
BYTES_RECEIVED_OFFSET = 128

Peer = tuple[object, ...]
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Connection:
    """One accepted connection; `vehicle` and `key` are empty until its first message."""

    descriptor: int
    peer: Peer
    since_ns: int
    vehicle: str = ""
    key: str = ""
    messages: int = 0
    checked_messages: int = -1
    received_at_check: int = 0


class ConnectionTable:
    """What is connected. Used by the receiver's loop and the guard. `on_first_word` is told the key that spoke."""

    def __init__(
        self,
        unfinished_bytes: int = UNFINISHED_BESIDE_CREDIT_BYTES,
        per_vehicle: int = CONNECTIONS_A_VEHICLE,
        on_first_word: Callable[[str], None] = lambda key: None,
    ) -> None:
        self.cut: Counter[str] = Counter()
        self._unfinished_bytes = unfinished_bytes
        self._per_vehicle = per_vehicle
        self._on_first_word = on_first_word
        self._by_descriptor: dict[int, Connection] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._by_descriptor)

    def accepted(self, descriptor: int, now_ns: int) -> None:
        """libzmq accepted a connection; its first message may have come before this news."""
        peer = peer_of(descriptor)
        with self._lock:
            known = self._by_descriptor.get(descriptor)
            if peer is not None and (known is None or known.peer != peer):
                self._by_descriptor[descriptor] = Connection(descriptor, peer, now_ns)

    def closed(self, descriptor: int) -> None:
        """libzmq let go of a connection; the news may be older than the one that has its number now."""
        with self._lock:
            known = self._by_descriptor.get(descriptor)
            if known is not None and peer_of(descriptor) != known.peer:
                del self._by_descriptor[descriptor]

    def spoke(self, descriptor: int, vehicle: str, key: str, now_ns: int) -> None:
        """A whole message came from there; `vehicle` is "" when its key is enrolled no more, which cuts it."""
        with self._lock:
            connection = self._known(descriptor, key, now_ns)
            if connection is None:
                return
            connection.messages += 1
            is_first = connection.key != key
            connection.vehicle, connection.key = vehicle, key
            if is_first:
                self._on_first_word(key)
            if not vehicle:  # nobody: no others are its own
                self.cut_where("key no longer enrolled", lambda each: each is connection)
            elif is_first:
                self._cut_surplus(vehicle)

    def _known(self, descriptor: int, key: str, now_ns: int) -> Connection | None:
        """The connection that speaks, under its own name: the number may be used again. None: gone since."""
        known = self._by_descriptor.get(descriptor)
        if known is None or (known.key and known.key != key) or peer_of(descriptor) not in (None, known.peer):
            self._by_descriptor.pop(descriptor, None)
            self.accepted(descriptor, now_ns)
        return self._by_descriptor.get(descriptor)

    def cut_where(self, reason: str, condition: Callable[[Connection], bool]) -> int:
        """End every connection that the condition holds for; how many."""
        with self._lock:
            doomed = [connection for connection in self._by_descriptor.values() if condition(connection)]
            for connection in doomed:
                del self._by_descriptor[connection.descriptor]
                if peer_of(connection.descriptor) == connection.peer:
                    _with_socket(connection.descriptor, lambda live: live.shutdown(socket.SHUT_RDWR))
                    self.cut[reason] += 1
        return len(doomed)

    def cut_silent(self, now_ns: int) -> None:
        """End connections that never said anything; the loop's to say, which alone knows what they said."""
        oldest_ns = now_ns - int(SILENCE_LIMIT_S * NANOSECONDS_PER_SECOND)
        self.cut_where("silent", lambda connection: not connection.messages and connection.since_ns < oldest_ns)

    def cut_endless(self) -> None:
        """End connections in the middle of a message that does not end, and the others of the key that sends it."""
        with self._lock:
            looked_at = list(self._by_descriptor.values())
        unfinished = [(connection, _unfinished_bytes(connection)) for connection in looked_at]  # a system call for each
        of_key: Counter[str] = Counter()
        for connection, size_bytes in unfinished:
            of_key[connection.key] += size_bytes
        endless = {
            id(connection)
            for connection, size_bytes in unfinished
            if (of_key[connection.key] > self._unfinished_bytes if connection.key else size_bytes > SILENT_LIMIT_BYTES)
        }
        if endless:
            self.cut_where("endless message", lambda connection: id(connection) in endless)

    def _cut_surplus(self, vehicle: str) -> None:
        own = [connection for connection in self._by_descriptor.values() if connection.vehicle == vehicle]
        surplus = sorted(own, key=lambda connection: connection.since_ns)[: max(0, len(own) - self._per_vehicle)]
        descriptors = {connection.descriptor for connection in surplus}
        if descriptors:
            self.cut_where("too many of one vehicle", lambda connection: connection.descriptor in descriptors)


def _unfinished_bytes(connection: Connection) -> int:
    """What it has received since its last message that was taken, or since the look that followed."""
    received = received_bytes(connection.descriptor)
    if received is None:
        return 0
    if connection.messages != connection.checked_messages or received < connection.received_at_check:
        connection.checked_messages = connection.messages
        connection.received_at_check = received if connection.messages else 0
    return received - connection.received_at_check


def allow_many_connections() -> None:
    """Raise this process's limit of open files as far as it may go: each vehicle takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def peer_of(descriptor: int) -> Peer | None:
    """The peer's address of a connected socket, None when there is none (any more)."""
    return _with_socket(descriptor, lambda live: tuple(live.getpeername()))


def received_bytes(descriptor: int) -> int | None:
    """What the kernel has received on a TCP connection since it began; None when it does not say."""
    info = _with_socket(
        descriptor, lambda live: live.getsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_INFO", 11), TCP_INFO_BYTES)
    )
    if info is None or len(info) < BYTES_RECEIVED_OFFSET + 8:
        return None
    return int(struct.unpack_from("Q", info, BYTES_RECEIVED_OFFSET)[0])


def _with_socket(descriptor: int, ask: Callable[[socket.socket], Answer]) -> Answer | None:
    """Ask something of libzmq's descriptor without owning it."""
    try:
        live = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)
    except OSError:
        return None
    try:
        return ask(live)
    except OSError:
        return None
    finally:
        live.detach()
