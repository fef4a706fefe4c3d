"""Connections before their first word: whose they are nobody knows yet, so what they may hold is counted by key."""

from __future__ import annotations

import os
import socket as sockets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import zmq
from live_receiver import HELLO, ask, wait_for

from runtime.uplink import connections, handshakes
from runtime.uplink.connection_guard import GUARD_PERIOD_S
from runtime.uplink.connections import SILENT_LIMIT_BYTES, ConnectionTable
from runtime.uplink.handshakes import (
    HANDSHAKES_AT_ONCE,
    IDLE_NS,
    SILENT_A_KEY,
    TOO_MANY_HANDSHAKES,
    TOO_MANY_SILENT,
    Handshakes,
)
from runtime.uplink.keys import KeyPair, enroll
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.wire import Welcome

SECOND_NS = 1_000_000_000
START_NS = 1_000 * SECOND_NS


class Time:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.ns = START_NS

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def now_ns() -> Time:
    return Time()


def of_other_key(context, receiver, keys):
    """A connection of another enrolled vehicle."""
    pair = KeyPair(*zmq.curve_keypair())
    enroll(keys[1], "car-2", pair.public)
    wait_for(lambda: receiver.receiver._enrolled.vehicle_of(pair.public), "the enrolment to be read")
    other = vehicle_socket(context, pair, receiver.own.public)
    other.connect(receiver.address)
    return other


def silent_connections(context, own, receiver, count: int) -> list[zmq.Socket]:
    found = []
    for _ in range(count):
        found.append(vehicle_socket(context, own, receiver.own.public))
        found[-1].reconnect_ivl = -1
        found[-1].connect(receiver.address)
    return found


def test_one_key_holds_few_silent_connections_and_another_one_comes_in(context, receiver, own, keys):
    silent = silent_connections(context, own, receiver, SILENT_A_KEY + 12)
    wait_for(lambda: receiver.figures.get("handshakes_refused", {}).get(TOO_MANY_SILENT) == 12, "the refusals")
    assert receiver.figures["handshakes_admitted"] == SILENT_A_KEY == len(silent) - 12
    assert isinstance(ask(of_other_key(context, receiver, keys), HELLO), Welcome)


def test_a_key_whose_connections_speak_is_not_shut_out_and_comes_as_often_as_its_pace_lets_it(context, receiver, own):
    welcome = 0
    for _ in range(HANDSHAKES_AT_ONCE):
        with vehicle_socket(context, own, receiver.own.public) as again:
            again.connect(receiver.address)
            welcome += isinstance(ask(again, HELLO), Welcome)
    assert welcome == HANDSHAKES_AT_ONCE
    silent = silent_connections(context, own, receiver, 20)
    wait_for(lambda: receiver.figures.get("handshakes_refused"), "a refusal")
    assert set(receiver.figures["handshakes_refused"]) <= {TOO_MANY_HANDSHAKES, TOO_MANY_SILENT}
    assert receiver.figures["handshakes_admitted"] < welcome + len(silent)


@contextmanager
def without_its_end(port: int, limit_bytes: int) -> Iterator[tuple[str, threading.Event]]:
    """A relay that lets a vehicle's first bytes through, says so and keeps the rest: a message never finished here."""
    has_carried = threading.Event()
    with sockets.create_server(("127.0.0.1", 0)) as listener, ExitStack() as ends:

        def carry(source: sockets.socket, sink: sockets.socket, most_bytes: int) -> None:
            carried = 0
            try:
                while carried < most_bytes and (data := source.recv(1 << 16)):
                    sink.sendall(data)
                    carried += len(data)
            except OSError:  # the receiver has cut it, or the test is over
                return
            if carried >= most_bytes:
                has_carried.set()

        def accept() -> None:
            client = ends.enter_context(listener.accept()[0])
            server = ends.enter_context(sockets.create_connection(("127.0.0.1", port)))
            for way in ((client, server, limit_bytes), (server, client, 1 << 40)):
                threading.Thread(target=carry, args=way, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}", has_carried


@pytest.mark.parametrize("said_hello", [False, True])
def test_a_first_message_may_be_a_mebibyte_and_a_later_one_more(context, receiver, own, said_hello):
    port = int(receiver.address.rsplit(":", 1)[1])
    with without_its_end(port, 3 * SILENT_LIMIT_BYTES) as (relay, has_carried):
        hostile = vehicle_socket(context, own, receiver.own.public)
        hostile.reconnect_ivl = -1
        hostile.connect(relay)
        if said_hello:
            assert isinstance(ask(hostile, HELLO), Welcome)
        assert hostile.poll(5000, zmq.POLLOUT)
        hostile.send_multipart([bytes(200_000)] * 30, copy=False)
        cut = receiver.receiver.connections.cut
        if said_hello:
            assert has_carried.wait(5)
            time.sleep(5 * GUARD_PERIOD_S)  # the guard looks several times
            assert not cut
        else:
            wait_for(lambda: cut == {"endless message": 1}, "the cut")


