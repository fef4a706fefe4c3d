"""Two receiver processes behind one TCP load balancer, over a real bucket and a real database; one of them is killed.

The vehicle's uploader knows the balancer's address only. Both receivers are the same to it: the same keys, the same
catalogue. Afterwards a person asks, fetches and erases with the command line.
"""

from __future__ import annotations

import contextlib
import hashlib
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
import yaml
from storage_servers import ObjectServer, PostgresServer, free_port

from runtime.cli import main
from runtime.clock import SystemClock
from runtime.spool import Spool
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.delivery import DeliveryLimits
from runtime.uplink.keys import ensure_local_pair, load_keys
from runtime.uplink.ranges import RangeSet
from runtime.uplink.uploader import Uploader, UploaderSettings

REPOSITORY = Path(__file__).resolve().parents[4]
VEHICLE = "car-1"
PATIENCE_S = 60.0
NOON_NS = 1_790_000_000 * 1_000_000_000
CREDIT_AND_CHUNK_BYTES = (8 << 20) + (256 << 10)
BLOCK_BYTES = 64 << 10


class LoadBalancer:
    """A TCP load balancer: each new connection goes to the next receiver that takes it."""

    def __init__(self, backends: list[int]) -> None:
        self.backends = backends
        self.served: list[int] = []
        self._turn = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([self._listener], [], [], 0.1)
            if not ready:
                continue
            near = self._listener.accept()[0]
            far = self._next_backend()
            if far is None:
                near.close()
                continue
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _next_backend(self) -> socket.socket | None:
        for _ in self.backends:
            port = self.backends[self._turn % len(self.backends)]
            self._turn += 1
            with contextlib.suppress(OSError):
                far = socket.create_connection(("127.0.0.1", port), timeout=5.0)
                far.settimeout(None)
                self.served.append(port)
                return far
        return None

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK_BYTES):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self._ended.set()
        self._thread.join(5.0)
        self._listener.close()


class FleetBench:
    """Keys, receivers' configurations, their processes, and a vehicle."""

    def __init__(self, directory: Path, objects: ObjectServer, database: str) -> None:
        self.directory = directory
        self.vehicle_keys, self.receiver_keys = ensure_local_pair(directory / "keys", VEHICLE)
        self.database = database
        credentials = directory / "bucket.yaml"
        secret = {name: objects.options[name] for name in ("access_key_id", "secret_access_key")}
        credentials.write_text(yaml.safe_dump(secret))
        credentials.chmod(0o600)
        open_options = {name: value for name, value in objects.options.items() if name not in secret}
        self.shared = {
            "keys": str(self.receiver_keys), "catalogue": database,
            "objects": {"url": objects.new_bucket(), "options": open_options, "credentials": str(credentials)},
        }  # fmt: skip
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def config_of(self, name: str, port: int) -> Path:
        path = self.directory / f"{name}.yaml"
        own = {"bind": f"tcp://127.0.0.1:{port}", "directory": str(self.directory / name)}
        path.write_text(yaml.safe_dump({**own, **self.shared}))
        return path

    def start_receiver(self, name: str) -> int:
        port = free_port()
        command = [sys.executable, "-m", "runtime.cli", "receive", "--config", str(self.config_of(name, port))]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        log = (self.directory / f"{name}.log").open("wb")
        self.processes[port] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        log.close()
        return port

    def durable_bytes(self, catalogue: Catalogue) -> int:
        return sum(RangeSet(row.ranges).total for row in catalogue.partials())

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], what: str, bench: FleetBench) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        logs = "".join(path.read_text() for path in bench.directory.glob("*.log"))
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}\n{logs}"
        time.sleep(0.05)


@pytest.fixture
def bench(tmp_path: Path, object_server: ObjectServer, postgres: PostgresServer):
    created = FleetBench(tmp_path, object_server, postgres.new_database())
    yield created
    created.end()


