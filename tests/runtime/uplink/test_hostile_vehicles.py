"""An enrolled vehicle that turns hostile: it exhausts neither memory, connections, disk nor the receiver's time."""

from __future__ import annotations

import contextlib
import hashlib
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zmq
from live_receiver import HELLO, REFUSAL_WAIT_MS, VEHICLE, RunningReceiver, ask, heard, wait_for

from runtime.uplink import connection_guard, connections, incoming
from runtime.uplink import receiver as receiver_module
from runtime.uplink.beside import ThreadDeathError
from runtime.uplink.connections import CONNECTIONS_A_VEHICLE, ConnectionTable
from runtime.uplink.incoming import MOST_FRAMES
from runtime.uplink.keys import KeyPair, enroll, revoke
from runtime.uplink.limits import VehicleLimits, VehicleMeters
from runtime.uplink.pace import Pace
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.wire import Chunk, Hello, Offer, TombstoneNotice, Welcome, encode

SECOND_NS = 1_000_000_000
DIGEST = bytes(range(32))
#: 35 bytes a frame on the wire.
FRAMES_A_MESSAGE, MESSAGES_OF_FRAMES = 30_000, 3


@pytest.fixture
def honest(context, receiver, keys):
    """Another vehicle, which must not notice."""
    pair = KeyPair(*zmq.curve_keypair())
    enroll(keys[1], "car-2", pair.public)
    wait_for(lambda: receiver.receiver._enrolled.vehicle_of(pair.public), "the enrolment to be read")
    socket = vehicle_socket(context, pair, receiver.own.public)
    socket.connect(receiver.address)
    return socket


ENDLESS = """
import sys, zmq
from runtime.uplink.keys import load_keys
from runtime.uplink.sockets import vehicle_socket
from pathlib import Path
context = zmq.Context()
socket = vehicle_socket(context, load_keys(Path(sys.argv[1]), "vehicle"), sys.argv[2].encode())
socket.connect(sys.argv[3])
frame = zmq.Frame(bytes(200_000))
for _ in range(int(sys.argv[4])):
    socket.send(frame, zmq.SNDMORE, copy=False)  # a gigabyte in one message, of one buffer
socket.send(b"")
print("sent", flush=True)
sys.stdin.read()
"""


