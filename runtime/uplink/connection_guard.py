"""Who may stay connected, looked at from a thread of its own: a loop that waits for a disk leaves nobody unwatched.

Ten times a second the guard reads what libzmq tells of connections and cuts those in the middle of a message that does
not end; every few seconds it reads the enrolled table again and cuts whoever is revoked. A guard that dies, or that
hangs (the folder of keys may lie on a server that is away), is worse than none: the receiver ends.
"""

from __future__ import annotations

import threading

import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.clock import Clock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.beside import BesideThread, Heartbeat, ThreadDeathError
from runtime.uplink.connections import ConnectionTable
from runtime.uplink.keys import EnrolledVehicles

MONITORED = zmq.EVENT_ACCEPTED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED
#: One that sends without end gets so much further.
GUARD_PERIOD_S = 0.1
#: Within it and `reload_s` a revocation counts, or the receiver ends: a minute is promised.
HANG_LIMIT_S = 20.0
HANG_GRACE_S = 1.0


class ConnectionGuard:
    """A context in which connections are watched; `monitor` is the receiver's socket's, and belongs to the thread."""

    def __init__(
        self,
        table: ConnectionTable,
        enrolled: EnrolledVehicles,
        monitor: zmq.Socket[bytes],
        clock: Clock,
        reload_s: float,
    ) -> None:
        self._table = table
        self._enrolled = enrolled
        self._monitor = monitor
        self._clock = clock
        self._reload_ns = round(reload_s * NANOSECONDS_PER_SECOND)
        self._heart = Heartbeat()
        self._beside = BesideThread("connection guard", self._run)

    def __enter__(self) -> ConnectionGuard:
        self._beside.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._beside.end(HANG_GRACE_S)

    def raise_if_dead(self) -> None:
        """Raise ThreadDeathError when nobody watches any more."""
        self._beside.raise_if_dead()
        quiet_s = self._heart.quiet_s(self._clock.now_ns(), HANG_LIMIT_S, HANG_GRACE_S)
        if quiet_s:
            raise ThreadDeathError(f"the connection guard hangs: it has looked at nothing for {quiet_s:.0f} s")

    def _run(self, stop: threading.Event) -> None:
        due_ns = self._clock.now_ns() + self._reload_ns
        while not stop.wait(GUARD_PERIOD_S):
            self._heart.beat()
            self._read_news()
            self._table.cut_endless()
            if self._clock.now_ns() >= due_ns:
                self._reload()
                due_ns = self._clock.now_ns() + self._reload_ns

    def _read_news(self) -> None:
        """Keep the table of connections; unread news would make libzmq wait."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._table.accepted(event["value"], self._clock.now_ns())
            else:
                self._table.closed(event["value"])

    def _reload(self) -> None:
        """Read who is enrolled, and let go of who is not any more."""
        self._enrolled.reload()
        self._table.cut_where(
            "key no longer enrolled",
            lambda connection: bool(connection.key) and self._enrolled.vehicle_of(connection.key.encode()) is None,
        )
