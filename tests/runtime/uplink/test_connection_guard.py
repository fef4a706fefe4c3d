"""The guard of connections under more news than it can read: strangers make them, and it does its work all the same."""

from __future__ import annotations

import socket as sockets
import struct
from collections.abc import Iterator

import pytest
import zmq
from live_receiver import wait_for

from runtime.clock import SystemClock
from runtime.uplink import connection_guard, keys
from runtime.uplink.connection_guard import NEWS_AT_ONCE, ConnectionGuard
from runtime.uplink.connections import ConnectionTable
from runtime.uplink.keys import EnrolledVehicles, enroll, revoke

NOBODYS_DESCRIPTOR = 1 << 20
#: Connections, each of which comes and goes: libzmq keeps two thousand news that nobody reads.
NEWS_THAT_FILL_IT = 1200


class NeverDry:
    """A monitor that has always one more event, of a connection that is gone already."""

    def __init__(self) -> None:
        self.read = 0

    def recv_multipart(self, flags: int) -> list[bytes]:
        self.read += 1
        return [struct.pack("=hi", zmq.EVENT_CLOSED, NOBODYS_DESCRIPTOR), b"tcp://127.0.0.1:1"]


class CountingTable(ConnectionTable):
    """Says how often endless messages were looked for."""

    looks = 0

    def cut_endless(self) -> None:
        self.looks += 1
        super().cut_endless()


@pytest.fixture
def connection() -> Iterator[tuple[sockets.socket, sockets.socket]]:
    """A vehicle's end of a connection, and the receiver's."""
    with (
        sockets.create_server(("127.0.0.1", 0)) as listener,
        sockets.create_connection(listener.getsockname()) as vehicles,
        listener.accept()[0] as receivers,
    ):
        yield vehicles, receivers


def test_news_without_end_keep_nobody_from_being_revoked_and_do_not_look_like_a_guard_that_hangs(
    tmp_path, connection, monkeypatch
):
    public, _ = zmq.curve_keypair()
    enroll(tmp_path, "car-1", public)
    table, enrolled, monitor = CountingTable(), EnrolledVehicles(tmp_path), NeverDry()
    table.spoke(connection[1].fileno(), "car-1", public.decode(), 0)
    guard = ConnectionGuard(table, enrolled, monitor, SystemClock(), reload_s=0.05)
    beats = count_beats(guard, monkeypatch)
    with guard:
        wait_for(lambda: monitor.read > NEWS_AT_ONCE, "the news to be read")
        revoke(tmp_path, "car-1")
        wait_for(lambda: table.cut["key no longer enrolled"], "the revoked vehicle to be cut")
        looks = table.looks
        wait_for(lambda: table.looks > looks + 1, "endless messages to be looked for")
        guard.raise_if_dead()
    assert connection[0].recv(1) == b""
    assert len(beats) > 2


def count_beats(guard: ConnectionGuard, monkeypatch) -> list[None]:
    beats: list[None] = []
    beat = guard._heart.beat
    monkeypatch.setattr(guard._heart, "beat", lambda: (beats.append(None), beat()))
    return beats


def test_news_are_read_while_a_table_of_many_keys_is(tmp_path, monkeypatch):
    """Unread news would make libzmq wait, and every vehicle with it."""
    monkeypatch.setattr(keys, "KEYS_BETWEEN", 2)
    monkeypatch.setattr(connection_guard, "NEWS_AT_ONCE", 10)
    for number in range(5):
        enroll(tmp_path, f"car-{number}", zmq.curve_keypair()[0])
    monitor = NeverDry()
    guard = ConnectionGuard(ConnectionTable(), EnrolledVehicles(tmp_path), monitor, SystemClock(), reload_s=5.0)
    guard._reload()
    assert monitor.read == 20, "after the second key and after the fourth"


def test_strangers_who_connect_while_a_receiver_ends_do_not_keep_it_from_ending(receiver, monkeypatch):
    """Its last flush takes a while, and nobody reads news any more: libzmq would wait with them, and the end for it."""
    flush, address = receiver.receiver.reception.flush, receiver.address.removeprefix("tcp://").split(":")
    connected: list[int] = []

    def slow_flush(*arguments: object) -> list:
        for _ in range(NEWS_THAT_FILL_IT):
            with sockets.create_connection((address[0], int(address[1]))):
                connected.append(1)
        return flush(*arguments)

    monkeypatch.setattr(receiver.receiver.reception, "flush", slow_flush)
    receiver.end()
    assert len(connected) == NEWS_THAT_FILL_IT
    assert receiver.error is None
