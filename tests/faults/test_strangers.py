"""Nobody gets in whom nobody enrolled, however the doorkeeper is set up or fails, and nobody speaks as another."""

from __future__ import annotations

import resource
import socket
from itertools import product
from pathlib import Path

import msgpack
import pytest
import zmq
from fault_bench import VEHICLE, Bench, FaultProcess
from message_relay import MessageRelay, Passing
from strangers import HELLO, STRANGERS, ask, connected, enrolled, own_keys, strangers_let_in, with_unknown_key

from runtime.uplink.keys import enroll, load_public_key, pin_receiver, revoke
from runtime.uplink.wire import MAX_PAYLOAD_BYTES, PROTOCOL_VERSION, Hello, Offer, TombstoneNotice, encode

DOMAINS = ("shadowrig", "", "*")
HANDLERS = ("at work", "hanging", "dying")
HALF_OPEN_CONNECTIONS = 1000
DESCRIPTORS_NEEDED = 4096
CHUNK = MAX_PAYLOAD_BYTES


def test_no_stranger_is_let_in_under_any_of_nine_zap_set_ups(bench):
    bench.start_receiver().stop()
    receiver_key = load_public_key(bench.receiver_keys / "receiver.public")
    let_in, refused_to_start = {}, set()
    for set_up, receiver in [(set_up, begin_with(bench, *set_up)) for set_up in product(DOMAINS, HANDLERS)]:
        address = receiver.next_line()
        if address is None:
            assert receiver.stop() != 0
            assert "would let strangers in" in receiver.errors
            refused_to_start.add(set_up)
        else:
            let_in[set_up] = strangers_let_in(address, receiver_key)
        receiver.kill()
    assert refused_to_start == {set_up for set_up in product(DOMAINS, HANDLERS) if set_up[0] != "shadowrig"}
    assert let_in == {("shadowrig", handler): [] for handler in HANDLERS}


def begin_with(bench: Bench, domain: str, handler: str) -> FaultProcess:
    """A receiver of its own folder and port whose doorkeeper is set up like that."""
    directory = bench.directory / f"receiver {domain} {handler}".replace("*", "any")
    zap = {"domain": domain, "handler": handler}
    return bench.begin_receiver(zap=zap, bind="tcp://127.0.0.1:*", directory=str(directory))


@pytest.mark.parametrize(("domain", "enforce"), [("", 1), ("", 0), ("shadowrig", 0)])
def test_libzmq_by_itself_does_let_the_same_stranger_in(domain, enforce):
    """The control of the test above: without our rules, its stranger is heard."""
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.curve_server, router.curve_publickey, router.curve_secretkey = 1, public, secret
        if domain:  # empty is libzmq's default, and may not be set
            router.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, enforce)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        stranger = with_unknown_key(context, public)
        stranger.connect(f"tcp://127.0.0.1:{port}")
        assert stranger.poll(5000, zmq.POLLOUT)
        stranger.send_multipart(HELLO)
        assert router.poll(5000)
        assert router.recv_multipart()[1:] == HELLO
        stranger.close(0)
        router.close(0)


def test_a_receiver_whose_authenticator_dies_stops_admits_nobody_and_loses_nothing(bench):
    receiver = bench.start_receiver(zap={"domain": "shadowrig", "handler": "dying", "after": 1})
    receiver_key = load_public_key(bench.receiver_keys / "receiver.public")
    with bench.open_spool() as spool:
        bench.seal(spool, 4 * CHUNK)
        bench.start_uploader(rate_bytes_per_s=1 << 20, reply_timeout_s=1.0)
        bench.wait(lambda: bench.durable_bytes() > 0, "a session under way")
        assert strangers_let_in(bench.address, receiver_key) == []
        bench.wait(lambda: not receiver.is_alive, "the receiver's end")
        assert receiver.stop() != 0
        assert "the authenticator has died" in receiver.errors
        assert spool.counts().pending == 1
        again = bench.start_receiver()
        bench.wait_for_delivery(spool)
    assert again.stop() == 0
    bench.check_both_ends()


def test_a_revoked_key_is_cut_off_in_its_live_session_and_its_clips_wait(bench):
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        bench.seal(spool, 8 * CHUNK, 100)
        uploader = bench.start_uploader(rate_bytes_per_s=1 << 20, reply_timeout_s=1.0)
        bench.wait(lambda: bench.durable_bytes() > 0, "a session under way")
        revoke(bench.receiver_keys, VEHICLE)
        bench.wait(lambda: is_shut_out(bench), "the end of the live session")
        wait_for_attempts(bench, 1)  # what came in before the cut has become durable by then
        held = bench.durable_bytes()
        wait_for_attempts(bench, 2)
        assert bench.durable_bytes() == held, "nothing more is taken from a revoked key"
        assert spool.counts().pending == 2
        enroll(bench.receiver_keys, VEHICLE, own_keys(bench.vehicle_keys).public)
        bench.wait_for_delivery(spool)
    assert uploader.stop() == receiver.stop() == 0
    bench.check_both_ends()


def wait_for_attempts(bench: Bench, attempts: int) -> None:
    """The uploader has tried to connect so many more times."""
    before = bench.uploader_status()["sessions"]
    bench.wait(lambda: bench.uploader_status()["sessions"] >= before + attempts, "more attempts")


def is_shut_out(bench: Bench) -> bool:
    """The uploader has tried to come back and says that its key is refused."""
    return "enrolled" in bench.uploader_status().get("last_error", "")


