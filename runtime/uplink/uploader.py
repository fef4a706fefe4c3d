"""The uploader: moves `Delivery`'s messages over one encrypted socket at a time, for as long as the vehicle lives.

A session is one socket. It ends when the link is reset, when an answer is overdue, or when the receiver says that it
cannot go on; then the socket is closed and after a jittered, bounded back-off a fresh one is opened. Nothing is lost
by that: OFFER asks what is durable, and sending goes on at that byte. A spool that cannot be read or written is an
error of this process and ends it; the supervisor starts it again. Only where its disk is full is it no use to start
again: that ends the session, and what could not be noted (DONE) is told once more in a later one.

Where a policy says which clips may go over which network, the session's own interface decides. It lasts as long as the
session: when the route to the receiver changes to another interface, the session ends and the next one uses it.
"""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.backoff import Backoff
from runtime.clock import Clock, SystemClock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.delivery import Delivery, SessionError
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.exchange import Exchange
from runtime.uplink.keys import KeyPair, ensure_keys, load_public_key
from runtime.uplink.network import ends_of, interface_of, route_to
from runtime.uplink.outbox import Outbox
from runtime.uplink.policy import DeliveryPolicy
from runtime.uplink.pull_inbox import PullSeam
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.status_file import Publish, publish_to
from runtime.uplink.transfer import Outgoing
from runtime.uplink.wire import encode

#: Errors of an outbox that cannot note anything now.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
POLL_MS = 50
MESSAGES_AT_ONCE = 64
STATUS_PERIOD_S = 1.0
ROUTE_PERIOD_S = 10.0

HANDSHAKE_FAILURES: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the receiver refuses this vehicle's key: is it enrolled, or revoked?",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the handshake broke off: is the pinned receiver key the right one?",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed: is this vehicle's key enrolled?",
}
WATCHED_EVENTS = zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | sum(HANDSHAKE_FAILURES)


@dataclass(frozen=True, slots=True)
class UploaderSettings:
    """What an uploader needs to know. `server` is a ZeroMQ address like `tcp://fleet.example:7443`.

    What the configuration's `uplink` section sets has the defaults of that section.
    """

    server: str
    keys_directory: Path
    status_path: Path | None = None
    software: str = "shadowrig"
    backoff_first_s: float = 1.0
    backoff_longest_s: float = 20.0
    limits: DeliveryLimits = field(default_factory=DeliveryLimits)
    policy: DeliveryPolicy = field(default_factory=DeliveryPolicy)


