"""The bad link is as bad as it says: what the fault tests are worth depends on it."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from impaired_link import SEGMENT_BYTES, Conditions, ImpairedLink, Way, stall_s

PATIENCE_S = 10.0
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        yield listener


def connected(link: ImpairedLink, server: socket.socket) -> Ends:
    """Both ends of one connection through the link."""
    near = socket.create_connection(("127.0.0.1", link.port), PATIENCE_S)
    far, _ = server.accept()
    far.settimeout(PATIENCE_S)
    return near, far


def received(end: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = end.recv(length - len(data))
        assert part, f"the connection ended after {len(data)} of {length} bytes"
        data += part
    return data


def says_nothing(end: socket.socket, wait_s: float = 0.2) -> bool:
    end.settimeout(wait_s)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE_S)
    return False


def test_every_byte_passes_in_order_both_ways_and_the_end_too(server):
    data = random.Random(1).randbytes(3_000_000)
    with ImpairedLink(server.getsockname()[1], Conditions(delay_s=0.01, loss=0.01, retransmission_s=0.001)) as link:
        near, far = connected(link, server)
        sender = threading.Thread(target=lambda: (near.sendall(data), near.shutdown(socket.SHUT_WR)))
        sender.start()
        assert received(far, len(data)) == data
        assert far.recv(1) == b""
        sender.join()
        near, far = connected(link, server)
        far.sendall(b"answer")
        assert received(near, 6) == b"answer"
        assert (link.connections, link.bytes_up, link.bytes_down) == (2, len(data), 6)
        near.close()
        far.close()


def test_delay_and_bandwidth_are_kept_at_least(server):
    began_s = time.monotonic()
    with ImpairedLink(server.getsockname()[1], Conditions(delay_s=0.1, bytes_per_s=500_000)) as link:
        near, far = connected(link, server)
        near.sendall(bytes(100_000))
        received(far, 100_000)
        assert time.monotonic() - began_s >= 0.1 + 100_000 / 500_000
        near.close()
        far.close()


def test_a_lost_segment_waits_twice_as_long_at_each_further_loss_and_nothing_overtakes_it():
    always = Conditions(loss=1.0, retransmission_s=0.2)
    assert stall_s(always, random.Random(1)) == pytest.approx(0.2 * (2**6 - 1))
    assert stall_s(Conditions(loss=0.0), random.Random(1)) == 0
    way = Way(socket.socket(), socket.socket(), is_upward=True)
    way.put(bytes(100 * SEGMENT_BYTES), 1.0, Conditions(delay_s=0.05, loss=0.5), random.Random(2))
    times_s = [out_s for out_s, _ in way.wire]
    assert times_s == sorted(times_s)
    assert times_s[-1] - 1.05 > 100 * 0.5 * 0.2, "every second segment costs a retransmission at least"
    way.source.close()
    way.target.close()


def test_a_black_hole_closes_nothing_and_healing_delivers_what_was_held_up(server):
    with ImpairedLink(server.getsockname()[1]) as link:
        near, far = connected(link, server)
        near.sendall(b"before")
        assert received(far, 6) == b"before"
        link.black_hole()
        near.sendall(b"during")
        assert says_nothing(far)
        link.heal()
        assert received(far, 6) == b"during"
        link.black_hole(up=False)
        far.sendall(b"lost answer")
        near.sendall(b"one way")
        assert received(far, 7) == b"one way"
        assert says_nothing(near)
        near.close()
        far.close()


def test_a_reset_is_felt_by_both_ends(server):
    with ImpairedLink(server.getsockname()[1]) as link:
        near, far = connected(link, server)
        near.sendall(b"x")
        received(far, 1)
        assert link.reset() == 1
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
            end.close()


def test_half_open_means_that_the_vehicle_is_not_told(server):
    with ImpairedLink(server.getsockname()[1]) as link:
        near, far = connected(link, server)
        near.sendall(b"x")
        received(far, 1)
        link.leave_half_open()
        assert far.recv(1) == b""
        near.sendall(b"nobody reads this")
        assert says_nothing(near)
        near.close()
        far.close()


def test_one_bit_is_turned_where_it_was_said(server):
    with ImpairedLink(server.getsockname()[1]) as link:
        near, far = connected(link, server)
        link.flip_bit(after_bytes=3)
        near.sendall(bytes(8))
        assert received(far, 8) == bytes([0, 0, 0, 0x10, 0, 0, 0, 0])
        near.close()
        far.close()
