"""Sockets of both ends with every limit set: message size, handshake time, heartbeats, queue lengths.

Queues count messages: 64 messages of at most 256 KiB bound each direction to 16 MiB a peer.
"""

from __future__ import annotations

import zmq

from runtime.uplink.keys import KeyPair
from runtime.uplink.wire import MAX_PAYLOAD_BYTES

ZAP_DOMAIN = "shadowrig"
HANDSHAKE_INTERVAL_MS = 5_000
HEARTBEAT_INTERVAL_MS = 3_000
HEARTBEAT_TIMEOUT_MS = 10_000
QUEUE_MESSAGES = 64
#: A connection attempt into a black hole is given up and made anew: the kernel alone would wait ever longer.
CONNECT_TIMEOUT_MS = 5_000
RECONNECT_INTERVAL_MS = 200
RECONNECT_INTERVAL_LONGEST_MS = 2_000
BACKLOG = 128
#: libzmq counts a frame as it is on the wire: CURVE adds a command name, a nonce and a tag.
ENCRYPTION_OVERHEAD_BYTES = 256


def set_limits(socket: zmq.Socket[bytes]) -> None:
    """What both ends have in common."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES + ENCRYPTION_OVERHEAD_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_INTERVAL_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
    socket.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)


def vehicle_socket(context: zmq.Context[zmq.Socket[bytes]], own: KeyPair, receiver_key: bytes) -> zmq.Socket[bytes]:
    """A DEALER that talks to the holder of `receiver_key` only. It gets a fresh random routing id per connection."""
    socket = context.socket(zmq.DEALER)
    set_limits(socket)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_INTERVAL_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_INTERVAL_LONGEST_MS)
    socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing queues for a peer that is not there
    socket.setsockopt(zmq.CURVE_PUBLICKEY, own.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret)
    socket.setsockopt(zmq.CURVE_SERVERKEY, receiver_key)
    return socket


def receiver_socket(context: zmq.Context[zmq.Socket[bytes]], own: KeyPair) -> zmq.Socket[bytes]:
    """A ROUTER that admits whom the ZAP handler of ZAP_DOMAIN admits, and nobody when there is no handler."""
    socket = context.socket(zmq.ROUTER)
    set_limits(socket)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a reply to a peer that left is an error we count, not a silent drop
    socket.setsockopt(zmq.BACKLOG, BACKLOG)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, own.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN.encode())
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return socket
