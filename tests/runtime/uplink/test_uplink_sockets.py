"""Receiver and uploader over real encrypted sockets on loopback; strangers, hostile vehicles, a dying doorkeeper."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path

import msgpack
import pytest
import zmq
from live_receiver import (
    HELLO,
    PATIENCE_S,
    REFUSAL_WAIT_MS,
    VEHICLE,
    CalledVerifier,
    RunningReceiver,
    ask,
    heard,
    wait_for,
)

from runtime.clock import SystemClock
from runtime.messages import Priority
from runtime.spool import Spool
from runtime.uplink import authenticator
from runtime.uplink.authenticator import AuthenticatorError, ZapAuthenticator
from runtime.uplink.beside import ThreadDeathError
from runtime.uplink.delivery import DeliveryLimits
from runtime.uplink.keys import EnrolledVehicles, KeyPair, load_keys, revoke
from runtime.uplink.sockets import receiver_socket, vehicle_socket
from runtime.uplink.storage import folder_depot
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.housekeeping import HousekeepingThread
from runtime.uplink.uploader import Uploader, UploaderSettings
from runtime.uplink.verification import VerifierDiedError, VerifierThread
from runtime.uplink.wire import MAX_PAYLOAD_BYTES, Ack, Chunk, Commit, Done, Hello, Offer, Welcome, encode


def test_clips_are_delivered_verified_and_gone_from_the_vehicle(tmp_path, keys):
    seen: list[Path] = []

    def verify(path: Path) -> list[str]:
        seen.append(path)
        if path.read_bytes() == b"raise":
            raise VerifierDiedError("ended by SIGSEGV")
        return [] if path.read_bytes() == b"good" else ["camera front has a gap"]

    running = RunningReceiver(tmp_path / "receiver", keys[1], CalledVerifier(verify))
    with Spool.open(tmp_path / "spool", 64 << 20) as spool:
        for content in (b"good", b"bad", b"raise"):
            draft = spool.begin(10, Priority.HIGH)
            draft.path.write_bytes(content)
            spool.seal(draft, {"rule": "takeover"})
        settings = UploaderSettings(running.address, keys[0], backoff_first_s=0.05)
        published: dict = {}
        uploader = Uploader(
            spool,
            settings,
            load_keys(keys[0], "vehicle"),
            running.own.public,
            SystemClock(),
            random.Random(1),
            published.update,
        )
        stop = threading.Event()
        thread = threading.Thread(target=uploader.run, args=(stop,))
        thread.start()
        wait_for(lambda: spool.counts().delivered == 3, "delivery")
        wait_for(lambda: running.figures.get("unverified") == 0 and running.figures["clips"] == 3, "verification")
        clips = running.receiver.store.catalogue.clips(running.receiver.store.directory, VEHICLE)
        stop.set()
        thread.join(PATIENCE_S)
        assert list((tmp_path / "spool" / "clips").iterdir()) == []
    running.end()
    assert running.error is None
    assert published["clips_delivered"] == 3
    assert [clip.verified for clip in clips] == [True, False, False]
    assert clips[1].problems == "camera front has a gap"
    assert clips[2].problems == "[verifier] the verifier died of it 2 times: ended by SIGSEGV"
    assert clips[0].metadata == '{"rule":"takeover"}'
    assert clips[0].path.parent.parent.name == VEHICLE
    assert seen == [*(clip.path for clip in clips), clips[2].path]


def plain(context, receiver, own):
    """No encryption, no key."""
    return context.socket(zmq.DEALER)


def unenrolled(context, receiver, own):
    """Knows the receiver's key, but nobody enrolled its own."""
    return vehicle_socket(context, KeyPair(*zmq.curve_keypair()), receiver.own.public)


def wrong_receiver_key(context, receiver, own):
    """Enrolled, but talks to somebody it takes for another."""
    return vehicle_socket(context, own, zmq.curve_keypair()[0])


def password(context, receiver, own):
    """Tries PLAIN where CURVE is spoken."""
    socket = context.socket(zmq.DEALER)
    socket.plain_username, socket.plain_password = b"admin", b"admin"
    return socket


@pytest.mark.parametrize("stranger", [plain, unenrolled, wrong_receiver_key, password])
def test_a_stranger_is_not_let_in(context, receiver, vehicle, own, stranger):
    socket = stranger(context, receiver, own)
    socket.linger = 0
    socket.connect(receiver.address)
    assert ask(socket, HELLO, REFUSAL_WAIT_MS) is None
    assert not receiver.receiver.reception.received
    assert isinstance(ask(vehicle, HELLO), Welcome), "the enrolled vehicle is"
    assert receiver.receiver.reception.received == {"HELLO": 1}


@pytest.mark.parametrize("handler", [None, "hanging"])
def test_without_an_authenticator_at_work_nobody_gets_in(context, keys, own, handler):
    receiver_keys = load_keys(keys[1], "receiver")
    if handler == "hanging":
        dead = context.socket(zmq.ROUTER)
        dead.bind("inproc://zeromq.zap.01")
    router = receiver_socket(context, receiver_keys)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    socket = vehicle_socket(context, own, receiver_keys.public)
    socket.connect(f"tcp://127.0.0.1:{port}")
    assert not socket.poll(REFUSAL_WAIT_MS, zmq.POLLOUT), "no handshake completes"
    assert not router.poll(0)