@pytest.fixture
def accepted() -> Iterator[list[sockets.socket]]:
    """The accepting ends of twelve connections."""
    with sockets.create_server(("127.0.0.1", 0)) as listener, ExitStack() as ends:
        found = []
        for _ in range(12):
            ends.enter_context(sockets.create_connection(listener.getsockname()))
            found.append(ends.enter_context(listener.accept()[0]))
        yield found


def test_a_key_revoked_before_its_first_word_loses_its_connection_and_nobody_else_does(accepted):
    table = ConnectionTable()
    for place, end in enumerate(accepted):
        table.accepted(end.fileno(), place)
    table.spoke(accepted[-1].fileno(), "", "revoked", 100)
    assert table.cut == {"key no longer enrolled": 1}
    assert len(table) == len(accepted) - 1
    assert accepted[-1].recv(1) == b"", "shut down"


def test_what_one_key_has_unfinished_is_counted_over_all_its_connections():
    """Each alone is within the limit; who has more than that in all loses every connection, and nobody else does."""
    table = ConnectionTable(unfinished_bytes=100_000)
    with sockets.create_server(("127.0.0.1", 0)) as listener, ExitStack() as ends:
        pairs = []
        for place, key in enumerate(["greedy", "greedy", "greedy", "modest", "modest"]):
            sender = ends.enter_context(sockets.create_connection(listener.getsockname()))
            pairs.append((sender, ends.enter_context(listener.accept()[0]), key))
            table.spoke(pairs[-1][1].fileno(), key, key, place)
        table.cut_endless()
        for sender, end, _ in pairs:
            sender.sendall(bytes(40_000))
            end.recv(40_000, sockets.MSG_WAITALL)
        table.cut_endless()
        assert table.cut == {"endless message": 3}
        assert {each.key for each in table._by_descriptor.values()} == {"modest"}


def test_a_number_that_is_used_again_by_the_same_key_is_another_connection(accepted):
    """Its first word counts, and what the one before it said is not its own."""
    heard: list[str] = []
    table = ConnectionTable(on_first_word=heard.append)
    old, new = accepted[:2]
    descriptor = old.fileno()
    table.spoke(descriptor, "car-1", "key", 0)
    table.spoke(descriptor, "car-1", "key", 1)
    assert heard == ["key"]
    os.dup2(new.fileno(), descriptor)
    table.spoke(descriptor, "car-1", "key", 2)
    assert heard == ["key", "key"]
    assert [each.messages for each in table._by_descriptor.values()] == [1]


def test_each_key_has_its_own_pace_so_that_a_fleet_may_come_back_at_once(now_ns):
    door = Handshakes(now_ns)
    assert not any(door.refusal(f"key {place}") for place in range(5000))
    for _ in range(HANDSHAKES_AT_ONCE - 1):
        door.spoke("key 0")
        assert door.refusal("key 0") == ""
    door.spoke("key 0")
    assert door.refusal("key 0") == TOO_MANY_HANDSHAKES
    assert door.refusal("key 1") == ""
    now_ns.ns += SECOND_NS
    assert door.refusal("key 0") == ""


def test_one_that_broke_off_unheard_counts_no_longer_than_it_could_have_stayed(now_ns):
    door = Handshakes(now_ns)
    assert [door.refusal("key") for _ in range(SILENT_A_KEY + 1)] == [""] * SILENT_A_KEY + [TOO_MANY_SILENT]
    now_ns.ns += int((connections.SILENCE_LIMIT_S + 1) * SECOND_NS)
    assert door.refusal("key") == ""


def test_a_vehicle_on_the_worst_link_is_let_in_at_its_uploaders_pace(now_ns):
    """Every handshake passes and every HELLO is lost: once in five seconds for an hour, and never refused."""
    door = Handshakes(now_ns)
    for _ in range(720):
        assert door.refusal("key") == ""
        now_ns.ns += 5 * SECOND_NS


def test_keys_that_stay_away_are_forgotten(now_ns):
    door = Handshakes(now_ns)
    for place in range(100):
        door.refusal(f"key {place}")
    now_ns.ns += IDLE_NS
    door.refusal("another")
    assert len(door) == 1
    assert handshakes.IDLE_NS > connections.SILENCE_LIMIT_S * SECOND_NS, "an account is kept while it counts"
