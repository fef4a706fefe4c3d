"""A bad link on loopback: a TCP relay between a vehicle and a receiver that does what mobile networks do.

    vehicle --TCP--> ImpairedLink(conditions) --TCP--> receiver

It stands above TCP, so it cannot drop a packet; it does what a dropped packet does to those who speak TCP: the bytes
behind it wait for the retransmission. `Conditions.loss` is the chance of that for each segment of 1,448 bytes; each
further loss of the same segment doubles the wait (RFC 6298), and nothing overtakes it: that is TCP with its window
shrunk to one segment, the worst case of a lossy path. Delay, bandwidth and the link's own buffer are those of a wire:
bytes leave it in order, `delay_s` after they were sent, at `bytes_per_s` at most, and a full buffer stops the sender.

What happens at one moment is a method: `black_hole` (nothing passes, nothing closes, new connections are accepted and
hang), `heal`, `reset` (both ends get RST), `leave_half_open` (the receiver's end is gone, the vehicle's is not told),
`flip_bit` (one bit of what the vehicle sends next). One thread, bounded buffers, randomness handed in.
"""

from __future__ import annotations

import random
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field

SEGMENT_BYTES = 1448
READ_BYTES = 64 * 1024
MAX_LOSSES_OF_ONE_SEGMENT = 6
LONGEST_WAIT_S = 0.05
CONNECT_TIMEOUT_S = 5.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Conditions:
    """How bad the link is, each way. `loss` is a probability for each segment; no `bytes_per_s`: as fast as it goes."""

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    loss: float = 0.0
    retransmission_s: float = 0.2
    buffer_bytes: int = 256 * 1024


@dataclass(slots=True)
class Way:
    """One direction of one connection: bytes on the wire, and when each of them comes out."""

    source: socket.socket
    target: socket.socket
    is_upward: bool
    wire: deque[tuple[float, bytes]] = field(default_factory=deque)
    held_bytes: int = 0
    free_s: float = 0.0  # when the line has taken the last byte
    released_s: float = 0.0  # when the last byte comes out
    is_ended: bool = False  # the source will send no more

    def put(self, data: bytes, now_s: float, conditions: Conditions, rng: random.Random) -> None:
        """Bytes enter the wire."""
        for start in range(0, len(data), SEGMENT_BYTES):
            segment = data[start : start + SEGMENT_BYTES]
            self.free_s = max(self.free_s, now_s)
            if conditions.bytes_per_s is not None:
                self.free_s += len(segment) / conditions.bytes_per_s
            out_s = max(self.released_s, self.free_s + conditions.delay_s)
            self.released_s = out_s + stall_s(conditions, rng)
            self.wire.append((self.released_s, segment))
        self.held_bytes += len(data)

    def take(self, now_s: float) -> bytes:
        """What has come out of the wire by now, at most READ_BYTES."""
        out = []
        taken = 0
        while self.wire and self.wire[0][0] <= now_s and taken < READ_BYTES:
            out.append(self.wire.popleft()[1])
            taken += len(out[-1])
        self.held_bytes -= taken
        return b"".join(out)

    def put_back(self, data: bytes, now_s: float) -> None:
        """The other end had no room for these: they stand at the wire's end."""
        if data:
            self.wire.appendleft((now_s, data))
            self.held_bytes += len(data)


def stall_s(conditions: Conditions, rng: random.Random) -> float:
    """How long one segment waits for its retransmissions."""
    total_s, wait_s = 0.0, conditions.retransmission_s
    for _ in range(MAX_LOSSES_OF_ONE_SEGMENT):
        if rng.random() >= conditions.loss:
            break
        total_s, wait_s = total_s + wait_s, 2 * wait_s
    return total_s