def test_a_receiver_killed_mid_clip_is_replaced_by_the_other_and_people_find_fetch_and_erase_the_clips(bench, capsys):
    ports = [bench.start_receiver(name) for name in ("first", "second")]
    for port in ports:
        wait_for(lambda port=port: is_listening(port), f"the receiver at {port}", bench)
    balancer = LoadBalancer(ports)
    catalogue = Catalogue(bench.database)
    contents = {n: random.Random(n).randbytes(size) for n, size in enumerate((9 << 20, 40_000, 300_000), 1)}
    uploader_figures: dict = {}
    with Spool.open(bench.directory / "spool", 64 << 20) as spool:
        for n, content in contents.items():
            draft = spool.begin(len(content))
            draft.path.write_bytes(content)
            start_ns = NOON_NS + n * 3600 * 1_000_000_000
            spool.seal(draft, {"rules": [f"rule_{n}"], "start_wall_ns": start_ns, "end_wall_ns": start_ns + 10**10})
        settings = UploaderSettings(
            f"tcp://127.0.0.1:{balancer.port}", bench.vehicle_keys, backoff_first_s=0.1, backoff_longest_s=0.5,
            limits=DeliveryLimits(reply_timeout_s=5.0, refused_retry_s=1.0, max_bytes_per_s=6 << 20),
        )  # fmt: skip
        server_key = load_keys(bench.receiver_keys, "receiver").public
        uploader = Uploader(
            spool, settings, load_keys(bench.vehicle_keys, "vehicle"), server_key, SystemClock(), random.Random(1),
            uploader_figures.update,
        )  # fmt: skip
        stop = threading.Event()
        thread = threading.Thread(target=uploader.run, args=(stop,))
        thread.start()
        try:
            wait_for(lambda: bench.durable_bytes(catalogue) > 3 << 20, "a third of the clip", bench)
            killed = balancer.served[-1]
            bench.processes[killed].kill()
            wait_for(lambda: spool.counts().delivered == 3, "delivery through the other receiver", bench)
        finally:
            stop.set()
            thread.join(PATIENCE_S)
    assert balancer.served[-1] != killed
    clips = {clip.key.n: clip for clip in catalogue.clips(bench.directory)}
    assert {n: clip.key.sha256 for n, clip in clips.items()} == {
        n: hashlib.sha256(content).hexdigest() for n, content in contents.items()
    }
    assert catalogue.partials() == []
    total = sum(map(len, contents.values()))
    assert uploader_figures["bytes_sent"] <= total + CREDIT_AND_CHUNK_BYTES, "waste is one window and a chunk at most"
    assert uploader_figures["bytes_sent"] < 2 * total, "the other receiver went on where the killed one was"
    ask_fetch_and_erase(bench, contents, capsys)
    assert [clip.key.n for clip in catalogue.clips(bench.directory)] == [1, 3]
    catalogue.close()
    balancer.end()


def ask_fetch_and_erase(bench: FleetBench, contents: dict[int, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    """With the command line, beside the receiver that is left."""
    config = ["--config", str(bench.directory / "first.yaml")]
    capsys.readouterr()
    assert main(["catalogue", "query", *config, "--rule", "rule_2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["vehicle"], found["n"], found["rules"]) == (VEHICLE, 2, ["rule_2"])
    assert main(["catalogue", "query", *config, "--limit", "1"]) == 0
    more = capsys.readouterr().out.rpartition("there may be more: ")[2].split()
    assert main(["catalogue", "query", *config, *more, "--json"]) == 0
    assert [clip["n"] for clip in json.loads(capsys.readouterr().out)] == [2, 3]
    assert main(["catalogue", "query", *config, "--after", VEHICLE]) == 2
    nowhere = str(bench.directory / "no" / "folder" / "fetched.mcap")
    assert main(["catalogue", "fetch", *config, "--vehicle", VEHICLE, "--number", "1", "--out", nowhere]) == 2
    assert "there is no folder" in capsys.readouterr().err
    out = bench.directory / "fetched.mcap"
    assert main(["catalogue", "fetch", *config, "--vehicle", VEHICLE, "--number", "1", "--out", str(out)]) == 0
    assert out.read_bytes() == contents[1]
    start_s = NOON_NS // 10**9 + 2 * 3600
    span = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start_s + offset)) for offset in (0, 5)]
    order = ["--vehicle", VEHICLE, "--from", span[0], "--to", span[1], "--reason", "request 4711"]
    assert main(["catalogue", "erase", *config, *order]) == 0
    assert "1 clips (40000 bytes" in capsys.readouterr().out
    missing = ["catalogue", "fetch", *config, "--vehicle", VEHICLE, "--number", "2", "--out", str(out)]
    assert main(missing) == 1
    capsys.readouterr()
    assert main(["catalogue", "log", *config, "--json"]) == 0
    log = json.loads(capsys.readouterr().out)
    assert [entry["action"] for entry in log] == ["query", "query", "query", "fetch", "erase"]
    assert log[-1]["detail"]["reason"] == "request 4711"
    assert "@" in log[-1]["who"]


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
