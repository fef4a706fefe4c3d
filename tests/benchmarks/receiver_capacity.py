"""What one receiver process takes in on one core, with CURVE, and what a thousand idle vehicles cost it.

    python -m tests.benchmarks.receiver_capacity [--vehicles 2] [--megabytes 400] [--idle 1000] [--json FILE]

Throughput: that many uploader processes deliver that much each over loopback; the receiver is held to one processor
with every thread, the vehicles to the others. Beside the bytes a second stand both sides' shares of their processors:
the one that is full is what bounds it. Spools and the receiver's folder lie in /dev/shm where there is one: no disk is
measured.
Idle: that many enrolled keys connect, say HELLO and stay; the receiver's memory before and after.
Exits with 1 and says which budget is not kept; throughput below its budget is told with what bounds it.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import zmq

from runtime.health.process_usage import read_usage
from runtime.messages import Priority
from runtime.spool import Spool
from runtime.uplink.keys import KeyPair, enroll, load_public_key, new_keys, pin_receiver
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.wire import PROTOCOL_VERSION, Hello, encode
from tests.budgets import Facts, hold_to_budgets, hold_to_processors, processor_s
from tests.faults.fault_bench import QUOTA_BYTES, Bench, FaultProcess, in_bench

LEAST_MB_PER_S = 200.0
MOST_IDLE_MB = 100.0
CLIP_BYTES = 64 << 20
FULL_SHARE = 0.9
ANSWER_WAIT_MS = 30_000
MOST_WAIT_S = 900.0
SHARED_MEMORY = Path("/dev/shm")


def with_bench(measure: Callable[[Bench], Facts]) -> Facts:
    """One measurement in a folder of its own, in memory where there is some."""
    return in_bench(measure, MOST_WAIT_S, SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)


def throughput(bench: Bench, vehicles: int, size: int) -> Facts:
    """Deliver from several vehicles at once to a receiver with one processor."""
    receiver = bench.start_receiver()
    processors = sorted(os.sched_getaffinity(0))
    hold_to_processors(receiver.process.pid, {processors[0]})
    spools = [filled_spool(bench, f"car-{number + 2}", size) for number in range(vehicles)]
    bench.wait(lambda: bench.receiver_status().get("enrolled") == vehicles + 1, "the enrolment")
    uploaders = [start_uploader(bench, folder) for folder in spools]
    for uploader in uploaders:
        hold_to_processors(uploader.process.pid, set(processors[1:]) or {processors[0]})
    bench.wait(lambda: bench.durable_bytes() > 0, "the first bytes")  # how long a process takes to start is not asked
    began_s, receiver_began_s = time.monotonic(), processor_s(receiver.process.pid)
    vehicles_began_s = sum(processor_s(one.process.pid) for one in uploaders)
    opened = [Spool.open(folder / "spool", 2 * size + QUOTA_BYTES) for folder in spools]
    bench.wait(lambda: all(spool.counts().pending == 0 for spool in opened), "delivery")
    took_s = time.monotonic() - began_s
    vehicles_s = sum(processor_s(one.process.pid) for one in uploaders) - vehicles_began_s
    facts = {
        "throughput_mb_per_s": vehicles * size / took_s / 1e6,
        "receiver_core_share": (processor_s(receiver.process.pid) - receiver_began_s) / took_s,
        "vehicles_core_share": vehicles_s / took_s,
        "vehicles_cores": max(1, len(processors) - 1),
    }
    for spool in opened:
        spool.close()
    for uploader in uploaders:
        uploader.stop()
    receiver.stop()
    return facts


def filled_spool(bench: Bench, name: str, size: int) -> Path:
    """An enrolled vehicle with so many bytes to deliver."""
    folder = bench.directory / name
    keys = new_keys(folder / "keys", "vehicle")
    enroll(bench.receiver_keys, name, keys.public)
    pin_receiver(folder / "keys", load_public_key(bench.receiver_keys / "receiver.public"))
    content = os.urandom(CLIP_BYTES)
    with Spool.open(folder / "spool", 2 * size + QUOTA_BYTES) as spool:
        for start in range(0, size, CLIP_BYTES):
            draft = spool.begin(CLIP_BYTES, Priority.NORMAL)
            draft.path.write_bytes(start.to_bytes(8, "big") + content[8 : min(CLIP_BYTES, size - start)])
            spool.seal(draft, {})
    return folder


def start_uploader(bench: Bench, folder: Path) -> FaultProcess:
    return bench.start_uploader(
        spool=str(folder / "spool"), keys=str(folder / "keys"), status=str(folder / "uploader.json"),
        quota_bytes=4 << 30, reply_timeout_s=15.0,
    )  # fmt: skip


def idle_vehicles(bench: Bench, count: int) -> Facts:
    """Connect that many vehicles, each with its own key."""
    allow_descriptors(4 * count + 200)
    receiver = bench.start_receiver()
    receiver_key = load_public_key(bench.receiver_keys / "receiver.public")
    enrolled = bench.receiver_keys / "enrolled"
    pairs = [KeyPair(*zmq.curve_keypair()) for _ in range(count)]
    for number, pair in enumerate(pairs):  # not `enroll`, which reads all the others each time
        (enrolled / f"idle-{number}.public").write_bytes(pair.public + b"\n")
    bench.wait(lambda: bench.receiver_status().get("enrolled") == count + 1, "the enrolment")
    before_mb = resident_mb(receiver)
    with zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, 2 * count + 100)
        sockets = [connected(context, pair, receiver_key, bench.address) for pair in pairs]
        answered = sum(bool(socket.poll(ANSWER_WAIT_MS)) for socket in sockets)
        after_mb = resident_mb(receiver)
        for socket in sockets:
            socket.close(0)
    receiver.stop()
    if answered != count:
        raise SystemExit(f"only {answered} of {count} idle vehicles were answered")
    return {"idle_vehicles": count, "idle_mb": after_mb - before_mb}


def connected(context: zmq.Context, pair: KeyPair, receiver_key: bytes, address: str) -> zmq.Socket:
    socket = vehicle_socket(context, pair, receiver_key)
    socket.setsockopt(zmq.IMMEDIATE, 0)
    socket.connect(address)
    socket.send_multipart([encode(Hello(PROTOCOL_VERSION, "idle")), b""])
    return socket


def allow_descriptors(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"{needed} open files are needed, {hard} are allowed: ulimit -Hn {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


def resident_mb(bench_process: FaultProcess) -> float:
    usage = read_usage(bench_process.process.pid)
    if usage is None:
        raise SystemExit(f"the process {bench_process.role} has ended: {bench_process.errors}")
    return usage.rss_bytes / 1e6


def violations(facts: Facts) -> Iterator[str]:
    """Budgets that are not kept, and why."""
    if facts["throughput_mb_per_s"] < LEAST_MB_PER_S:
        yield f"{facts['throughput_mb_per_s']:.0f} MB/s, less than {LEAST_MB_PER_S:g}: {bound(facts)}"
    if facts["idle_mb"] > MOST_IDLE_MB:
        yield f"{facts['idle_vehicles']:g} idle vehicles cost {facts['idle_mb']:.0f} MB, more than {MOST_IDLE_MB:g}"


def bound(facts: Facts) -> str:
    """Whose processor is full."""
    if facts["receiver_core_share"] >= FULL_SHARE:
        return "the receiver's own processor is full (decryption, SHA-256 of chunks and files, Python)"
    if facts["vehicles_core_share"] >= FULL_SHARE * facts["vehicles_cores"]:
        return "the vehicles' processors are full, not the receiver's: it was not asked for more"
    return "no processor is full: waiting for acknowledgements and fsync"


def main() -> int:
    parser = argparse.ArgumentParser(description="What one receiver process takes.")
    parser.add_argument("--vehicles", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=400, help="from each vehicle")
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measures = (
        lambda: with_bench(lambda bench: throughput(bench, options.vehicles, options.megabytes * 1_000_000)),
        lambda: with_bench(lambda bench: idle_vehicles(bench, options.idle)),
    )
    return hold_to_budgets(measures, violations, options.json)


if __name__ == "__main__":
    sys.exit(main())
