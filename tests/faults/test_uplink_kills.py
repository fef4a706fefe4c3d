"""Real processes killed with SIGKILL, and links that go dead: every sealed clip arrives, byte for byte, once."""

from __future__ import annotations

import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.formats.durable_files import sha256_of
from runtime.spool import ClipState, Spool
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.keys import ensure_local_pair

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("uplink_process.py")
PATIENCE_S = 30.0
QUOTA_BYTES = 512 << 20
VEHICLE = "car-1"


class Bench:
    """A vehicle's spool and a receiver's folder, with processes to start, kill and start again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.vehicle_keys, self.receiver_keys = ensure_local_pair(directory / "keys", VEHICLE)
        self.spool_directory = directory / "spool"
        self.receiver_directory = directory / "receiver"
        self.address = "tcp://127.0.0.1:*"
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        self.processes.append(process)
        return process

    def start_receiver(self) -> subprocess.Popen[str]:
        """The first start picks a port; later ones take the same, so that the vehicle finds it again."""
        process = self.start(
            "receive", self.receiver_directory, self.receiver_keys, self.address, self.directory / "receiver.json"
        )
        self.address = first_line(process)
        return process

    def start_uploader(self, server: str | None = None, rate: int = 0) -> subprocess.Popen[str]:
        process = self.start("upload", self.spool_directory, self.vehicle_keys, server or self.address, rate)
        assert first_line(process) == "ready"
        return process

    def open_spool(self) -> Spool:
        return Spool.open(self.spool_directory, QUOTA_BYTES)

    def seal(self, spool: Spool, sizes: list[int]) -> dict[int, str]:
        hashes = {}
        for size in sizes:
            draft = spool.begin(size)
            draft.path.write_bytes(os.urandom(size))
            clip = spool.seal(draft, {})
            hashes[clip.n] = clip.sha256
        return hashes

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
            time.sleep(0.02)

    def wait_for_delivery(self, spool: Spool) -> None:
        self.wait(lambda: spool.counts().pending == 0, "delivery")

    def durable_bytes(self) -> int:
        """What the receiver has acknowledged of clips under way."""
        path = self.receiver_directory / "catalogue.sqlite"
        if not path.exists():
            return 0
        catalogue = Catalogue(path)
        try:
            return sum(b - a for row in catalogue.partials() for a, b in row.ranges)
        finally:
            catalogue.close()

    def check_arrived(self, hashes: dict[int, str]) -> None:
        """Every clip is stored once, and nothing is left half-way."""
        catalogue = Catalogue(self.receiver_directory / "catalogue.sqlite")
        clips = catalogue.clips(self.receiver_directory, VEHICLE)
        catalogue.close()
        assert {clip.key.n: clip.key.sha256 for clip in clips} == hashes
        assert len(clips) == len(hashes)
        for clip in clips:
            assert sha256_of(clip.path) == clip.key.sha256
        assert list((self.receiver_directory / "partial").iterdir()) == []

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()


def first_line(process: subprocess.Popen[str]) -> str:
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    assert ready, "the process says nothing"
    line = process.stdout.readline().strip()
    assert line, "the process died at its start"
    return line


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def bench(tmp_path):
    created = Bench(tmp_path)
    yield created
    created.end()


def test_a_receiver_killed_mid_chunk_goes_on_at_its_durable_byte(bench):
    size = 12 << 20
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        hashes = bench.seal(spool, [size])
        uploader = bench.start_uploader(rate=8 << 20)
        for part in (1, 2):
            bench.wait(lambda part=part: bench.durable_bytes() > part * (3 << 20), "some of it")
            kill(receiver)
            receiver = bench.start_receiver()
        bench.wait_for_delivery(spool)
    uploader.terminate()
    assert uploader.wait(PATIENCE_S) == 0
    bench.check_arrived(hashes)
    sent = json.loads((bench.directory / "uploader.json").read_text())["bytes_sent"]
    credit_and_chunk = (8 << 20) + (256 << 10)
    assert size <= sent <= size + 2 * credit_and_chunk, "waste per disconnect is one window and one chunk at most"
    assert sent < 2 * size, "it did not start over"


def test_a_vehicle_killed_while_it_sends_loses_and_repeats_nothing(bench):
    bench.start_receiver()
    with bench.open_spool() as spool:
        hashes = bench.seal(spool, [2 << 20, 300_000, 1, 3 << 20, 262_144])
        rng = random.Random(5)
        for _ in range(4):
            uploader = bench.start_uploader(rate=4 << 20)
            time.sleep(rng.uniform(0.05, 0.5))
            kill(uploader)
        bench.start_uploader()
        bench.wait_for_delivery(spool)
        assert spool.counts().delivered == 5
    bench.check_arrived(hashes)


def test_a_recorder_killed_at_any_moment_leaves_a_gapless_ledger(bench):
    rng = random.Random(6)
    for _ in range(8):
        recorder = bench.start("seal", bench.spool_directory, QUOTA_BYTES)
        assert first_line(recorder) == "ready"
        time.sleep(rng.uniform(0.0, 0.15))
        kill(recorder)
        with bench.open_spool() as spool:
            counts = spool.counts()
            assert counts.is_gapless
            assert counts.tombstoned == 0, "no sealed clip was lost"
            assert counts.pending == counts.sealed
            for clip in spool.pending(limit=100_000):
                assert sha256_of(clip.path) == clip.sha256
                assert clip.metadata == {"size": clip.size_bytes}
            for partial in spool.partial():
                spool.discard(spool.resume(partial))
    assert counts.sealed > 0


def test_recorder_and_uploader_share_a_small_spool_while_clips_are_evicted(bench):
    bench.start_receiver()
    recorder = bench.start("seal", bench.spool_directory, (8 << 20) + 300_000)
    assert first_line(recorder) == "ready"
    bench.start_uploader(rate=1 << 20)
    with bench.open_spool() as spool:
        bench.wait(lambda: spool.counts().delivered > 20 and spool.counts().evicted > 5, "deliveries and evictions")
        recorder.terminate()
        assert recorder.wait(PATIENCE_S) == 0
        bench.wait_for_delivery(spool)
        bench.wait(lambda: spool.unreported_tombstones() == [], "tombstones to be reported")
        counts = spool.counts()
        assert counts.is_gapless
        delivered = {
            n: spool.clip(n).sha256 for n in range(1, counts.sealed + 1) if spool.clip(n).state is ClipState.DELIVERED
        }
        tombstoned = set(range(1, counts.sealed + 1)) - set(delivered)
    catalogue = Catalogue(bench.receiver_directory / "catalogue.sqlite")
    stored = {clip.key.n: clip.key.sha256 for clip in catalogue.clips(bench.receiver_directory)}
    reported = set(catalogue.tombstones(VEHICLE))
    catalogue.close()
    assert delivered.items() <= stored.items(), "what the vehicle deleted as delivered is stored"
    assert tombstoned <= reported | set(stored)


class BlackHole:
    """A TCP relay on loopback that can stop forwarding without closing anything."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.swallow = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        while not self.ended.is_set():
            watched = [self.listener, *([] if self.swallow.is_set() else pairs)]
            for ready in select.select(watched, [], [], 0.05)[0]:
                if ready is self.listener:
                    near, far = self.listener.accept()[0], socket.create_connection(self.target)
                    pairs[near], pairs[far] = far, near
                else:
                    self._relay(ready, pairs)
        for each in (self.listener, *pairs):
            each.close()

    def _relay(self, ready: socket.socket, pairs: dict[socket.socket, socket.socket]) -> None:
        if ready not in pairs:
            return
        try:
            data = ready.recv(65536)
            pairs[ready].sendall(data)
        except OSError:
            data = b""
        if not data:
            other = pairs.pop(ready)
            pairs.pop(other)
            ready.close()
            other.close()

    def end(self) -> None:
        self.ended.set()
        self.thread.join()


def test_a_link_black_holed_mid_chunk_is_noticed_and_resumed(bench):
    bench.start_receiver()
    relay = BlackHole(("127.0.0.1", int(bench.address.rsplit(":", 1)[1])))
    with bench.open_spool() as spool:
        hashes = bench.seal(spool, [6 << 20])
        uploader = bench.start_uploader(f"tcp://127.0.0.1:{relay.port}", rate=4 << 20)
        bench.wait(lambda: bench.durable_bytes() > 1 << 20, "some of it")
        relay.swallow.set()
        status = bench.directory / "uploader.json"
        bench.wait(
            lambda: "does not answer" in json.loads(status.read_text())["last_error"], "the dead link to be seen"
        )
        assert spool.counts().pending == 1
        relay.swallow.clear()
        bench.wait_for_delivery(spool)
    uploader.terminate()
    assert uploader.wait(PATIENCE_S) == 0
    relay.end()
    bench.check_arrived(hashes)
    assert json.loads(status.read_text())["bytes_sent"] < 2 * (6 << 20)
