"""The stage of one run: folders, configurations, keys, and every process, all on this machine.

The vehicle's processes and the receiver are the commands that `shadowrig run` and `shadowrig receive` start, with a
configuration as a vehicle has it: the rule library, eight ZeroMQ cameras, history on tmpfs, real-time settings as
they come. One rule is added, which keeps three seconds whenever the bookmark button is pressed: load `record` presses
it. The feeder, the hogs and the disk writer are helpers of the bench and no part of what is measured.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from replay.latency.film import ReferenceLoad, film_arguments, rig_of
from runtime.health.status import StatusError, read_status
from runtime.supervisor import Child, leave_with_parent, shadowrig_command
from runtime.uplink.keys import ensure_local_pair

VEHICLE = "bench-vehicle"
SHARED_MEMORY = Path("/dev/shm")
HISTORY_S = 20
HISTORY_BYTES = 512_000_000
SPOOL_QUOTA_BYTES = 4_000_000_000
STOP_TIMEOUT_S = 40.0
POLL_S = 0.2
#: The rule that load `record` fires: short clips, as many as are asked for.
RECORD_RULE = {
    "category": "bench",
    "rules": [
        {
            "name": "bench_record",
            "description": "The bench presses the button.",
            "when": "rising(vehicle.bookmark)",
            "capture": {"pre_s": 2, "post_s": 1},
        }
    ],
}


class StageError(RuntimeError):
    """A process of the bench did not do its part; the text says which and where its log is."""


class InterruptedBenchError(StageError):
    """Somebody wants the run to end."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the processes meet, all on 127.0.0.1."""

    cameras: str
    telemetry: str
    receiver: str

    @staticmethod
    def free() -> Addresses:
        """Three ports that are free now."""
        return Addresses(*(f"tcp://127.0.0.1:{port}" for port in _free_ports(3)))


