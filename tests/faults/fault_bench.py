"""A vehicle and a receiver as processes of their own, to start, kill and start again; and what must hold at the end.

Every fault test ends with `Bench.check_both_ends`: 0 sealed clips lost, 0 duplicates, 0 hash mismatches, 0 gaps in the
ledger that no tombstone explains. It reads both ends' own files, with both ends' own code, after the processes.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from runtime.formats.durable_files import sha256_of
from runtime.messages import Priority
from runtime.spool import ClipState, Spool
from runtime.uplink.catalogue import Catalogue, StoredClip
from runtime.uplink.keys import ensure_local_pair

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("uplink_process.py")
PATIENCE_S = 40.0
QUOTA_BYTES = 512 << 20
VEHICLE = "car-1"

Measured = TypeVar("Measured")


class FaultProcess:
    """One running process of `uplink_process.py` and the lines that it prints."""

    def __init__(self, role: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.role = role
        self.lines: list[str] = []
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), role, json.dumps(options)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        )  # fmt: skip
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        self.errors = ""
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line.strip())
            self._arrived.put(line.strip())
        self._arrived.put(None)

    def _read_errors(self) -> None:
        for line in self.process.stderr or ():
            self.errors = (self.errors + line)[-4000:]

    def next_line(self) -> str | None:
        """The next line it prints; None when it has ended instead."""
        try:
            return self._arrived.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"the process {self.role} says nothing for {PATIENCE_S:g} s") from None

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal; whatever it printed is in `lines` then."""
        if self.is_alive:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


