"""Who may stay connected, looked at from a thread of its own: a loop that waits for a disk leaves nobody unwatched.

Ten times a second the guard reads what libzmq tells of connections and cuts those in the middle of a message that does
not end; every few seconds it reads the enrolled table again and cuts whoever is revoked. A guard that dies, or that
hangs (the folder of keys may lie on a server that is away), is worse than none: the receiver ends.

Anybody can make news, without a key, by connecting: so they are read a bounded number at a time, between which the
guard does the rest of its work when that is due. Should they come faster than that, libzmq waits for the guard, and who
connects waits for libzmq. While a table of very many keys is read, they are read in between.
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
#: News that are read before the guard looks at what else is due; libzmq keeps two thousand.
NEWS_AT_ONCE = 500
#: Reading the table may take so long, however it gets on. A key that is revoked just after it was read is out when the
#: next reading is done, `reload_s` later, or the receiver ends: a minute is promised.
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
        self._look_due_ns = self._reload_due_ns = 0
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
        self._reload_due_ns = self._clock.now_ns() + self._reload_ns
        has_more = False
        while not stop.wait(0.0 if has_more else GUARD_PERIOD_S):
            self._heart.beat()
            has_more = self._read_news()
            self._look(self._clock.now_ns())

    def _look(self, now_ns: int) -> None:
        """Do what is due."""
        if now_ns >= self._look_due_ns:
            self._table.cut_endless()
            self._look_due_ns = now_ns + round(GUARD_PERIOD_S * NANOSECONDS_PER_SECOND)
        if now_ns >= self._reload_due_ns:
            self._reload()
            self._reload_due_ns = self._clock.now_ns() + self._reload_ns

    def _read_news(self) -> bool:
        """Keep the table of connections, by some news at least; True when there may be more."""
        for _ in range(NEWS_AT_ONCE):
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return False
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._table.accepted(event["value"], self._clock.now_ns())
            else:
                self._table.closed(event["value"])
        return True

    def _reload(self) -> None:
        """Read who is enrolled, and let go of who is not any more."""
        self._enrolled.reload(self._read_news)
        self._table.cut_where(
            "key no longer enrolled",
            lambda connection: bool(connection.key) and self._enrolled.vehicle_of(connection.key.encode()) is None,
        )
