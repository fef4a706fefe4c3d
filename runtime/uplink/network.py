"""Which network interface a connection uses, asked of the kernel; nothing is sent for that.

The local address of a connected socket names the interface. Another interface may become the better way while a
connection lives on over the old one: connecting a datagram socket to the peer makes the kernel choose a route, and
its local address tells which. Linux only; elsewhere, and when anything fails, the answer is None: unknown.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
from pathlib import Path

SIOCGIFCONF = 0x8912
MAX_ADDRESSES = 256
#: struct ifreq on 64-bit Linux: 16 bytes of name, then a socket address padded to 24.
IFREQ_BYTES = 40
DISCARD_PORT = 9


def ends_of(descriptor: int) -> tuple[str, str] | None:
    """The local and the peer's address of a connected TCP socket that somebody else owns."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            return str(connection.getsockname()[0]), str(connection.getpeername()[0])
    except (OSError, IndexError):
        return None


def route_to(peer: str) -> str | None:
    """The local address from which the kernel would reach `peer` now."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((peer.split("%")[0], DISCARD_PORT))
        return str(probe.getsockname()[0])
    return None


def interface_of(address: str | None) -> str | None:
    """The name of the interface that has this address."""
    if address is None:
        return None
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address.split("%")[0])
        if len(packed) == 16 and packed.startswith(bytes(10) + b"\xff\xff"):
            packed = packed[12:]  # IPv4 in an IPv6 socket
        return _interfaces_v4().get(packed) if len(packed) == 4 else _interfaces_v6().get(packed)
    except OSError:
        return None


def _interfaces_v4() -> dict[bytes, str]:
    buffer = array.array("B", bytes(MAX_ADDRESSES * IFREQ_BYTES))
    where, _ = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket.fileno(), SIOCGIFCONF, struct.pack("iP", len(buffer), where))
    (length,) = struct.unpack_from("i", answer)
    records = (buffer[at : at + IFREQ_BYTES].tobytes() for at in range(0, length, IFREQ_BYTES))
    # An additional address is listed under a label such as eth0:1.
    return {record[20:24]: record[:16].rstrip(b"\0").decode().split(":")[0] for record in records}


def _interfaces_v6() -> dict[bytes, str]:
    lines = (line.split() for line in Path("/proc/net/if_inet6").read_text(encoding="utf-8").splitlines())
    return {bytes.fromhex(fields[0]): fields[5] for fields in lines if len(fields) == 6}
