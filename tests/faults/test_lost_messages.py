"""Messages lost, repeated, reordered, replayed and damaged between the two ends: each clip arrives once, unharmed."""

from __future__ import annotations

import hashlib

import msgpack
import pytest
import zmq
from fault_bench import Bench
from message_relay import Frames, Meddler, MessageRelay, damage, lose, reorder, repeat

from runtime.uplink.keys import load_keys, load_public_key
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.window import SMALLEST_BYTES
from runtime.uplink.wire import MAX_PAYLOAD_BYTES

CHUNK = MAX_PAYLOAD_BYTES
WINDOW_AND_CHUNK_BYTES = (8 << 20) + CHUNK
QUICK = {"reply_timeout_s": 0.7}


def deliver_through(bench: Bench, meddler: Meddler, *sizes: int, entombed: bool = False) -> MessageRelay:
    """Seal clips, deliver them through the meddler, check both ends; the relay with its record."""
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        bench.seal(spool, *sizes)
        tombstones = bench.seal(spool, 10) if entombed else []
        for n in tombstones:
            spool.tombstone(n, "given up by a test")
        with MessageRelay(bench.address, bench.vehicle_keys, bench.receiver_keys, meddler) as relay:
            uploader = bench.start_uploader(relay.address, **QUICK)
            bench.wait_for_delivery(spool)
            assert uploader.stop() == 0
    assert receiver.stop() == 0
    bench.check_both_ends(tombstones)
    return relay


def test_a_lost_done_costs_one_question_and_no_byte_is_sent_again(bench):
    relay = deliver_through(bench, lose("DONE"), 3 * CHUNK)
    assert relay.count("DONE") == 1, "the second time, OFFER is answered with state done"
    assert relay.count("COMMIT") == 1
    assert relay.count("OFFER") == 2
    assert bench.uploader_status()["bytes_sent"] == 3 * CHUNK


@pytest.mark.sweep
def test_a_lost_ack_costs_one_window_at_most(bench):
    relay = deliver_through(bench, lose("ACK"), 6 * CHUNK)
    assert relay.count("ACK") >= 1
    assert bench.uploader_status()["bytes_sent"] <= 6 * CHUNK + WINDOW_AND_CHUNK_BYTES


def test_if_no_ack_ever_arrives_a_new_session_goes_on_and_sends_no_durable_byte_again(bench):
    size = 3 * SMALLEST_BYTES + 1
    relay = deliver_through(bench, lose("ACK", times=1_000_000), size)
    assert relay.count("HELLO") >= 4, "one smallest window in each session"
    assert bench.uploader_status()["bytes_sent"] == size, "STATE tells what is durable"


@pytest.mark.parametrize("kind", ["OFFER", "STATE", "CHUNK", "ACK", "COMMIT", "DONE", "TOMBSTONE"])
@pytest.mark.sweep
def test_any_message_lost_twice_costs_sessions_and_no_clip(bench, kind):
    relay = deliver_through(bench, lose(kind, times=2), 2 * CHUNK, 100, entombed=True)
    assert relay.count(kind) >= 2


@pytest.mark.parametrize("kind", ["HELLO", "WELCOME"])
@pytest.mark.sweep
def test_a_lost_greeting_costs_a_session_and_no_clip(bench, kind):
    assert deliver_through(bench, lose(kind), 100).count(kind) >= 2


def test_every_message_arriving_twice_stores_each_clip_once(bench):
    every = ["HELLO", "OFFER", "STATE", "CHUNK", "ACK", "COMMIT", "DONE", "TOMBSTONE", "WELCOME"]
    relay = deliver_through(bench, repeat(every), 3 * CHUNK + 5, 1, CHUNK, entombed=True)
    assert relay.count("DONE") >= 3


@pytest.mark.sweep
def test_chunks_that_arrive_in_reverse_order_make_the_same_clip(bench):
    relay = deliver_through(bench, reorder("CHUNK", depth=4), 8 * CHUNK)
    kinds = [passing.kind for passing in relay.record]
    assert kinds.count("CHUNK") >= 8
    # The relay waits for four and keeps what is left of them at the end, so that a new session sends that again.
    last_session = relay.record[max(at for at, kind in enumerate(kinds) if kind == "HELLO") :]
    again = [one for one in last_session if one.kind == "CHUNK"] if kinds.count("HELLO") > 1 else []
    assert (len(again), kinds.count("HELLO")) in {(0, 1), (1, 2), (2, 2), (3, 2)}
    sent = bench.uploader_status()["bytes_sent"]
    assert sent == 8 * CHUNK + sum(len(one.frames[1]) for one in again), "order alone costs nothing"