def test_the_receiver_stops_when_its_authenticator_dies(context, receiver, own, monkeypatch):
    def die(self, request):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ZapAuthenticator, "judge", die)
    socket = vehicle_socket(context, own, receiver.own.public)
    socket.connect(receiver.address)
    receiver.thread.join(PATIENCE_S)
    assert isinstance(receiver.error, AuthenticatorError)
    assert "out of memory" in str(receiver.error)


@pytest.fixture
def hanging(monkeypatch):
    """An authenticator that never answers; the event that lets it go on."""
    release = threading.Event()
    judge = ZapAuthenticator.judge

    def hang(self, request):
        release.wait()
        return judge(self, request)

    monkeypatch.setattr(ZapAuthenticator, "judge", hang)
    monkeypatch.setattr(authenticator, "STOP_TIMEOUT_S", 0.2)
    monkeypatch.setattr(authenticator, "HANG_GRACE_S", 0.2)
    yield release
    release.set()


def test_the_receiver_stops_when_its_authenticator_hangs(context, receiver, own, hanging, monkeypatch):
    monkeypatch.setattr(authenticator, "HANG_LIMIT_S", 0.5)
    socket = vehicle_socket(context, own, receiver.own.public)
    socket.connect(receiver.address)
    receiver.thread.join(PATIENCE_S)
    assert not receiver.thread.is_alive(), "it would wait for it for ever"
    assert isinstance(receiver.error, AuthenticatorError)
    assert "hangs" in str(receiver.error)
    assert not socket.poll(0, zmq.POLLOUT), "and nobody was let in"


def test_a_receiver_that_is_told_to_stop_does_so_while_its_authenticator_hangs(context, receiver, own, hanging):
    socket = vehicle_socket(context, own, receiver.own.public)
    monitor = socket.get_monitor_socket(zmq.EVENT_CONNECTED)
    socket.connect(receiver.address)
    assert monitor.poll(5000)
    monitor.close(0)
    assert not socket.poll(500, zmq.POLLOUT), "its handshake waits"
    receiver.end()
    assert receiver.error is None
    hanging.set()  # woken up later it finds its socket gone, and ends


def test_an_authenticator_whose_process_was_paused_is_not_taken_for_one_that_hangs(context, keys):
    doorkeeper = ZapAuthenticator(context, "shadowrig", EnrolledVehicles(keys[1]))
    doorkeeper.start()
    for now_s in (0, 1, 3600, 7200):
        doorkeeper.raise_if_dead(now_s * 1_000_000_000)
    doorkeeper.stop()


@pytest.mark.parametrize("domain", ["", "*"])
def test_a_domain_that_fails_open_is_refused(context, keys, domain):
    with pytest.raises(AuthenticatorError, match="strangers"):
        ZapAuthenticator(context, domain, EnrolledVehicles(keys[1]))


def test_a_second_authenticator_in_one_context_is_refused(context, keys):
    first = ZapAuthenticator(context, "shadowrig", EnrolledVehicles(keys[1]))
    first.start()
    with pytest.raises(AuthenticatorError, match="in use"):
        ZapAuthenticator(context, "shadowrig", EnrolledVehicles(keys[1])).start()
    first.stop()


def test_only_our_domain_curve_and_an_enrolled_key_are_admitted(context, keys, own):
    doorkeeper = ZapAuthenticator(context, "shadowrig", EnrolledVehicles(keys[1]))
    key = zmq.utils.z85.decode(own.public)
    good = [b"1.0", b"1", b"shadowrig", b"127.0.0.1", b"", b"CURVE", key]
    assert doorkeeper.judge(good) == (own.public, "")
    for position, value in [
        (0, b"2.0"),
        (2, b""),
        (2, b"other"),
        (5, b"NULL"),
        (5, b"PLAIN"),
        (6, bytes(32)),
        (6, b""),
    ]:
        bad = list(good)
        bad[position] = value
        assert doorkeeper.judge(bad)[1], (position, value)
    assert doorkeeper.judge(good[:-1])[1]
    assert doorkeeper.judge([*good, b""])[1]


def test_a_revoked_vehicle_is_cut_off_in_its_live_session(context, receiver, vehicle, keys):
    assert isinstance(ask(vehicle, HELLO), Welcome)
    monitor = vehicle.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    revoke(keys[1], VEHICLE)
    assert monitor.poll(5000), "the receiver cuts the connection, though the vehicle says nothing"
    monitor.close(0)
    wait_for(lambda: receiver.receiver.connections.cut == {"key no longer enrolled": 1}, "the count of it")
    assert ask(vehicle, HELLO, REFUSAL_WAIT_MS) is None
    again = vehicle_socket(context, load_keys(keys[0], "vehicle"), receiver.own.public)
    again.connect(receiver.address)
    assert ask(again, HELLO, REFUSAL_WAIT_MS) is None, "and no new session begins"