def test_an_endless_message_is_cut_before_it_fills_the_memory(context, receiver, honest, keys):
    attack = [sys.executable, "-c", ENDLESS, str(keys[0]), receiver.own.public.decode(), receiver.address, "5000"]
    with subprocess.Popen(attack, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as attacker:
        try:
            assert attacker.stdout.readline() == "sent\n"
            wait_for(lambda: receiver.receiver.connections.cut["endless message"], "the connection to be cut")
            assert isinstance(ask(honest, HELLO), Welcome)
            assert "HELLO" in receiver.receiver.reception.received
            assert not receiver.receiver.reception.nacks, "the message never became one"
        finally:
            attacker.kill()


def test_a_message_of_very_many_frames_bars_its_vehicle_at_once_and_is_never_held_whole(
    context, receiver, own, vehicle, honest, monkeypatch
):
    """A mebibyte of frames of nothing: what makes objects of all of them holds the one loop, and every vehicle."""
    kept: list[int] = []
    receive = incoming.first_frames

    def first_frames(socket: zmq.Socket) -> list[zmq.Frame]:
        frames = receive(socket)
        kept.append(len(frames))
        return frames

    monkeypatch.setattr(receiver_module, "first_frames", first_frames)
    beside = vehicle_socket(context, own, receiver.own.public)
    beside.connect(receiver.address)
    assert all(isinstance(ask(each, HELLO), Welcome) for each in (honest, beside, vehicle))
    for _ in range(MESSAGES_OF_FRAMES):
        with contextlib.suppress(zmq.Again):  # cut after the first
            vehicle.send_multipart([b""] * FRAMES_A_MESSAGE, zmq.NOBLOCK)
    wait_for(lambda: receiver.receiver.reception.meters.barred, "the vehicle to be barred")
    assert isinstance(ask(honest, HELLO), Welcome)
    dropped, cut = receiver.receiver.dropped, receiver.receiver.connections.cut
    wait_for(lambda: dropped["surplus frames"] >= FRAMES_A_MESSAGE - MOST_FRAMES, "the rest to be dropped")
    assert dropped["too many frames"] == 1, "the first such message bars"
    assert cut["too many frames"] == 2, "the connection beside it goes, too"
    assert max(kept) == MOST_FRAMES
    assert not receiver.receiver.reception.nacks, "nobody has looked into it"
    assert not vehicle.poll(0)
    assert isinstance(ask(honest, HELLO), Welcome)
    wait_for(lambda: receiver.figures.get("dropped", {}).get("too many frames"), "the count to be told")
    assert receiver.figures["handshakes_admitted"] == 3, "the honest vehicle kept its session"


def test_a_message_of_a_few_frames_too_many_is_answered_as_malformed_and_bars_nobody(receiver, vehicle):
    assert ask(vehicle, [b""] * (MOST_FRAMES - 1)).code == "malformed"
    assert isinstance(ask(vehicle, HELLO), Welcome)
    assert ask(vehicle, [b""] * MOST_FRAMES, REFUSAL_WAIT_MS) is None
    assert receiver.receiver.dropped["too many frames"] == 1


@pytest.fixture
def blocked(receiver, monkeypatch):
    """The receiver's loop waits for a disk or a database that does not answer."""
    gate, is_blocked = threading.Event(), threading.Event()

    def wait(*_: object) -> list:
        is_blocked.set()
        gate.wait()
        return []

    monkeypatch.setattr(receiver.receiver.reception, "pulls_due", wait)
    assert is_blocked.wait(5)
    yield
    gate.set()


def test_an_endless_message_is_cut_while_the_receivers_loop_waits_for_its_disk(receiver, keys, blocked):
    attack = [sys.executable, "-c", ENDLESS, str(keys[0]), receiver.own.public.decode(), receiver.address, "5000"]
    with subprocess.Popen(attack, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as attacker:
        try:
            wait_for(lambda: receiver.receiver.connections.cut["endless message"], "the connection to be cut")
        finally:
            attacker.kill()


def test_a_revoked_vehicle_is_cut_off_while_the_receivers_loop_waits_for_its_disk(vehicle, keys, receiver, request):
    assert isinstance(ask(vehicle, HELLO), Welcome)
    monitor = vehicle.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    request.getfixturevalue("blocked")
    revoke(keys[1], VEHICLE)
    assert monitor.poll(5000)
    monitor.close(0)


def test_a_guard_that_hangs_ends_the_receiver(receiver, monkeypatch):
    """The folder of keys lies on a server that is away: nobody would be cut off any more."""
    gate = threading.Event()
    monkeypatch.setattr(connection_guard, "HANG_LIMIT_S", 0.3)
    monkeypatch.setattr(connection_guard, "HANG_GRACE_S", 0.2)
    monkeypatch.setattr(receiver.receiver._enrolled, "reload", lambda meanwhile: gate.wait())
    receiver.thread.join(10)
    assert not receiver.thread.is_alive()
    assert isinstance(receiver.error, ThreadDeathError)
    assert "guard hangs" in str(receiver.error)
    gate.set()


REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_vehicle_holds_a_bounded_number_of_connections(context, receiver, own, honest):
    sockets = []
    for _ in range(CONNECTIONS_A_VEHICLE + 4):
        sockets.append(vehicle_socket(context, own, receiver.own.public))
        sockets[-1].reconnect_ivl = -1
        sockets[-1].connect(receiver.address)
        assert isinstance(ask(sockets[-1], HELLO), Welcome)
    wait_for(lambda: receiver.receiver.connections.cut["too many of one vehicle"] == 4, "the oldest to be cut")
    assert isinstance(ask(sockets[-1], HELLO), Welcome), "the newest stays"
    assert isinstance(ask(honest, HELLO), Welcome)


def test_a_connection_that_says_nothing_is_cut(context, receiver, own, honest, monkeypatch):
    monkeypatch.setattr(connections, "SILENCE_LIMIT_S", 0.5)
    silent = vehicle_socket(context, own, receiver.own.public)
    silent.reconnect_ivl = -1
    monitor = silent.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    silent.connect(receiver.address)
    assert isinstance(ask(honest, HELLO), Welcome)
    assert monitor.poll(5000)
    monitor.close(0)
    assert isinstance(ask(honest, HELLO), Welcome), "one that has spoken may be silent"


def test_a_flood_of_garbage_bars_its_vehicle_for_a_while_and_no_other(tmp_path, context, keys, own):
    limits = VehicleLimits(faults_at_once=50, faults_per_s=1, barred_s=1.5)
    running = RunningReceiver(tmp_path / "receiver", keys[1], limits=limits)
    try:
        socket = vehicle_socket(context, own, running.own.public)
        socket.connect(running.address)
        assert isinstance(ask(socket, HELLO), Welcome)
        for _ in range(200):
            if not socket.poll(200, zmq.POLLOUT):
                break
            with contextlib.suppress(zmq.Again):  # cut between the question and the sending
                socket.send_multipart([b"garbage", b""], zmq.NOBLOCK)
        wait_for(lambda: running.receiver.connections.cut["barred"], "the cut")
        assert running.receiver.reception.meters.barred == 1
        wait_for(lambda: running.figures.get("handshakes_refused", {}).get("barred for a while"), "a refused handshake")

        def is_welcome_again() -> bool:
            with vehicle_socket(context, own, running.own.public) as again:  # libzmq does not retry what ZAP refused
                again.connect(running.address)
                return isinstance(ask(again, HELLO, 500), Welcome)

        wait_for(is_welcome_again, "the end of it")
    finally:
        running.end()


def test_asking_too_fast_is_answered_so_and_costs_the_disk_nothing(tmp_path, context, keys, own):
    limits = VehicleLimits(durable_at_once=20, durable_per_s=0.001)
    running = RunningReceiver(tmp_path / "receiver", keys[1], limits=limits)
    try:
        socket = vehicle_socket(context, own, running.own.public)
        socket.connect(running.address)
        for n in range(1, 41):
            answer = ask(socket, [encode(TombstoneNotice(n, "x")), b""])
            assert isinstance(answer, TombstoneNotice) or answer.code == "too_fast"
        assert len(running.receiver.store.catalogue.tombstones(VEHICLE)) in (20, 21), "a bucket is overdrawn once"
        assert isinstance(ask(socket, HELLO), Welcome), "what costs nothing goes on"
        refused = ask(socket, [encode(Offer(99, DIGEST, 10, "low")), b"{}"])
        assert (refused.code, refused.n) == ("too_fast", 99)
        assert running.receiver.reception.meters.barred == 0
    finally:
        running.end()


def test_replies_to_a_vehicle_that_does_not_read_are_dropped_not_kept(context, receiver, own, honest):
    deaf = vehicle_socket(context, own, receiver.own.public)
    deaf.setsockopt(zmq.RCVHWM, 1)
    deaf.connect(receiver.address)
    assert deaf.poll(5000, zmq.POLLOUT)
    for _ in range(3000):
        if deaf.poll(1000, zmq.POLLOUT):
            with contextlib.suppress(zmq.Again):
                deaf.send_multipart(HELLO, zmq.NOBLOCK)
    assert isinstance(ask(honest, HELLO), Welcome)


# -- the meters, without sockets


def test_one_vehicles_haste_is_its_own():
    meters = VehicleMeters(VehicleLimits(requests_at_once=5, requests_per_s=1))
    hello = Hello(2, "x")
    assert sum(meters.admit("hasty", hello, 0) for _ in range(50)) == 5
    assert meters.admit("calm", hello, 0)
    assert meters.admit("hasty", hello, 2 * SECOND_NS), "after a while it may again"


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_a_clock_that_jumps_a_day_neither_bars_for_a_day_nor_opens_the_gates(jump_s):
    meters = VehicleMeters(VehicleLimits(faults_at_once=2, faults_per_s=1, barred_s=60))
    start_ns = 10 * 86_400 * SECOND_NS
    for _ in range(5):
        meters.fault("car", start_ns)
    assert meters.is_barred("car", start_ns + SECOND_NS)
    assert not meters.is_barred("car", start_ns + jump_s * SECOND_NS)
    pace = Pace(1, 5)
    assert pace.is_open(start_ns)
    pace.spend(5)
    assert pace.is_open(start_ns + jump_s * SECOND_NS) == (jump_s > 0)
    pace.spend(5)
    assert not pace.is_open(start_ns + jump_s * SECOND_NS), "a jump fills one burst at most"


def test_a_revoked_vehicle_leaves_no_meter_behind():
    meters = VehicleMeters(VehicleLimits())
    meters.fault("gone", 0)
    meters.forget_except(["here"])
    assert not meters._meters


def test_a_descriptor_that_now_belongs_to_another_is_not_cut():
    table = ConnectionTable()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send(b"x")
        descriptor = router.recv_multipart(copy=False)[-1].get(zmq.SRCFD)
        table.spoke(descriptor, "car", "key", 0)
        (connection,) = table._by_descriptor.values()
        connection.peer = ("127.0.0.1", 1)  # as if the number had been given to somebody else since
        table.cut_where("test", lambda each: True)
        dealer.send(b"y")
        assert router.poll(2000), "still connected"
        assert not table.cut
        assert len(table) == 0
        dealer.linger = router.linger = 0
    table.spoke(10_000, "car", "key", 0)
    assert len(table) == 0, "nor is one followed that is not there"


def test_connections_are_bounded_by_the_hard_limit_of_open_files_not_the_soft_one():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        connections.allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, connections.MOST_OPEN_FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_bad_chunk_counts_as_a_fault(context, receiver, own):
    socket = vehicle_socket(context, own, receiver.own.public)
    socket.connect(receiver.address)
    payload = random.Random(1).randbytes(100)
    digest = hashlib.sha256(payload).digest()
    ask(socket, [encode(Offer(1, digest, 100, "low")), b"{}"])
    answer = ask(socket, [encode(Chunk(1, digest, 0, digest)), payload[:-1] + b"\0"])
    assert (answer.code, answer.n) == ("bad_chunk_hash", 1)
    meter = receiver.receiver.reception.meters._meters[VEHICLE]
    assert meter.faults._tokens < VehicleLimits().faults_at_once
    assert heard(socket, 50) is None
