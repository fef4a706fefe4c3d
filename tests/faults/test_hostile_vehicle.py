"""An enrolled vehicle that means harm, or is broken: it exhausts nothing, and the others are served meanwhile."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from fault_bench import Bench, FaultProcess
from impaired_link import Conditions, ImpairedLink
from strangers import ask, connected, enrolled

from runtime.uplink.wire import (
    MAX_PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    Chunk,
    Commit,
    Hello,
    Offer,
    TombstoneNotice,
    encode,
)

CHUNK = MAX_PAYLOAD_BYTES
MEBIBYTE = 1 << 20
HOSTILE_MIB = 256
HOSTILE_BYTES_PER_S = 40 << 20  # faster than any vehicle's link
#: 16 MiB may be unfinished, and 4 come in before the guard looks again; the rest is for a machine that is busy.
ALLOWED_GROWTH_MIB = 48
HELLO = [encode(Hello(PROTOCOL_VERSION, "hostile")), b""]


@contextmanager
def hostile_vehicle(bench: Bench, address: str | None = None) -> Iterator[zmq.Socket]:
    """A socket with an enrolled key of its own, which may say what it likes."""
    keys, receiver_key = enrolled(bench.receiver_keys, bench.directory / "hostile", "hostile")
    bench.wait(lambda: bench.receiver_status().get("enrolled") == 2, "the enrolment")
    with connected(address or bench.address, keys, receiver_key) as socket:
        yield socket


def delivers(bench: Bench, receiver: FaultProcess) -> None:
    """The honest vehicle is served, whatever the other one does; then both ends are checked."""
    with bench.open_spool() as spool:
        bench.seal(spool, 2 * CHUNK, 10)
        uploader = bench.start_uploader()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    bench.check_both_ends()


def resident_mib(process: FaultProcess) -> float:
    """Memory of a process."""
    lines = Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


@pytest.mark.sweep
def test_an_oversize_frame_ends_that_connection_and_the_others_are_served(bench):
    receiver = bench.start_receiver()
    with hostile_vehicle(bench) as hostile:
        assert ask(hostile, HELLO)["type"] == "WELCOME"
        monitor = hostile.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        hostile.send_multipart([HELLO[0], bytes(16 * CHUNK)])
        assert monitor.poll(10_000), "the receiver closes the connection"
        hostile.disable_monitor()
        delivers(bench, receiver)


@pytest.mark.sweep
def test_an_oversize_object_is_refused_by_its_offer_stays_on_the_vehicle_and_holds_up_nothing(bench):
    receiver = bench.start_receiver(limits={"max_clip_bytes": 4 * CHUNK})
    with bench.open_spool() as spool:
        (oversize,) = bench.seal(spool, 5 * CHUNK)
        bench.seal(spool, 100, CHUNK)
        uploader = bench.start_uploader(refused_retry_s=0.5)
        bench.wait(lambda: spool.counts().delivered == 2, "the others")
        bench.wait(lambda: bench.uploader_status().get("refused", {}).get("too_large"), "the refusal to be told")
        assert [clip.n for clip in spool.pending()] == [oversize], "refused is not lost"
        assert receiver.stop() == 0
        receiver = bench.start_receiver()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    assert receiver.stop() == 0
    bench.check_both_ends()


def test_an_endless_multipart_from_an_enrolled_key_is_cut_off_before_it_fills_the_memory(bench):
    receiver = bench.start_receiver()
    before_mib = resident_mib(receiver)
    link = ImpairedLink(bench.receiver_port, Conditions(bytes_per_s=HOSTILE_BYTES_PER_S, buffer_bytes=4 << 20))
    with link, hostile_vehicle(bench, link.address) as hostile:
        assert ask(hostile, HELLO)["type"] == "WELCOME"
        monitor = hostile.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        # libzmq's own socket sends a message only once it is whole, but it comes in part by part, as an endless one
        # would: the receiver has to act before it has seen the end.
        hostile.send_multipart([bytes(CHUNK)] * (HOSTILE_MIB * MEBIBYTE // CHUNK), copy=False)
        largest_mib = before_mib
        while not monitor.poll(10) and not hostile.poll(0):
            largest_mib = max(largest_mib, resident_mib(receiver))
        hostile.disable_monitor()
        assert largest_mib - before_mib < ALLOWED_GROWTH_MIB, "an unfinished message takes the receiver's memory"
        delivers(bench, receiver)


@pytest.mark.sweep
def test_offers_without_end_from_one_vehicle_leave_room_for_the_others(bench):
    receiver = bench.start_receiver(limits={"vehicle_quota_bytes": 64 * MEBIBYTE, "vehicle_partials": 4})
    rng = random.Random(1)
    kinds = set()
    with hostile_vehicle(bench) as hostile:
        for n in range(1, 200):
            answer = ask(hostile, [encode(Offer(n, rng.randbytes(32), 8 * MEBIBYTE, "safety")), b"{}"])
            kinds.add((answer or {}).get("type"))
            if answer is None:
                break
        assert len(list((bench.receiver_directory / "partial").iterdir())) <= 4
        assert "STATE" in kinds
    with bench.open_spool() as spool:
        bench.seal(spool, CHUNK)
        bench.start_uploader()
        bench.wait_for_delivery(spool)
    assert receiver.stop() == 0
    for left in (bench.receiver_directory / "partial").glob("hostile-*"):
        left.unlink()  # what the hostile vehicle never finished is not the bench's own
    bench.check_both_ends()


@pytest.mark.sweep
def test_garbage_without_end_from_one_vehicle_does_not_hold_up_the_others(bench):
    receiver = bench.start_receiver()
    rng = random.Random(2)
    with hostile_vehicle(bench) as hostile:
        hostile.setsockopt(zmq.RCVTIMEO, 100)
        for _ in range(5000):
            frames = [rng.randbytes(rng.randint(0, 300)) for _ in range(rng.randint(1, 5))]
            if not hostile.poll(2000, zmq.POLLOUT):
                break
            hostile.send_multipart(frames, zmq.NOBLOCK)
            while hostile.poll(0):
                hostile.recv_multipart()
        delivers(bench, receiver)


@pytest.mark.sweep
def test_cheap_messages_without_end_fill_no_catalogue_and_are_refused_by_name(bench):
    """1-byte clips with the most labels, given-up numbers, numbers out of reach: what each keeps is charged."""
    quota, tombstones = MEBIBYTE, 40
    limits = {"vehicle_quota_bytes": quota, "vehicle_tombstones": tombstones, "numbers_ahead": 1000}
    receiver = bench.start_receiver(limits=limits)
    labels = {"rules": [f"rule {i}" for i in range(64)], "campaigns": [f"c{i}@1" for i in range(64)]}
    codes = Counter()
    with hostile_vehicle(bench) as hostile:
        for n in range(1, 30):
            codes += told(ask(hostile, tiny_clip(n, labels)[0]))
            if codes["vehicle_quota"]:
                break
            hostile.send_multipart(tiny_clip(n, labels)[1])
            assert hostile.poll(10_000)
            hostile.recv_multipart()  # its ACK
            codes += told(ask(hostile, tiny_clip(n, labels)[2]))
        assert (codes["DONE"], codes["vehicle_quota"]) == (9, 1), "each costs more than 100 KiB of rows"
        for n in range(100, 100 + 2 * tombstones):
            codes += told(ask(hostile, [encode(TombstoneNotice(n, "x" * 500)), b""]))
        assert (codes["TOMBSTONE"], codes["vehicle_quota"]) == (tombstones, 1 + tombstones)
        assert told(ask(hostile, [encode(TombstoneNotice(2**53 - 1, "x")), b""])) == {"vehicle_quota": 1}
        wanted = 1 + tombstones + 1
        bench.wait(lambda: bench.receiver_status().get("nacks", {}).get("vehicle_quota") == wanted, "the count")
        assert (bench.receiver_directory / "catalogue.sqlite").stat().st_size < 2 * quota
        shutil.rmtree(bench.receiver_directory / "clips" / "hostile")  # not the bench's own
        delivers(bench, receiver)


def tiny_clip(n: int, metadata: dict) -> list[list[bytes]]:
    """OFFER, CHUNK and COMMIT of a clip of one byte."""
    content = bytes([n])
    digest = hashlib.sha256(content).digest()
    offer = [encode(Offer(n, digest, 1, "safety")), json.dumps(metadata).encode()]
    return [offer, [encode(Chunk(n, digest, 0, digest)), content], [encode(Commit(n, digest)), b""]]


def told(answer: dict | None) -> Counter:
    """What was answered: a code where there is one, the message's name where there is none."""
    return Counter([(answer or {}).get("code") or (answer or {"type": "nothing"})["type"]])