class Helper:
    """A process of the bench itself, told by its standard input and read at its end."""

    def __init__(self, name: str, log: Path, module: str, *arguments: str) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, preexec_fn=leave_with_parent,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise StageError(f"{self.name} has ended: see {self._log}") from error

    def wait(self, timeout_s: float, stop: threading.Event | None = None) -> str:
        """What it has printed, once it has ended by itself. StageError when it failed, takes longer, or at `stop`."""
        deadline_s, said = time.monotonic() + timeout_s, None
        while said is None:
            try:
                said, _ = self._process.communicate(timeout=POLL_S)
            except subprocess.TimeoutExpired as error:
                if stop is not None and stop.is_set():
                    raise InterruptedBenchError("interrupted") from error
                if time.monotonic() > deadline_s:
                    self._process.kill()
                    raise StageError(f"{self.name} did not end within {timeout_s:g} s: see {self._log}") from error
        if stop is not None and stop.is_set():
            raise InterruptedBenchError("interrupted")
        if self._process.returncode != 0:
            raise StageError(f"{self.name} ended with code {self._process.returncode}: see {self._log}")
        return said.decode()

    def stop(self) -> str:
        """Ask it to end; what it has printed."""
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Stage:
    """The working folder and the processes of one run."""

    def __init__(
        self, folder: Path, film: Path, load: ReferenceLoad, model: str, phase_ms: float | None = None
    ) -> None:
        self.folder = folder
        self.film = film
        self.load = load
        self.model = model
        self._phase_ms = "auto" if phase_ms is None else phase_ms
        self.addresses = Addresses.free()
        self.memory = memory_of(folder)
        for left in (folder, self.memory):
            shutil.rmtree(left, ignore_errors=True)
        for directory in (self.memory, folder / "logs"):
            directory.mkdir(parents=True, mode=0o700)
        ensure_local_pair(folder / "keys", VEHICLE)
        self._write_configurations()
        self.children = {child.name: child for child in self._make_children()}
        self._helpers: list[Helper] = []

    def start(self, *names: str) -> None:
        """Start processes of the vehicle, or the receiver."""
        for name in names:
            self.children[name].start()

    def helper(self, name: str, module: str, *arguments: str) -> Helper:
        """Start a process of the bench."""
        helper = Helper(name, self.folder / "logs" / f"{name}.log", module, *arguments)
        self._helpers.append(helper)
        return helper

    def film_arguments(self) -> Sequence[str]:
        """What the helpers that read the film are told."""
        return film_arguments(self.film, self.load)

    def check(self) -> None:
        """StageError when a process that should run does not."""
        for child in self.children.values():
            if child.process is not None and not child.was_stopped and not child.is_running:
                raise StageError(f"{child.name} ended with code {child.process.returncode}: see {child.log_path}")

    def status(self, process: str) -> dict[str, Any]:
        """The newest status of a process; empty before the first."""
        folder = self.folder if process == "receiver" else self.memory / "status"
        name = "received/receiver.json" if process == "receiver" else f"{process}.json"
        try:
            return read_status(folder / name) or {}
        except StatusError as error:
            raise StageError(str(error)) from error

    def is_up(self, process: str) -> bool:
        """Whether this start of a process of the vehicle has written its status: from then on it hears signals."""
        child = self.children[process].process
        return child is not None and self.status(process).get("pid") == child.pid

    def pids(self) -> dict[str, int]:
        """Process ids of the running vehicle processes, the runtime's own process for cameras, and the receiver."""
        running = {
            name: child.process.pid
            for name, child in self.children.items()
            if child.process is not None and child.is_running
        }
        status = self.status("runtime") if "runtime" in running else {}
        cameras = status.get("cameras_process")
        if status and "cameras_process" not in status:
            raise StageError("the runtime's status does not say where its cameras run: their processor time is unknown")
        if cameras is not None and cameras["pid"] is None:
            raise StageError("the runtime's cameras are down: see its log")
        return running if cameras is None else {**running, "cameras": int(cameras["pid"])}

    def stop(self, *names: str) -> None:
        """Stop processes in this order. StageError when one ended badly."""
        codes = {name: self.children[name].stop(STOP_TIMEOUT_S) for name in names}
        bad = {name: code for name, code in codes.items() if code not in (0, None)}
        if bad:
            told = [f"{name} ended with code {code}: see {self.children[name].log_path}" for name, code in bad.items()]
            raise StageError(", ".join(told))

    def close(self) -> None:
        """End whatever still runs, and give the memory back."""
        for helper in self._helpers:
            helper.kill()
        for child in self.children.values():
            child.stop(STOP_TIMEOUT_S)
        shutil.rmtree(self.memory, ignore_errors=True)

    def _make_children(self) -> list[Child]:
        logs = self.folder / "logs"
        config = ("--config", str(self.folder / "rig.yaml"))
        receive = shadowrig_command("receive", "--config", str(self.folder / "receiver.yaml"))
        children = [Child("receiver", receive, logs / "receiver.log")]
        for process in ("uploader", "recorder", "runtime"):
            command = shadowrig_command("run", "--process", process, *config)
            status = self.memory / "status" / "recorder.json" if process == "recorder" else None
            children.append(Child(process, command, logs / f"{process}.log", progress_path=status))
        return children

    def _write_configurations(self) -> None:
        addresses, load = self.addresses, self.load
        (self.folder / "record.yaml").write_text(yaml.safe_dump(RECORD_RULE, sort_keys=False))
        camera = {"kind": "zeromq", "address": addresses.cameras}
        rig = {
            "vehicle": {"id": VEHICLE},
            "rig": str(rig_of(self.film, load)),
            "cameras": {name: {"source": dict(camera), "rate_hz": load.rate_hz} for name in load.camera_names},
            "signals": {"sources": [{"kind": "zeromq", "address": addresses.cameras}]},
            "model": {"bundle": self.model},
            "tick": {"rate_hz": load.rate_hz, "phase_ms": self._phase_ms},
            "rules": {"files": ["library", "record.yaml"]},
            "history": {"directory": str(self.memory / "history"), "seconds": HISTORY_S, "max_bytes": HISTORY_BYTES},
            "recorder": {"max_clip_s": 6},
            "spool": {"directory": str(self.folder / "vehicle" / "spool"), "quota": SPOOL_QUOTA_BYTES},
            "uplink": {"server": addresses.receiver, "keys": str(self.folder / "keys" / "vehicle")},
            "state_directory": str(self.folder / "vehicle"),
            "health": {"telemetry": addresses.telemetry},
        }
        receiver = {
            "bind": addresses.receiver, "directory": str(self.folder / "received"),
            "keys": str(self.folder / "keys" / "receiver"),
        }  # fmt: skip
        (self.folder / "rig.yaml").write_text(yaml.safe_dump(rig, sort_keys=False))
        (self.folder / "receiver.yaml").write_text(yaml.safe_dump(receiver, sort_keys=False))


def memory_of(folder: Path) -> Path:
    """History and status, in memory where that can be; named after the run's folder, so that what a run that was
    killed has left is found and removed by the next."""
    base = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else folder
    return base / f"shadowrig-latency-{os.getuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"


def _free_ports(count: int) -> list[int]:
    """Ports that are free at this moment; all are held until the last is known, so that none is given twice."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
