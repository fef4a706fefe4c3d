"""Where each vehicle's newest connection is, by the routing ids that libzmq gave out itself.

A ROUTER numbers its peers one after the other from a random beginning, in a zero byte and four more. A peer may choose
another id when it connects, also one that looks like those (libzmq, `router.cpp`, `identify_peer`): if it chose that of
a vehicle that has left, it would be sent what is meant for it. So an id counts only when it is of that form, is among
the first so many as handshakes were admitted since the start, and is not the route of another vehicle. An id is given
out after the handshake has been admitted, and the doorkeeper counts before it answers: what libzmq gave out is always
among them, however many of the others never said anything. Where they begin is learned from a connection within the
process, before anybody else can come.

libzmq 4.3.5 ends the process when the id that it would give out next is held already. So that nobody finds out which
one that is, the first wrong guess bars its vehicle; guesses that never say a word are as few as the silent connections
of one key (`handshakes`), in a space of 2**32 numbers. What counts as given out, but may not have been, are the ids of
handshakes that broke off after they had been admitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import zmq

ROUTING_ID_BYTES = 5
ID_COUNT = 1 << 32
FIRST_PEER = "inproc://first-routing-id"
FIRST_PEER_TIMEOUT_MS = 5000


class Routes:
    """Vehicles and the routing ids of their newest messages. `admitted`: how many handshakes were, all in all."""

    def __init__(self, first: bytes, admitted: Callable[[], int]) -> None:
        self._first = int.from_bytes(first[1:], "big")
        self._admitted = admitted
        self._route_of: dict[str, bytes] = {}
        self._vehicle_of: dict[bytes, str] = {}

    @property
    def vehicles(self) -> list[str]:
        """Those that can be reached, as far as is known."""
        return list(self._route_of)

    def get(self, vehicle: str) -> bytes | None:
        """Where to send what is for this vehicle."""
        return self._route_of.get(vehicle)

    def is_given(self, route: bytes, vehicle: str) -> bool:
        """True when libzmq may have given this id to a connection of this vehicle; False when a peer chose it."""
        if len(route) != ROUTING_ID_BYTES or route[0] or self._vehicle_of.get(route, vehicle) != vehicle:
            return False
        place = (int.from_bytes(route[1:], "big") - self._first) % ID_COUNT
        return 0 < place <= self._admitted()

    def is_new(self, vehicle: str, route: bytes) -> bool:
        """Note where a vehicle is; True when that is another connection than before."""
        if self._route_of.get(vehicle) == route:
            return False
        self.forget(vehicle)
        self._route_of[vehicle] = route
        self._vehicle_of[route] = vehicle
        return True

    def forget(self, vehicle: str) -> None:
        """It has left."""
        self._vehicle_of.pop(self._route_of.pop(vehicle, b""), None)

    def forget_except(self, vehicles: Iterable[str]) -> None:
        """Keep nothing of the others."""
        for vehicle in self._route_of.keys() - set(vehicles):
            self.forget(vehicle)


def first_routing_id(context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]) -> bytes:
    """The first id that this ROUTER gives out, to a peer of ours that leaves again. Raises zmq.ZMQError.

    Call it before the socket is bound to anything else: what is in the process needs no key.
    """
    peer = context.socket(zmq.DEALER)
    try:
        router.bind(FIRST_PEER)
        peer.connect(FIRST_PEER)
        peer.send(b"")
        if not router.poll(FIRST_PEER_TIMEOUT_MS):
            raise zmq.ZMQError(zmq.EAGAIN, "the receiver's socket does not hear a peer of its own process")
        return router.recv_multipart()[0]
    finally:
        router.unbind(FIRST_PEER)
        peer.close(0)