class ImpairedLink:
    """A listening relay on 127.0.0.1; a context manager. Conditions may be changed while it runs."""

    def __init__(self, target_port: int, conditions: Conditions | None = None, seed: int = 0) -> None:
        self.conditions = conditions or Conditions()
        self.connections = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._target = ("127.0.0.1", target_port)
        self._rng = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._ways: list[Way] = []
        self._lock = threading.RLock()
        self._stopped: set[bool] = set()  # directions (is_upward) in which nothing passes
        self._half_open: list[socket.socket] = []
        self._flip_at: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="impaired link", daemon=True)

    @property
    def address(self) -> str:
        """For ZeroMQ."""
        return f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> ImpairedLink:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()
        self._close(list(self._ways))
        for one in self._half_open:
            one.close()

    # -- what happens to the link -------------------------------------------------------------------------------

    def black_hole(self, up: bool = True, down: bool = True) -> None:
        """From now on nothing passes, in these directions; nobody is told."""
        with self._lock:
            self._stopped |= {direction for direction, chosen in ((True, up), (False, down)) if chosen}

    def heal(self) -> None:
        """Everything passes again, what was held up first, as after TCP's retransmission."""
        with self._lock:
            self._stopped.clear()

    def reset(self) -> int:
        """Every connection dies with RST on both ends; how many there were."""
        with self._lock:
            return self._close(list(self._ways), abortively=True)

    def leave_half_open(self) -> None:
        """The receiver's end of every connection is gone; the vehicle's stays open and is never answered."""
        with self._lock:
            for way in self._ways:
                if way.is_upward:
                    way.target.close()
                    self._half_open.append(way.source)
            self._ways.clear()

    def flip_bit(self, after_bytes: int = 0) -> None:
        """Turn one bit of what the vehicle sends, `after_bytes` from now."""
        with self._lock:
            self._flip_at = self.bytes_up + after_bytes

    def is_relaying(self) -> bool:
        """True while there is a connection."""
        with self._lock:
            return bool(self._ways)

    # -- the relay ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.is_set():
            with selectors.DefaultSelector() as selector:
                wait_s = self._register(selector)
                ready = {key.fileobj for key, _ in selector.select(wait_s)}
            with self._lock:
                if self._listener in ready:
                    self._accept()
                for way in list(self._ways):
                    self._move(way, way.source in ready)

    def _register(self, selector: selectors.BaseSelector) -> float:
        """Watch what may be read or written; how long to wait for it."""
        now_s = time.monotonic()
        wait_s = LONGEST_WAIT_S
        with self._lock:
            selector.register(self._listener, selectors.EVENT_READ)
            events: dict[socket.socket, int] = {}
            for way in self._ways:
                if way.is_upward in self._stopped:
                    continue
                if not way.is_ended and way.held_bytes < self.conditions.buffer_bytes:
                    events[way.source] = events.get(way.source, 0) | selectors.EVENT_READ
                if way.wire and way.wire[0][0] <= now_s:
                    events[way.target] = events.get(way.target, 0) | selectors.EVENT_WRITE
                elif way.wire:
                    wait_s = min(wait_s, way.wire[0][0] - now_s)
            for one, mask in events.items():
                selector.register(one, mask)
        return max(0.0, wait_s)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        self.connections += 1
        try:
            far = socket.create_connection(self._target, CONNECT_TIMEOUT_S)
        except OSError:
            near.close()
            return
        for one in (near, far):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ways += [Way(near, far, is_upward=True), Way(far, near, is_upward=False)]

    def _move(self, way: Way, may_read: bool) -> None:
        if way.is_upward in self._stopped or way.source.fileno() < 0:
            return
        try:
            if may_read and not way.is_ended and way.held_bytes < self.conditions.buffer_bytes:
                self._read(way)
            self._write(way)
        except OSError:
            self._close(self._both_of(way), abortively=True)
            return
        if way.is_ended and not way.wire:
            self._close(self._both_of(way))

    def _read(self, way: Way) -> None:
        try:
            data = way.source.recv(READ_BYTES)
        except BlockingIOError:
            return
        way.is_ended = not data
        if way.is_upward:
            data = self._passing_up(data)
            self.bytes_up += len(data)
        else:
            self.bytes_down += len(data)
        way.put(data, time.monotonic(), self.conditions, self._rng)

    def _passing_up(self, data: bytes) -> bytes:
        if self._flip_at is None or not self.bytes_up <= self._flip_at < self.bytes_up + len(data):
            return data
        changed = bytearray(data)
        changed[self._flip_at - self.bytes_up] ^= 0x10
        self._flip_at = None
        return bytes(changed)

    def _write(self, way: Way) -> None:
        now_s = time.monotonic()
        while data := way.take(now_s):
            try:
                sent = way.target.send(data)
            except BlockingIOError:
                sent = 0
            way.put_back(data[sent:], now_s)
            if sent < len(data):
                return

    def _both_of(self, way: Way) -> list[Way]:
        return [one for one in self._ways if way.source in (one.source, one.target)]

    def _close(self, ways: list[Way], abortively: bool = False) -> int:
        sockets = {one for way in ways for one in (way.source, way.target)}
        for one in sockets:
            if abortively and one.fileno() >= 0:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            one.close()
        self._ways = [way for way in self._ways if way not in ways]
        return len(sockets) // 2
