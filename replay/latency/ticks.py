"""Collects what the runtime says after every tick (`runtime.health.telemetry`), on a thread of its own.

A tick that the runtime has published and nobody received would look like a dropped frameset: that is the safe side.
"""

from __future__ import annotations

import threading

import zmq

from runtime.health.telemetry import TOPIC, TelemetryError, TickResult, decode_tick

QUEUE_MESSAGES = 10_000
#: About three hours at 36 Hz; older ticks than that belong to no spell.
MAX_TICKS = 400_000


class TickListener:
    """Listens from `start` to `stop`; `take` hands out what has come since the last `take`."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.SUBSCRIBE, TOPIC)
        self._socket.connect(address)
        self._ticks: list[TickResult] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="bench-ticks", daemon=True)
        self.malformed = 0

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def take(self) -> list[TickResult]:
        """All ticks since the last call, in order."""
        with self._lock:
            taken, self._ticks = self._ticks, []
        return taken

    def stop(self) -> None:
        """Leave, and let go of the socket."""
        self._over.set()
        self._thread.join(5.0)
        self._context.destroy(linger=0)

    def _listen(self) -> None:
        while not self._over.is_set():
            if not self._socket.poll(100):
                continue
            try:
                tick = decode_tick(self._socket.recv_multipart())
            except TelemetryError:
                self.malformed += 1
                continue
            with self._lock:
                if len(self._ticks) < MAX_TICKS:
                    self._ticks.append(tick)