def flipped(frames: Frames) -> Frames:
    """One bit of the payload turned, the header as it was."""
    payload = bytearray(frames[1])
    payload[len(payload) // 2] ^= 1
    return [frames[0], bytes(payload)]


def shortened(frames: Frames) -> Frames:
    """The payload ends a byte early."""
    return [frames[0], frames[1][:-1]]


@pytest.mark.parametrize("change", [flipped, pytest.param(shortened, marks=pytest.mark.sweep)])
def test_a_damaged_chunk_is_refused_by_its_hash_and_sent_again(bench, change):
    deliver_through(bench, damage("CHUNK", change, times=3), 4 * CHUNK)
    status = bench.uploader_status()
    assert status["nacks"] == {"bad_chunk_hash": 3}
    assert status["sessions"] == 1, "a damaged chunk costs that chunk only"
    assert 4 * CHUNK < status["bytes_sent"] <= 7 * CHUNK


def rehashed(frames: Frames) -> Frames:
    """A wrong byte whose chunk hash is right: as if memory had failed before the hash was taken."""
    payload = bytearray(frames[1])
    payload[0] ^= 1
    header = msgpack.unpackb(frames[0])
    return [msgpack.packb({**header, "hash": hashlib.sha256(payload).digest()}), bytes(payload)]


@pytest.mark.sweep
def test_a_wrong_byte_under_a_right_chunk_hash_is_found_by_the_hash_of_the_whole(bench):
    deliver_through(bench, damage("CHUNK", rehashed), 3 * CHUNK)
    status = bench.uploader_status()
    assert status["nacks"] == {"bad_file_hash": 1}
    assert status["bytes_sent"] == 6 * CHUNK
    assert status["clips_damaged"] == 0, "the vehicle's own file is intact, so nothing is given up"


def test_a_bit_flipped_on_the_vehicles_disk_is_told_and_never_stored(bench):
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        bad, good = bench.seal(spool, 2 * CHUNK, 1000)
        path = spool.clip(bad).path
        content = bytearray(path.read_bytes())
        content[CHUNK + 77] ^= 4
        path.chmod(0o640)
        path.write_bytes(content)
        uploader = bench.start_uploader()
        bench.wait_for_delivery(spool)
        assert "no longer has the hash" in spool.clip(bad).reason
        assert any("no longer has the hash" in alarm.text for alarm in spool.alarms())
        assert [aside.path.read_bytes() for aside in spool.partial()] == [bytes(content)], "kept to be looked at"
    assert uploader.stop() == receiver.stop() == 0
    bench.check_both_ends(tombstoned=[bad])
    assert [clip.key.n for clip in bench.stored_clips()[0]] == [good]


@pytest.mark.sweep
def test_a_session_replayed_message_by_message_changes_nothing(bench):
    relay = deliver_through(bench, lambda passing: [passing.frames], 2 * CHUNK, 50, entombed=True)
    receiver = bench.start_receiver()
    recorded = [passing.frames for passing in relay.record if passing.is_upward]
    with MessageRelay(bench.address, bench.vehicle_keys, bench.receiver_keys, lambda p: [p.frames]) as again:
        answers = replay(again.address, bench, recorded)
    assert receiver.stop() == 0
    assert {"WELCOME", "STATE", "DONE", "TOMBSTONE"} <= answers <= {"WELCOME", "STATE", "DONE", "TOMBSTONE", "ACK"}
    bench.check_both_ends(tombstoned=[3])


def replay(address: str, bench: Bench, recorded: list[Frames]) -> set[str]:
    """Say everything again over a connection with the vehicle's own key; the kinds of answers."""
    own = load_keys(bench.vehicle_keys, "vehicle")
    answers = set()
    with zmq.Context() as context:
        socket = vehicle_socket(context, own, load_public_key(bench.receiver_keys / "receiver.public"))
        socket.connect(address)
        for frames in recorded:
            assert socket.poll(5000, zmq.POLLOUT)
            socket.send_multipart(frames)
        while "TOMBSTONE" not in answers or socket.poll(200):
            assert socket.poll(5000), f"no more answers after {answers}"
            answers.add(msgpack.unpackb(socket.recv_multipart()[0])["type"])
        socket.close(0)
    return answers