class Uploader:
    """One vehicle's uploader. `run` blocks until `stop` is set."""

    def __init__(
        self,
        outbox: Outbox,
        settings: UploaderSettings,
        own: KeyPair,
        receiver_key: bytes,
        clock: Clock,
        rng: random.Random,
        publish: Publish,
        exchange: Exchange | None = None,
        pulls: PullSeam | None = None,
    ) -> None:
        self.delivery = Delivery(outbox, settings.limits, settings.software, exchange, pulls)
        self.link = "not connected"
        self.last_error = ""
        self._settings = settings
        self._own = own
        self._receiver_key = receiver_key
        self._clock = clock
        self._backoff = Backoff(settings.backoff_first_s, settings.backoff_longest_s, rng)
        self._publish = publish
        self._publish_ns = 0
        self._route_ns = 0
        self._handshake_done = False
        self._interface: str | None = None
        self._peer: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Deliver until told to stop; then leave at once, everything is on disk."""
        with zmq.Context() as context:
            while not stop.is_set():
                self._session(context, stop)
                self._report(now_ns=None)
                if self.delivery.made_progress:
                    self._backoff.reset()
                stop.wait(self._backoff.next_s())

    def figures(self) -> Mapping[str, Any]:
        """What the status file says."""
        statistics = self.delivery.statistics
        return {
            "link": self.link,
            "interface": self._interface,
            "waiting": dict(self.delivery.permissions.reasons),
            "last_error": self.last_error,
            "sessions": statistics.sessions,
            "retries": max(0, statistics.sessions - 1),
            "bytes_sent": statistics.bytes_sent,
            "chunks_sent": statistics.chunks_sent,
            "clips_delivered": statistics.clips_delivered,
            "bytes_delivered": statistics.bytes_delivered,
            "clips_damaged": statistics.clips_damaged,
            "clips_unreadable": statistics.clips_unreadable,
            "last_unreadable": statistics.last_unreadable,
            "tombstones_reported": statistics.tombstones_reported,
            "notices_refused": statistics.notices_refused,
            "pulls_taken": statistics.pulls_taken,
            "pulls_answered": statistics.pulls_answered,
            "messages_ignored": statistics.messages_ignored,
            "refused": dict(statistics.refused),
            "nacks": dict(statistics.nacks),
        }

    def _session(self, context: zmq.Context[zmq.Socket[bytes]], stop: threading.Event) -> None:
        socket = vehicle_socket(context, self._own, self._receiver_key)
        monitor = socket.get_monitor_socket(WATCHED_EVENTS)
        self._handshake_done = False
        self._interface = self._peer = None
        self._route_ns = 0
        self.link = "connecting"
        try:
            socket.connect(self._settings.server)
            self.delivery.begin_session(self._clock.now_ns())
            self._converse(socket, monitor, stop)
        except SessionError as error:
            self.last_error = str(error)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self.delivery.made_progress = False  # then the wait grows: whoever fills the disk may do so for long
            self.last_error = f"the spool's disk is full: {error}"
        finally:
            self.link = "not connected"
            socket.disable_monitor()
            monitor.close(0)
            socket.close(0)

    def _converse(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes], stop: threading.Event) -> None:
        began_ns = self._clock.now_ns()
        patience_ns = int(self._settings.limits.reply_timeout_s * NANOSECONDS_PER_SECOND)
        poller = zmq.Poller()
        poller.register(monitor, zmq.POLLIN)
        unsent: Outgoing | None = None
        while not stop.is_set():
            now_ns = self._clock.now_ns()
            self._watch(monitor)
            self._follow_policy(now_ns)
            self._receive(socket, now_ns)
            unsent = self._send(socket, unsent, now_ns)
            if self.delivery.is_overdue(now_ns) or (not self._handshake_done and now_ns - began_ns > patience_ns):
                raise SessionError("the receiver does not answer: the link or the receiver is dead")
            self._report(now_ns)
            poller.register(socket, zmq.POLLIN | (zmq.POLLOUT if unsent is not None else 0))
            poller.poll(POLL_MS)

    def _watch(self, monitor: zmq.Socket[bytes]) -> None:
        """Look at what libzmq says about the connection."""
        while monitor.poll(0):
            message = recv_monitor_message(monitor)
            event = message["event"]
            if event == zmq.EVENT_CONNECTED:
                self._notice_ends(message["value"])
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._handshake_done = True
                self.link = "connected"
                self.last_error = ""
            elif (reason := HANDSHAKE_FAILURES.get(event)) is not None:
                raise SessionError(reason)
            elif event == zmq.EVENT_DISCONNECTED and self._handshake_done:
                raise SessionError("the connection was closed")

    def _notice_ends(self, descriptor: int) -> None:
        """Which interface this connection uses. Should libzmq have closed it already: unknown, which is metered."""
        ends = ends_of(descriptor)
        self._interface, self._peer = (None, None) if ends is None else (interface_of(ends[0]), ends[1])
        self._route_ns = 0

    def _follow_policy(self, now_ns: int) -> None:
        """Ask the policy about this network, this hour; leave a network that is no longer the way to the receiver."""
        if now_ns < self._route_ns:
            return
        self._route_ns = now_ns + int(ROUTE_PERIOD_S * NANOSECONDS_PER_SECOND)
        if self._interface is not None and self._peer is not None:
            better = interface_of(route_to(self._peer))
            if better not in (None, self._interface):
                raise SessionError(f"the way to the receiver is {better} now, no longer {self._interface}")
        self.delivery.permit(self._settings.policy.permissions(self._interface, self._clock.wall_ns()))

    def _receive(self, socket: zmq.Socket[bytes], now_ns: int) -> None:
        for _ in range(MESSAGES_AT_ONCE):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.delivery.on_message(frames, now_ns)

    def _send(self, socket: zmq.Socket[bytes], unsent: Outgoing | None, now_ns: int) -> Outgoing | None:
        """Send what there is room for; returns the message that found none."""
        for _ in range(MESSAGES_AT_ONCE):
            outgoing = unsent or self.delivery.next_message(now_ns)
            if outgoing is None:
                return None
            message, payload = outgoing
            try:
                socket.send_multipart([encode(message), payload], zmq.NOBLOCK)
            except zmq.Again:
                return outgoing
            unsent = None
        return None

    def _report(self, now_ns: int | None) -> None:
        """Publish once a second, and at the end of a session (None)."""
        if now_ns is None or now_ns >= self._publish_ns:
            self._publish_ns = (now_ns or self._clock.now_ns()) + int(STATUS_PERIOD_S * NANOSECONDS_PER_SECOND)
            self._publish(self.figures())


def run_uploader(
    settings: UploaderSettings,
    outbox: Outbox,
    stop: threading.Event,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> None:
    """Deliver from `outbox` (an open Spool) until `stop` is set. Own keys are made on first start.

    Raises KeyFileError when keys are unusable or the receiver's key is not pinned, zmq.ZMQError for a bad address.
    """
    own = ensure_keys(settings.keys_directory, "vehicle")
    receiver_key = load_public_key(settings.keys_directory / "receiver.public")
    publish = publish_to(settings.status_path)
    uploader = Uploader(outbox, settings, own, receiver_key, clock or SystemClock(), rng or random.Random(), publish)
    uploader.run(stop)
