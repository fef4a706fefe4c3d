"""Only libzmq numbers the receiver's connections: who chooses a number is barred, and gets nobody else's messages."""

from __future__ import annotations

import pytest
import zmq
from live_receiver import HELLO, REFUSAL_WAIT_MS, VEHICLE, ask, wait_for

from runtime.clock import SystemClock
from runtime.uplink.handshakes import SILENT_A_KEY
from runtime.uplink.keys import KeyPair, enroll
from runtime.uplink.routes import ID_COUNT, Routes, first_routing_id
from runtime.uplink.sockets import receiver_socket, vehicle_socket
from runtime.uplink.wire import Welcome


def choosing(context, pair, receiver, chosen: bytes):
    """A connection with an id of its own choice."""
    socket = vehicle_socket(context, pair, receiver.own.public)
    socket.setsockopt(zmq.ROUTING_ID, chosen)
    socket.connect(receiver.address)
    return socket


def other_vehicle(receiver, keys) -> KeyPair:
    """Another one, enrolled as car-2."""
    pair = KeyPair(*zmq.curve_keypair())
    enroll(keys[1], "car-2", pair.public)
    wait_for(lambda: receiver.receiver._enrolled.vehicle_of(pair.public), "the enrolment to be read")
    return pair


@pytest.mark.parametrize("chosen", [b"car-2", b"\0fixed", b"\0car"])
def test_a_routing_id_of_its_own_choice_gets_no_answer_and_bars_its_vehicle(context, receiver, vehicle, own, chosen):
    assert isinstance(ask(vehicle, HELLO), Welcome)
    socket = choosing(context, own, receiver, chosen)
    assert ask(socket, HELLO, REFUSAL_WAIT_MS) is None
    assert receiver.receiver.dropped["fixed routing id"] == 1
    assert receiver.receiver.connections.cut["fixed routing id"] == 2, "its other connection, too"
    assert receiver.receiver.reception.meters.barred == 1
    assert ask(vehicle, HELLO, REFUSAL_WAIT_MS) is None, "barred"


def test_who_looks_for_the_next_routing_id_has_one_guess(context, receiver, vehicle, own, keys):
    """libzmq ends the process when it would give out one that is taken: a WELCOME would tell a finder which it is."""
    other = vehicle_socket(context, other_vehicle(receiver, keys), receiver.own.public)
    other.connect(receiver.address)
    assert isinstance(ask(vehicle, HELLO), Welcome)
    assert isinstance(ask(other, HELLO), Welcome)
    begin = receiver.receiver._routes._first
    guesses = [choosing(context, own, receiver, number(begin, place)) for place in (1000, 2000, 3000)]
    for guess in guesses:
        assert guess.poll(5000, zmq.POLLOUT)
    for guess in guesses:
        guess.send_multipart(HELLO)
    assert not any(guess.poll(REFUSAL_WAIT_MS) for guess in guesses)
    assert receiver.receiver.dropped["fixed routing id"] == 1
    assert receiver.receiver.reception.meters.barred == 1
    assert isinstance(ask(other, HELLO), Welcome), "another vehicle notices nothing"
    assert receiver.error is None


def test_what_a_barred_vehicle_still_says_is_not_answered(context, receiver, vehicle, own):
    assert isinstance(ask(vehicle, HELLO), Welcome)
    before = receiver.receiver.reception.received["HELLO"]
    receiver.receiver.reception.meters.bar(VEHICLE, SystemClock().wall_ns())
    assert ask(vehicle, HELLO, REFUSAL_WAIT_MS) is None
    assert receiver.receiver.dropped["barred"] == 1
    assert receiver.receiver.reception.received["HELLO"] == before


def test_the_number_of_a_vehicle_that_has_left_brings_nobody_its_messages(context, receiver, vehicle, keys):
    assert isinstance(ask(vehicle, HELLO), Welcome)
    left = receiver.receiver._routes.get(VEHICLE)
    vehicle.close(0)
    thief = choosing(context, other_vehicle(receiver, keys), receiver, left)
    assert ask(thief, HELLO, REFUSAL_WAIT_MS) is None
    assert receiver.receiver._routes.get("car-2") is None


def number(first: int, place: int) -> bytes:
    return b"\0" + ((first + place) % ID_COUNT).to_bytes(4, "big")


def test_numbers_count_only_where_libzmq_has_counted():
    first = ID_COUNT - 2  # they go on at zero
    admitted = 3
    routes = Routes(number(first, 0), lambda: admitted)
    assert not routes.is_given(number(first, 0), "car-1"), "that was our own"
    assert routes.is_given(number(first, 1), "car-1")
    assert routes.is_given(number(first, 3), "car-1")
    assert not routes.is_given(number(first, 4), "car-1"), "nobody can have it yet"
    assert not routes.is_given(number(first, -1), "car-1")
    assert routes.is_new("car-1", number(first, 3))
    assert not routes.is_given(number(first, 3), "car-2")
    admitted = 4
    assert routes.is_given(number(first, 4), "car-1")
    assert routes.is_new("car-1", number(first, 4)), "a new connection"
    assert routes.is_given(number(first, 3), "car-2"), "of nobody any more, and nobody's messages go there"


def test_connections_that_said_nothing_shut_nobody_out():
    """An id is used up by each of them; an honest one after any number of them is let in."""
    routes = Routes(number(7, 0), lambda: 1 << 20)
    assert routes.is_given(number(7, 1 << 20), "car-1")


def test_each_handshake_counts_before_its_connection_can_speak(context, receiver, vehicle, own):
    """Connections that come and go without a word move the bound, so that the next one's id is within it."""
    assert isinstance(ask(vehicle, HELLO), Welcome)
    silent_connections = SILENT_A_KEY - 1
    for _ in range(silent_connections):
        with vehicle_socket(context, own, receiver.own.public) as silent:
            monitor = silent.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            silent.connect(receiver.address)
            assert monitor.poll(REFUSAL_WAIT_MS)
            silent.disable_monitor()
    last = vehicle_socket(context, own, receiver.own.public)
    last.connect(receiver.address)
    assert isinstance(ask(last, HELLO), Welcome)
    begin = receiver.receiver._routes._first
    assert number(begin, silent_connections + 2) == receiver.receiver._routes.get(VEHICLE)


def test_libzmq_numbers_its_peers_one_after_the_other(context, own):
    """What `Routes` builds on; a libzmq that does otherwise fails here."""
    router = receiver_socket(context, own)
    first = first_routing_id(context, router)
    plain = context.socket(zmq.ROUTER)
    begin = int.from_bytes(first_routing_id(context, plain)[1:], "big")
    port = plain.bind_to_random_port("tcp://127.0.0.1")
    assert (len(first), first[0]) == (5, 0)
    for place in range(1, 4):
        dealer = context.socket(zmq.DEALER)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send(b"x")
        assert plain.recv_multipart()[0] == number(begin, place)
