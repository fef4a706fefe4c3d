"""The receiver: the fleet side of the uplink on one ROUTER socket, for any number of vehicles.

One thread answers messages and touches files; the ZAP handler has its own; so have the guard of connections,
housekeeping, and a verifier, if there is one, which looks at stored clips. Who sent a message is found by the key that
its connection proved (User-Id), looked up in the enrolled table for every message. The guard reads the table again
every `reload_s`, whatever the loop waits for: from then on a revoked vehicle's messages are dropped, nothing more is
sent to it, and its connections are cut. Should one of the threads die, or the authenticator or the guard hang, `run`
closes the socket and raises AuthenticatorError or ThreadDeathError; likewise NotAloneError, when a receiver with a
folder no longer has its catalogue to itself and must start over.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from runtime.clock import Clock, SystemClock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.authenticator import ZapAuthenticator
from runtime.uplink.connection_guard import MONITORED, ConnectionGuard
from runtime.uplink.connections import UNFINISHED_BESIDE_CREDIT_BYTES, ConnectionTable, allow_many_connections
from runtime.uplink.handshakes import Handshakes
from runtime.uplink.incoming import drop_rest, first_frames
from runtime.uplink.keys import EnrolledVehicles, KeyPair, ensure_keys
from runtime.uplink.receiver_settings import ReceiverSettings as ReceiverSettings
from runtime.uplink.reception import CampaignDesk, PullRequests, Reception, Reply
from runtime.uplink.routes import Routes, first_routing_id
from runtime.uplink.sockets import ZAP_DOMAIN, receiver_socket
from runtime.uplink.status_file import Publish, publish_to
from runtime.uplink.storage.housekeeping import HousekeepingThread
from runtime.uplink.storage.opening import StoragePlaces, open_store
from runtime.uplink.storage.retention_clock import check_clock
from runtime.uplink.store import ClipStore
from runtime.uplink.verification import Verifier, VerifierThread
from runtime.uplink.wire import encode

IDLE_POLL_MS = 100
BUSY_POLL_MS = 10
STATUS_PERIOD_S = 1.0
PULL_PERIOD_S = 2.0
SILENCE_PERIOD_S = 0.25


class Receiver:
    """One receiver process's work. `run` blocks until `stop` is set."""

    def __init__(
        self,
        settings: ReceiverSettings,
        own: KeyPair,
        enrolled: EnrolledVehicles,
        clock: Clock,
        publish: Publish,
        verifier: Verifier | None = None,
        on_bound: Callable[[str], None] | None = None,
        campaigns: CampaignDesk | None = None,
        pulls: PullRequests | None = None,
        store: ClipStore | None = None,
    ) -> None:
        self.address = ""
        self.store = store or open_store(settings.places or StoragePlaces(settings.directory), settings.limits)
        limits = settings.vehicle_limits
        self.reception = Reception(self.store, settings.credit_bytes, campaigns=campaigns, pulls=pulls, limits=limits)
        self.handshakes = Handshakes(clock.now_ns)
        unfinished_bytes = settings.credit_bytes + UNFINISHED_BESIDE_CREDIT_BYTES
        self.connections = ConnectionTable(unfinished_bytes, on_first_word=self.handshakes.spoke)
        self.dropped: Counter[str] = Counter()
        self.completed_at_start = 0
        self._settings = settings
        self._own = own
        self._enrolled = enrolled
        self._clock = clock
        self._publish = publish
        self._verifier = VerifierThread(self.store, clock, verifier)
        self._housekeeping = HousekeepingThread(self.store, settings.retention, clock)
        self._on_bound = on_bound or (lambda address: None)
        self._routes = Routes(b"", lambda: 0)
        self._due_ns: dict[str, int] = {}
        self._dirty_since_ns: int | None = None
        self._last_stored: Mapping[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Receive until told to stop. Raises as the module says, and OSError when the catalogue cannot be used."""
        allow_many_connections()
        try:
            check_clock(self.store.catalogue.database, self._clock.wall_ns())
            self.completed_at_start = self.store.recover(self._clock.wall_ns())
            with self._verifier, self._housekeeping:
                self._serve(stop)
        finally:
            self.store.close()

    def _serve(self, stop: threading.Event) -> None:
        with zmq.Context() as context:
            doorkeeping = self._enrolled, self._is_barred, self.handshakes.refusal
            authenticator = ZapAuthenticator(context, ZAP_DOMAIN, *doorkeeping)
            authenticator.start()  # before the socket binds, or nobody would be asked
            socket = receiver_socket(context, self._own)
            monitor = socket.get_monitor_socket(MONITORED)
            try:
                self._routes = Routes(first_routing_id(context, socket), lambda: authenticator.admitted)
                socket.bind(self._settings.bind)
                self.address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
                self._on_bound(self.address)
                watched = self.connections, self._enrolled, monitor, self._clock, self._settings.reload_s
                with ConnectionGuard(*watched) as guard:
                    try:
                        self._turn_until(stop, socket, authenticator, guard)
                    finally:
                        socket.disable_monitor()  # while the guard reads, or libzmq would wait with news, and we for it
                self._deliver(socket, self.reception.flush(self._clock.wall_ns()))
            finally:
                monitor.close(0)
                socket.close(0)
                authenticator.stop()

    def _turn_until(
        self,
        stop: threading.Event,
        socket: zmq.Socket[bytes],
        authenticator: ZapAuthenticator,
        guard: ConnectionGuard,
    ) -> None:
        """Receive, as long as those beside the loop are at work."""
        while not stop.is_set():
            authenticator.raise_if_dead(self._clock.now_ns())
            for beside in (guard, self._verifier, self._housekeeping):
                beside.raise_if_dead()
            self._turn(socket, authenticator)

    def _turn(self, socket: zmq.Socket[bytes], authenticator: ZapAuthenticator) -> None:
        is_busy = self._dirty_since_ns is not None or self.store.is_finishing
        ready = socket.poll(BUSY_POLL_MS if is_busy else IDLE_POLL_MS)
        now_ns = self._clock.now_ns()
        if ready:
            self._take(socket, now_ns)
        self._flush_when_due(socket, now_ns)
        if self.store.is_finishing:
            self._deliver(socket, self.reception.settle(self._clock.wall_ns()))
        if self._is_due("silent", SILENCE_PERIOD_S, now_ns):
            self.connections.cut_silent(now_ns)
        if self._is_due("reload", self._settings.reload_s, now_ns):
            self._forget_revoked()
        if self._is_due("pulls", PULL_PERIOD_S, now_ns):
            self._ask_for_pulls(socket)
        if self._is_due("status", STATUS_PERIOD_S, now_ns):
            self._publish_status(authenticator)

    def _is_due(self, what: str, period_s: float, now_ns: int) -> bool:
        if now_ns < self._due_ns.get(what, 0):
            return False
        self._due_ns[what] = now_ns + int(period_s * NANOSECONDS_PER_SECOND)
        return True

    def _forget_revoked(self) -> None:
        """Keep nothing of who is enrolled no more; the guard has cut them."""
        names = self._enrolled.names()
        self._routes.forget_except(names)
        self.reception.meters.forget_except(names)

    def _ask_for_pulls(self, socket: zmq.Socket[bytes]) -> None:
        try:
            self._deliver(socket, self.reception.pulls_due(self._routes.vehicles, self._clock.wall_ns()))
        except OSError as error:  # the catalogue is busy or its disk full: clips have said so already
            self.dropped["pulls not read"] += 1
            self.reception.troubles.note(error, self._clock.wall_ns())

    def _is_barred(self, vehicle: str) -> bool:
        return self.reception.meters.is_barred(vehicle, self._clock.wall_ns())

    def _take(self, socket: zmq.Socket[bytes], now_ns: int) -> None:
        frames = first_frames(socket)
        vehicle = self._vehicle_of(frames, now_ns)
        if frames[-1].more:  # its sender is cut by now
            self.dropped["surplus frames"] += drop_rest(socket, frames[-1])
        if vehicle is None:
            return
        if self._routes.is_new(vehicle, frames[0].bytes):
            self.reception.vehicle_connected(vehicle)
        buffers = [frame.buffer for frame in frames[1:]]
        self._deliver(socket, self.reception.handle(vehicle, buffers, self._clock.wall_ns()))
        if self._is_barred(vehicle):
            self._cut_all_of(vehicle, "barred")
        if self.store.has_unanswered and self._dirty_since_ns is None:
            self._dirty_since_ns = now_ns

    def _vehicle_of(self, frames: Sequence[zmq.Frame], now_ns: int) -> str | None:
        """The enrolled vehicle whose key sent this message; None, counted, when there is none (any more)."""
        try:
            key = str(frames[-1].get("User-Id"))
        except zmq.ZMQError:
            self.dropped["no User-Id"] += 1
            return None
        vehicle = self._enrolled.vehicle_of(key.encode())
        self.connections.spoke(int(frames[-1].get(zmq.SRCFD)), vehicle or "", key, now_ns)
        if vehicle is None:
            self.dropped["key no longer enrolled"] += 1
        elif offence := self._offence_of(vehicle, frames):
            self.dropped[offence] += 1
            self.reception.meters.bar(vehicle, self._clock.wall_ns())
            self._cut_all_of(vehicle, offence)
            return None
        return vehicle

    def _offence_of(self, vehicle: str, frames: Sequence[zmq.Frame]) -> str:
        """Why a vehicle gets no answer to this message, which only who means harm sends; "" for an honest one."""
        if self._is_barred(vehicle):  # of what came before it was: each answer would tell it something
            return "barred"
        if not self._routes.is_given(frames[0].bytes, vehicle):
            return "fixed routing id"
        return "too many frames" if frames[-1].more else ""

    def _cut_all_of(self, vehicle: str, reason: str) -> None:
        self.connections.cut_where(reason, lambda connection: connection.vehicle == vehicle)

    def _flush_when_due(self, socket: zmq.Socket[bytes], now_ns: int) -> None:
        if self._dirty_since_ns is None:
            return
        waited_ns = now_ns - self._dirty_since_ns
        if self.store.dirty_bytes >= self.store.flush_bytes or waited_ns >= self.store.flush_after_ns:
            self._dirty_since_ns = None
            self._deliver(socket, self.reception.flush(self._clock.wall_ns()))

    def _deliver(self, socket: zmq.Socket[bytes], replies: Sequence[Reply]) -> None:
        """Send replies without waiting; a vehicle that is gone or does not read asks again later."""
        for vehicle, message, payload in replies:
            route = self._routes.get(vehicle)
            if route is None:
                self.dropped["vehicle left"] += 1
                continue
            try:
                socket.send_multipart([route, encode(message), payload], zmq.NOBLOCK)
            except zmq.Again:
                self.dropped["reply queue full"] += 1
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self.dropped["vehicle left"] += 1
                self._routes.forget(vehicle)

    def _publish_status(self, authenticator: ZapAuthenticator) -> None:
        try:
            self._publish(self.figures(authenticator))
        except OSError as error:  # no room for the file: vehicles go on
            self.dropped["status not published"] += 1
            self.reception.troubles.note(error, self._clock.wall_ns())

    def _stored(self) -> Mapping[str, int]:
        """The catalogue's counts; while it does not answer, those of before."""
        try:
            self._last_stored = self.store.figures(self._clock.wall_ns())
        except OSError as error:
            self.dropped["figures not read"] += 1
            self.reception.troubles.note(error, self._clock.wall_ns())
        return self._last_stored

    def figures(self, authenticator: ZapAuthenticator) -> Mapping[str, Any]:
        """What the status file says."""
        return {
            "address": self.address,
            **self._stored(),
            "connections": len(self.connections),
            "connections_cut": dict(self.connections.cut),
            "vehicles_barred": self.reception.meters.barred,
            "last_error": self.reception.troubles.last,
            "storage_troubles": self.reception.troubles.count,
            "enrolled": len(self._enrolled),
            "enrolment_problems": list(self._enrolled.problems),
            "received": dict(self.reception.received),
            "nacks": dict(self.reception.nacks),
            "dropped": dict(self.dropped),
            "handshakes_admitted": authenticator.admitted,
            "handshakes_refused": dict(authenticator.refused),
            "completed_at_start": self.completed_at_start,
            "housekeeping": self._housekeeping.figures,
            "verifier_troubles": self._verifier.troubles,
            "verifier_last_trouble": self._verifier.last_trouble,
            "verifier_deaths": self._verifier.deaths,
        }


def run_receiver(
    settings: ReceiverSettings,
    stop: threading.Event,
    verifier: Verifier | None = None,
    clock: Clock | None = None,
    on_bound: Callable[[str], None] | None = None,
) -> None:
    """Receive until `stop` is set. Own keys are made on first start; `verifier` looks at every stored clip.

    Raises KeyFileError, zmq.ZMQError for an address that cannot be bound, AuthenticatorError, OSError.
    """
    own = ensure_keys(settings.keys_directory, "receiver")
    enrolled = EnrolledVehicles(settings.keys_directory)
    publish = publish_to(settings.status_path)
    Receiver(settings, own, enrolled, clock or SystemClock(), publish, verifier, on_bound).run(stop)