def test_a_forged_vehicle_name_is_refused(vehicle, receiver):
    header = msgpack.packb({"type": "HELLO", "version": 1, "software": "x", "vehicle": "car-2"})
    answer = ask(vehicle, [header, b""])
    assert (answer.code, "vehicle" in answer.detail) == ("malformed", True)


def test_a_wrong_version_is_told_so(vehicle):
    assert ask(vehicle, [encode(Hello(99, "future")), b""]).code == "version"


def test_garbage_from_an_enrolled_vehicle_is_counted_and_answered(vehicle, receiver):
    rng = random.Random(4)
    for count in (1, 2, 3, 7):
        answer = ask(vehicle, [rng.randbytes(rng.randint(0, 5000)) for _ in range(count)])
        assert answer.code == "malformed"
    assert receiver.receiver.reception.nacks == {"malformed": 4}
    assert isinstance(ask(vehicle, HELLO), Welcome)


@pytest.mark.parametrize(
    ("name", "broken"), [("verifier", "turn"), ("housekeeping", "turn")], ids=["verifier", "housekeeping"]
)
def test_a_receiver_whose_helper_dies_ends_instead_of_going_on_without(tmp_path, keys, monkeypatch, name, broken):
    owner = VerifierThread if name == "verifier" else HousekeepingThread

    def unforeseen(*arguments):
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(owner, broken, unforeseen)
    running = RunningReceiver(tmp_path / "receiver", keys[1], CalledVerifier(lambda path: []))
    running.thread.join(PATIENCE_S)
    assert isinstance(running.error, ThreadDeathError)
    assert f"{name} has died: ZeroDivisionError" in str(running.error)


@pytest.mark.parametrize("ending", ["stored", "wrong hash"])
def test_a_large_clip_is_hashed_beside_the_loop_and_others_are_served_meanwhile(vehicle, receiver, monkeypatch, ending):
    content = random.Random(1).randbytes(FolderDepot.slow_from_bytes)
    digest = hashlib.sha256(content).digest()
    assert ask(vehicle, [encode(Offer(1, digest, len(content), "high")), b"{}"]).state == "new"
    for offset in range(0, len(content), MAX_PAYLOAD_BYTES):
        part = content[offset : offset + MAX_PAYLOAD_BYTES]
        chunk = [encode(Chunk(1, digest, offset, hashlib.sha256(part).digest())), part]
        assert isinstance(ask(vehicle, chunk), Ack)
    begun, go_on = threading.Event(), threading.Event()
    real = folder_depot.sha256_of

    def slow(path):
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return real(path) if ending == "stored" else "0" * 64

    monkeypatch.setattr(folder_depot, "sha256_of", slow)
    vehicle.send_multipart([encode(Commit(1, digest)), b""])
    assert begun.wait(PATIENCE_S)
    assert isinstance(ask(vehicle, HELLO), Welcome), "served while it is hashed"
    part = bytes(1000)
    overwriting = [encode(Chunk(1, digest, 0, hashlib.sha256(part).digest())), part]
    assert isinstance(ask(vehicle, overwriting), Ack), "held already; nothing is written under the hash"
    go_on.set()
    outcome = heard(vehicle)
    if ending == "stored":
        assert isinstance(outcome, Done)
        (clip,) = receiver.receiver.store.catalogue.clips(receiver.receiver.store.directory)
        assert clip.path.read_bytes() == content
    else:
        assert outcome.code == "bad_file_hash"
        assert receiver.receiver.store.catalogue.partials() == []


def test_an_oversize_frame_ends_that_connection_and_no_other(context, receiver, vehicle, own):
    assert isinstance(ask(vehicle, HELLO), Welcome)
    hostile = vehicle_socket(context, own, receiver.own.public)
    monitor = hostile.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    hostile.connect(receiver.address)
    assert hostile.poll(5000, zmq.POLLOUT)
    hostile.send_multipart([HELLO[0], bytes(MAX_PAYLOAD_BYTES * 4)])
    assert monitor.poll(5000), "the receiver closes the connection"
    monitor.close(0)
    assert isinstance(ask(vehicle, HELLO), Welcome)
    assert receiver.receiver.reception.received == {"HELLO": 2}


def test_an_uploader_that_is_refused_says_why_and_goes_on_trying(tmp_path, receiver, keys):
    with Spool.open(tmp_path / "spool", 64 << 20) as spool:
        settings = UploaderSettings(
            receiver.address, keys[0], backoff_first_s=0.01, limits=DeliveryLimits(reply_timeout_s=0.5)
        )
        stranger = KeyPair(*zmq.curve_keypair())
        published: dict = {}
        uploader = Uploader(
            spool, settings, stranger, receiver.own.public, SystemClock(), random.Random(1), published.update
        )
        stop = threading.Event()
        thread = threading.Thread(target=uploader.run, args=(stop,))
        thread.start()
        wait_for(lambda: published.get("sessions", 0) >= 3, "another attempt")
        stop.set()
        thread.join(PATIENCE_S)
    assert "enrolled" in published["last_error"]
