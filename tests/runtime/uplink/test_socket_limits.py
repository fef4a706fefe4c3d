"""Both ends' sockets have every limit set: a peer that hangs, floods or never greets costs little."""

from __future__ import annotations

import pytest
import zmq

from runtime.uplink.keys import KeyPair
from runtime.uplink.sockets import receiver_socket, vehicle_socket
from runtime.uplink.wire import MAX_PAYLOAD_BYTES

#: What CURVE adds to the largest frame, with room for a longer one.
OVERHEAD_BYTES = 256
#: libzmq's own values would be: no limit, 30 s, no heartbeats, no answer to them awaited, 1,000 messages.
LIMITS = {
    zmq.MAXMSGSIZE: MAX_PAYLOAD_BYTES + OVERHEAD_BYTES,
    zmq.HANDSHAKE_IVL: 5_000,
    zmq.HEARTBEAT_IVL: 3_000,
    zmq.HEARTBEAT_TIMEOUT: 10_000,
    zmq.HEARTBEAT_TTL: 10_000,
    zmq.SNDHWM: 64,
    zmq.RCVHWM: 64,
    zmq.LINGER: 0,
}


@pytest.fixture
def sockets(context):
    own, receivers = KeyPair(*zmq.curve_keypair()), KeyPair(*zmq.curve_keypair())
    return {"vehicle": vehicle_socket(context, own, receivers.public), "receiver": receiver_socket(context, receivers)}


@pytest.mark.parametrize("end", ["vehicle", "receiver"])
def test_handshake_message_size_heartbeats_and_queues_are_limited_on_both_ends(sockets, end):
    assert {option: sockets[end].getsockopt(option) for option in LIMITS} == LIMITS


def test_the_vehicle_gives_up_connections_that_hang_and_queues_nothing_for_nobody(sockets):
    options = (zmq.CONNECT_TIMEOUT, zmq.RECONNECT_IVL, zmq.RECONNECT_IVL_MAX, zmq.IMMEDIATE)
    assert [sockets["vehicle"].getsockopt(option) for option in options] == [5_000, 200, 2_000, 1]


def test_the_vehicle_takes_no_routing_id_and_speaks_curve(sockets):
    assert sockets["vehicle"].getsockopt(zmq.ROUTING_ID) == b""
    assert sockets["vehicle"].getsockopt(zmq.MECHANISM) == zmq.CURVE


def test_the_receiver_fails_closed(sockets):
    assert sockets["receiver"].getsockopt(zmq.CURVE_SERVER) == 1
    assert sockets["receiver"].getsockopt(zmq.ZAP_DOMAIN).rstrip(b"\0") == b"shadowrig"
    assert sockets["receiver"].getsockopt(zmq.ZAP_ENFORCE_DOMAIN) == 1
    assert sockets["receiver"].getsockopt(zmq.BACKLOG) == 128