@pytest.mark.sweep
def test_a_forged_vehicle_field_is_refused_and_a_vehicle_writes_under_its_own_name_only(bench):
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        bench.seal(spool, 500)
        bench.start_uploader()
        bench.wait_for_delivery(spool)
    keys, receiver_key = enrolled(bench.receiver_keys, bench.directory / "car-2", "car-2")
    bench.wait(lambda: bench.receiver_status()["enrolled"] == 2, "the enrolment")
    digest = bytes.fromhex(bench.sealed[1])
    with connected(bench.address, keys, receiver_key) as forger:
        header = {"type": "HELLO", "version": PROTOCOL_VERSION, "software": "x", "vehicle": VEHICLE}
        answer = ask(forger, [msgpack.packb(header), b""])
        assert (answer["type"], answer["code"]) == ("NACK", "malformed")
        assert "vehicle" in answer["detail"]
        claim = b'{"vehicle": "car-1"}'
        assert ask(forger, [encode(Offer(1, digest, 500, "safety")), claim])["state"] == "new", (
            "car-1 has it, not car-2"
        )
        assert ask(forger, [encode(TombstoneNotice(1, "forged")), b""])["type"] == "TOMBSTONE"
        assert ask(forger, [encode(Hello(PROTOCOL_VERSION, "x")), b""])["type"] == "WELCOME"
    assert receiver.stop() == 0
    assert bench.stored_clips()[1] == set(), "the forger's tombstone is not car-1's"
    bench.check_both_ends()


@pytest.mark.sweep
def test_with_a_wrong_receiver_key_nothing_leaves_the_vehicle_and_the_right_one_delivers_it(bench):
    receiver = bench.start_receiver()
    right = load_public_key(bench.receiver_keys / "receiver.public")
    pin_receiver(bench.vehicle_keys, zmq.curve_keypair()[0])
    with bench.open_spool() as spool:
        bench.seal(spool, 1000)
        uploader = bench.start_uploader(reply_timeout_s=0.5)
        bench.wait(lambda: bench.uploader_status().get("sessions", 0) >= 2, "attempts")
        assert spool.counts().pending == 1
        assert bench.uploader_status()["bytes_sent"] == 0
        assert bench.uploader_status()["last_error"]
        assert uploader.stop() == 0
        assert bench.receiver_status()["received"] == {}
        pin_receiver(bench.vehicle_keys, right)
        bench.start_uploader()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    bench.check_both_ends()


@pytest.mark.sweep
def test_a_thousand_half_open_connections_hold_up_no_vehicle_and_are_closed(bench):
    with enough_descriptors():
        receiver = bench.start_receiver()
        silent = [socket.create_connection(("127.0.0.1", bench.receiver_port)) for _ in range(HALF_OPEN_CONNECTIONS)]
        with bench.open_spool() as spool:
            bench.seal(spool, 3 * CHUNK)
            uploader = bench.start_uploader(reply_timeout_s=5.0)
            bench.wait_for_delivery(spool)
        bench.wait(lambda: descriptors_of(receiver) < 100, "the silent connections to be closed")
        for one in silent:
            one.close()
    assert uploader.stop() == receiver.stop() == 0
    bench.check_both_ends()


def descriptors_of(process: FaultProcess) -> int:
    """Open files of a process."""
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))


class enough_descriptors:  # noqa: N801  used as a context only
    """Lets this process and its children open 4,096 files; skips where that is not allowed."""

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft, hard = self.before
        if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_NEEDED:
            pytest.skip(f"needs {DESCRIPTORS_NEEDED} open files, the limit here is {hard} (raise it: ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS_NEEDED), hard))

    def __exit__(self, *exception: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.before)


@pytest.mark.sweep
def test_a_receiver_of_another_version_is_told_apart_and_the_clips_wait_for_a_fitting_one(bench):
    receiver = bench.start_receiver()
    is_future = [True]

    def from_the_future(passing: Passing) -> list[list[bytes]]:
        if passing.kind != "WELCOME" or not is_future[0]:
            return [passing.frames]
        header = msgpack.unpackb(passing.frames[0])
        return [[msgpack.packb({**header, "version": 99}), b""]]

    with bench.open_spool() as spool:
        bench.seal(spool, 1000)
        with MessageRelay(bench.address, bench.vehicle_keys, bench.receiver_keys, from_the_future) as relay:
            uploader = bench.start_uploader(relay.address)
            bench.wait(lambda: "version 99" in bench.uploader_status().get("last_error", ""), "the complaint")
            assert spool.counts().pending == 1
            is_future[0] = False
            bench.wait_for_delivery(spool)
            assert uploader.stop() == 0
    with connected(
        bench.address, own_keys(bench.vehicle_keys), load_public_key(bench.receiver_keys / "receiver.public")
    ) as vehicle:
        answer = ask(vehicle, [encode(Hello(99, "from the future")), b""])
        assert (answer["type"], answer["code"]) == ("NACK", "version")
    assert receiver.stop() == 0
    bench.check_both_ends()


@pytest.mark.sweep
def test_every_stranger_is_refused_while_the_enrolled_vehicle_delivers(bench):
    receiver = bench.start_receiver()
    receiver_key = load_public_key(bench.receiver_keys / "receiver.public")
    with bench.open_spool() as spool:
        bench.seal(spool, 2 * CHUNK)
        bench.start_uploader(rate_bytes_per_s=1 << 18)
        bench.wait(lambda: bench.durable_bytes() > 0, "a session under way")
        assert strangers_let_in(bench.address, receiver_key) == []
        bench.wait_for_delivery(spool)
        assert bench.settled_figures()["handshakes_admitted"] == 1, f"not one of {len(STRANGERS)} strangers"
    assert receiver.stop() == 0
    bench.check_both_ends()
