"""Plays the demo: makes the drive, runs the real processes, waits until every clip is home, and gathers the facts.

The processes are those of `shadowrig run` and `shadowrig receive`, started with configurations written for this one
machine: sockets on 127.0.0.1, keys made on first start, history on tmpfs. Everything stays in one working folder,
`~/.cache/shadowrig/demo` by default; the drive is kept there between runs, the rest is made afresh.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from deploy.demo.facts import DemoFacts
from deploy.demo.gather import gather_facts
from deploy.demo.paths import DemoPaths
from deploy.demo.table import print_facts
from replay.synthetic import synthesize_drive
from replay.synthetic.rigs import synthetic_rig
from runtime.health.status import read_status
from runtime.rig import save_rig
from runtime.shutdown import stop_on_signals
from runtime.spool import Spool
from runtime.supervisor import Child, Supervisor, SupervisorError, shadowrig_command
from runtime.uplink.keys import ensure_local_pair

DEFAULT_FOLDER = Path.home() / ".cache" / "shadowrig" / "demo"
RATE_HZ = 20.0
SIZE_PX = (640, 384)
WEATHER = "clear"
RIG_FILE = "rig.yaml"
#: The drive goes on a little after the last planted event, so that its post-roll is there.
DRIVE_MARGIN_S = 3.0
MIN_SECONDS, MAX_SECONDS = 20.0, 600.0
VEHICLE = "demo-vehicle"
START_TIMEOUT_S = 60.0
DELIVERY_TIMEOUT_S = 120.0
SPOOL_QUOTA_BYTES = 4_000_000_000


class DemoError(RuntimeError):
    """The demo could not be played to its end; shown in the table."""


def run_demo(seconds: float, seed: int, out_dir: Path | None) -> DemoFacts:
    """Play `seconds` of a synthetic drive live and return what came of it. Raises DemoError when it cannot start."""
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise DemoError(f"--seconds is {seconds:g}; choose {MIN_SECONDS:g} to {MAX_SECONDS:g}")
    console = Console()
    folder = (out_dir or DEFAULT_FOLDER).absolute()
    drive_path = _make_drive(folder, seconds, seed, console)
    stage = _Stage(folder / "run", drive_path)
    try:
        problems = stage.play(seconds, console)
        facts = gather_facts(stage.paths, drive_path, seconds, problems)
    finally:
        stage.clear_history()
    print_facts(facts, console)
    return facts


def _make_drive(folder: Path, seconds: float, seed: int, console: Console) -> Path:
    with _progress(console) as progress:
        task = progress.add_task("making the synthetic drive (first time only)", total=1.0)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        path = synthesize_drive(
            folder / "drives", seed=seed, duration_s=seconds + DRIVE_MARGIN_S, rate_hz=RATE_HZ, size=SIZE_PX,
            progress=advance, weather=WEATHER,
        )  # fmt: skip
        progress.update(task, completed=1.0, total=1.0)
        save_rig(synthetic_rig(*SIZE_PX), path.parent / RIG_FILE)
    console.print(f"drive: {path}")
    return path


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(), console=console,
    )  # fmt: skip


class _Stage:
    """The working folder of one run: configurations, keys, processes."""

    def __init__(self, folder: Path, drive_path: Path) -> None:
        self.paths = DemoPaths.under(folder)
        shutil.rmtree(folder, ignore_errors=True)
        self.clear_history()
        for directory in self.paths.directories():
            directory.mkdir(parents=True, mode=0o700)
        ensure_local_pair(self.paths.keys, VEHICLE)
        self._write_configurations(drive_path, f"tcp://127.0.0.1:{_free_port()}")

    def _write_configurations(self, drive_path: Path, address: str) -> None:
        paths = self.paths
        rig = {
            "vehicle": {"id": VEHICLE},
            "rig": str(drive_path.parent / RIG_FILE),
            "drive": str(drive_path),
            "model": {"bundle": "hydra_mini"},
            "tick": {"rate_hz": RATE_HZ},
            "history": {"directory": str(paths.history), "seconds": 45},
            "recorder": {"max_clip_s": 30},
            "spool": {"directory": str(paths.spool), "quota": SPOOL_QUOTA_BYTES},
            "uplink": {"server": address, "keys": str(paths.keys / "vehicle")},
            "state_directory": str(paths.state),
        }
        receiver = {"bind": address, "directory": str(paths.received), "keys": str(paths.keys / "receiver")}
        paths.rig_config.write_text(yaml.safe_dump(rig, sort_keys=False))
        paths.receiver_config.write_text(yaml.safe_dump(receiver, sort_keys=False))

    def play(self, seconds: float, console: Console) -> list[str]:
        """Run the processes for `seconds` of drive; what went wrong on the way, for the table."""
        stop = stop_on_signals()
        supervisor = Supervisor(self._children(), lambda text: console.print(f"[yellow]{text}[/]"))
        problems: list[str] = []
        supervisor.start()
        try:
            self._play_live(supervisor, seconds, stop, console)
            supervisor.stop(["runtime", "recorder"])
            self._wait_for_delivery(supervisor, stop, console)
        except (SupervisorError, DemoError) as error:
            problems.append(str(error))
        finally:
            codes = supervisor.stop(["runtime", "recorder", "uploader", "receiver"])
        problems += [f"{name} ended with code {code}" for name, code in codes.items() if code != 0]
        for child in supervisor.children.values():
            if child.restarts:
                problems.append(f"{child.name} died {child.restarts} times")
        return problems

    def _children(self) -> list[Child]:
        paths = self.paths
        config = ["--config", str(paths.rig_config)]
        receiver = shadowrig_command("receive", "--config", str(paths.receiver_config))
        children = [Child("receiver", receiver, paths.logs / "receiver.log")]
        for process in ("uploader", "recorder", "runtime"):
            command = shadowrig_command("run", "--process", process, *config)
            children.append(Child(process, command, paths.logs / f"{process}.log"))
        return children

    def _play_live(self, supervisor: Supervisor, seconds: float, stop: threading.Event, console: Console) -> None:
        """Wait for the runtime's first tick, then for `seconds` of drive, watching every process."""
        self._wait(supervisor, stop, START_TIMEOUT_S, lambda: self._framesets() > 0, "the runtime made no frameset")
        started_s = time.monotonic()
        with _progress(console) as progress:
            task = progress.add_task("playing the drive live", total=seconds)
            while (elapsed_s := time.monotonic() - started_s) < seconds:
                if stop.wait(0.2):
                    raise DemoError("interrupted")
                supervisor.watch_once(time.monotonic())
                progress.update(task, completed=elapsed_s)
            progress.update(task, completed=seconds)

    def _wait_for_delivery(self, supervisor: Supervisor, stop: threading.Event, console: Console) -> None:
        with Spool.open(self.paths.spool, quota_bytes=SPOOL_QUOTA_BYTES) as spool, _progress(console) as progress:
            sealed = spool.counts().sealed
            task = progress.add_task(f"sending {sealed} clips home", total=sealed)

            def all_home() -> bool:
                counts = spool.counts()
                progress.update(task, completed=counts.delivered)
                receiver = read_status(self.paths.received / "receiver.json") or {}
                looked_at = int(receiver.get("verified", 0)) + int(receiver.get("verification_failed", 0))
                return counts.pending == 0 and looked_at >= counts.delivered

            self._wait(supervisor, stop, DELIVERY_TIMEOUT_S, all_home, "clips were not all delivered and verified")

    def _wait(
        self, supervisor: Supervisor, stop: threading.Event, timeout_s: float, done: Callable[[], bool], failure: str
    ) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not done():
            if stop.wait(0.2):
                raise DemoError("interrupted")
            if time.monotonic() > deadline_s:
                raise DemoError(f"{failure} within {timeout_s:.0f} s: see the logs in {self.paths.logs}")
            supervisor.watch_once(time.monotonic())

    def _framesets(self) -> int:
        status = read_status(self.paths.status / "runtime.json")
        return int(status["framesets"]) if status is not None else 0

    def clear_history(self) -> None:
        """History is memory: give it back."""
        shutil.rmtree(self.paths.history.parent, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