class Bench:
    """A vehicle's spool and a receiver's folder, with processes to start, kill and start again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.vehicle_keys, self.receiver_keys = ensure_local_pair(directory / "keys", VEHICLE)
        self.spool_directory = directory / "spool"
        self.receiver_directory = directory / "receiver"
        self.address = "tcp://127.0.0.1:*"
        self.processes: list[FaultProcess] = []
        self.sealed: dict[int, str] = {}  # what the spool has promised: number and hash
        self.rng = random.Random(7)
        self.patience_s = PATIENCE_S

    # -- processes ----------------------------------------------------------------------------------------------

    def start(
        self, role: str, options: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> FaultProcess:
        process = FaultProcess(role, options, environment or {})
        self.processes.append(process)
        return process

    def start_receiver(self, environment: Mapping[str, str] | None = None, **options: Any) -> FaultProcess:
        """The first start picks a port; later ones take the same, so that the vehicle finds it again."""
        receiver = self.begin_receiver(environment, **options)
        address = receiver.next_line()
        assert address, f"the receiver died at its start: {receiver.errors}"
        self.address = address
        return receiver

    def begin_receiver(self, environment: Mapping[str, str] | None = None, **options: Any) -> FaultProcess:
        """A receiver that may die before it listens."""
        places = {"directory": self.receiver_directory, "keys": self.receiver_keys, "status": self.receiver_status_path}
        given = {name: str(path) for name, path in places.items()}
        return self.start("receive", {**given, "bind": self.address, **options}, environment)

    def start_uploader(self, server: str | None = None, **options: Any) -> FaultProcess:
        uploader = self.begin_uploader(server, **options)
        assert uploader.next_line() == "ready", uploader.errors
        return uploader

    def begin_uploader(
        self, server: str | None = None, environment: Mapping[str, str] | None = None, **options: Any
    ) -> FaultProcess:
        """An uploader that may die before it is ready."""
        places = {"spool": self.spool_directory, "keys": self.vehicle_keys, "status": self.uploader_status_path}
        given = {name: str(path) for name, path in places.items()}
        defaults = {"quota_bytes": QUOTA_BYTES, "server": server or self.address}
        return self.start("upload", {**given, **defaults, **options}, environment)

    def start_sealing(self, environment: Mapping[str, str] | None = None, **options: Any) -> FaultProcess:
        """A process that seals; it may die at any moment."""
        return self.start(
            "seal", {"spool": str(self.spool_directory), "quota_bytes": QUOTA_BYTES, **options}, environment
        )

    def note_sealed(self, process: FaultProcess) -> None:
        """Remember what an ended sealing process was promised."""
        for line in process.lines:
            word, *rest = line.split()
            if word == "sealed":
                self.sealed[int(rest[0])] = rest[1]

    def end(self) -> None:
        for process in self.processes:
            if process.is_alive:
                process.kill()

    # -- the vehicle --------------------------------------------------------------------------------------------

    @property
    def uploader_status_path(self) -> Path:
        return self.directory / "uploader.json"

    @property
    def receiver_status_path(self) -> Path:
        return self.directory / "receiver.json"

    @property
    def receiver_port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def open_spool(self, quota_bytes: int = QUOTA_BYTES) -> Spool:
        return Spool.open(self.spool_directory, quota_bytes)

    def seal(self, spool: Spool, *sizes: int, priority: Priority = Priority.NORMAL) -> list[int]:
        """Seal clips of random bytes; their numbers."""
        numbers = []
        for size in sizes:
            draft = spool.begin(size, priority)
            draft.path.write_bytes(self.rng.randbytes(size))
            clip = spool.seal(draft, {"size": size})
            self.sealed[clip.n] = clip.sha256
            numbers.append(clip.n)
        return numbers

    def uploader_status(self) -> dict[str, Any]:
        return read_json(self.uploader_status_path)

    def receiver_status(self) -> dict[str, Any]:
        return read_json(self.receiver_status_path)

    def settled_figures(self) -> dict[str, Any]:
        """The receiver's figures, published after everything that has happened by now."""
        for _ in range(2):
            written_ns = self.receiver_status_path.stat().st_mtime_ns
            self.wait(lambda before=written_ns: self.receiver_status_path.stat().st_mtime_ns > before, "newer figures")
        return self.receiver_status()

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        deadline_s = time.monotonic() + self.patience_s
        while not condition():
            if time.monotonic() >= deadline_s:
                errors = "\n".join(f"{one.role}: {one.errors}" for one in self.processes if one.errors)
                raise AssertionError(
                    f"waited {self.patience_s:g} s for {what}; the uploader says {self.uploader_status()},"
                    f" the receiver {self.receiver_status()}\n{errors}"
                )
            time.sleep(0.01)

    def wait_for_delivery(self, spool: Spool) -> None:
        """Nothing pends, and no tombstone has to be reported."""
        self.wait(lambda: spool.counts().pending == 0 and not spool.unreported_tombstones(), "delivery")

    def durable_bytes(self) -> int:
        """What the receiver has acknowledged of clips under way."""
        return self._bytes_in_ranges("SELECT ranges FROM partials")

    def arrived_bytes(self) -> int:
        """What the receiver has of all clips, whole ones and those under way, as of one instant."""
        whole = "SELECT json_array(json_array(0, size_bytes)) FROM clips"
        return self._bytes_in_ranges(f"{whole} UNION ALL SELECT ranges FROM partials")

    def _bytes_in_ranges(self, question: str) -> int:
        path = self.receiver_directory / "catalogue.sqlite"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:  # asked often: no schema checks
            try:
                rows = connection.execute(question).fetchall()
            except sqlite3.OperationalError:  # its tables are being made
                return 0
        return sum(end - start for (ranges,) in rows for start, end in json.loads(ranges))

    # -- what must hold -----------------------------------------------------------------------------------------

    def check_both_ends(self, tombstoned: Iterable[int] = (), unclaimed: bool = False) -> None:
        """Nothing lost, nothing twice, every hash right, every number explained, on both ends.

        `tombstoned` are the numbers that the fault itself may have cost, with a reason. `unclaimed`: the spool may
        hold clips beyond those that a killed process had time to tell of.
        """
        stored, reported = self.stored_clips()
        with self.open_spool() as spool:
            counts = spool.counts()
            clips = {n: spool.clip(n) for n in range(1, counts.sealed + 1)}
        assert counts.is_gapless, counts
        assert counts.pending == 0, f"{counts.pending} clips were never delivered"
        assert set(self.sealed) <= set(clips), "a number that was promised is unknown to the ledger"
        assert unclaimed or set(self.sealed) == set(clips)
        buried = {n for n, clip in clips.items() if clip.state is ClipState.TOMBSTONED}
        wrong = {n for n, sha256 in self.sealed.items() if n not in buried and clips[n].sha256 != sha256}
        assert not wrong, f"the ledger has other hashes than were promised for {wrong}"
        assert buried <= set(tombstoned), {n: clips[n].reason for n in buried - set(tombstoned)}
        assert all(clips[n].reason for n in buried)
        assert buried <= reported, "a number that never comes was not explained to the receiver"
        delivered = {n: clip.sha256 for n, clip in clips.items() if clip.state is ClipState.DELIVERED}
        assert delivered.items() <= {clip.key.n: clip.key.sha256 for clip in stored}.items(), "a clip is lost"
        assert not list((self.spool_directory / "clips").iterdir()), "a settled clip still occupies the vehicle"

    def stored_clips(self) -> tuple[list[StoredClip], set[int]]:
        """The receiver's clips, checked, and the numbers that it knows will never come."""
        catalogue = Catalogue(self.receiver_directory / "catalogue.sqlite")
        clips = catalogue.clips(self.receiver_directory, VEHICLE)
        reported = set(catalogue.tombstones(VEHICLE))
        catalogue.close()
        numbers = [clip.key.n for clip in clips]
        assert len(set(numbers)) == len(numbers), "a clip was stored twice"
        for clip in clips:
            assert sha256_of(clip.path) == clip.key.sha256, f"clip {clip.key.n} is not what was sealed"
        on_disk = sorted((self.receiver_directory / "clips").rglob("*.mcap"))
        assert on_disk == sorted(clip.path for clip in clips), "files and catalogue disagree"
        assert list((self.receiver_directory / "partial").iterdir()) == [], "something is left half-way"
        return clips, reported


def read_json(path: Path) -> dict[str, Any]:
    """A status file; empty before there is one."""
    try:
        loaded: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return loaded


def in_bench(measure: Callable[[Bench], Measured], patience_s: float, parent: Path | None = None) -> Measured:
    """One measurement in a folder of its own, with all processes ended after it."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        bench = Bench(Path(folder))
        bench.patience_s = patience_s
        try:
            return measure(bench)
        finally:
            bench.end()
