"""Real `shadowrig` processes for tests, in a folder of their own, with everything on loopback.

Waiting is for a condition, never for a length of time; the limits only end a test that hangs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from runtime.health.status import read_status

LIMIT_S = 60.0
REPOSITORY = Path(__file__).resolve().parents[1]


def wait_for(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """The first true value of `condition`."""
    deadline_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"{what} did not happen within {limit_s:g} s"
        time.sleep(0.05)
    return found


def is_alive(pid: int) -> bool:
    """True while the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Command:
    """A running `shadowrig` command, its output in a file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        environment = {key: value for key, value in os.environ.items() if not key.endswith("_DIRECTORY")}
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runtime.cli", *arguments],
                cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(LIMIT_S)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    def end(self) -> None:
        """Clean up after a test, whatever became of it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()


class _PlainDumper(yaml.SafeDumper):
    """Writes out a value that stands twice: configurations know no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


class Daemon:
    """`shadowrig run` with its configuration, directories and status files below one folder."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config_path = folder / "rig.yaml"
        everything = {
            "vehicle": {"id": "tiny-car"},
            "model": None,
            "history": {"directory": "history", "seconds": 30},
            "state_directory": "state",
            "health": {"status_interval_s": 0.1},
            "realtime": {"lock_memory": False},
            **config,
        }
        self.config_path.write_text(yaml.dump(everything, Dumper=_PlainDumper, sort_keys=False))
        self.command: Command | None = None

    def start(self, process: str = "all") -> Command:
        """Start it, all processes or one."""
        self.command = Command(
            self.folder / f"{process}.log", "run", "--config", str(self.config_path), "--process", process
        )
        return self.command

    def status(self, process: str) -> dict[str, Any]:
        """The newest status of a process; empty before the first."""
        return read_status(self.folder / "status" / f"{process}.json") or {}

    def wait_for(self, process: str, condition: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
        """The first status of a process for which `condition` holds."""

        def satisfied() -> dict[str, Any] | None:
            status = self.status(process)
            found = status if status and condition(status) else None
            code = None if self.command is None else self.command.process.poll()
            assert found or code is None, f"{what} cannot happen any more: the daemon ended with code {code}"
            return found

        try:
            return wait_for(satisfied, what)
        except AssertionError as error:
            logs = "\n".join(path.read_text()[-2000:] for path in self.logs)
            raise AssertionError(f"{error}; {process} says {self.status(process)}\n{logs}") from error

    @property
    def logs(self) -> list[Path]:
        """Every log so far."""
        return sorted({*self.folder.glob("*.log"), *(self.folder / "state" / "logs").glob("*.log")})

    @property
    def sealed_clips(self) -> list[Path]:
        """Clips that wait in the spool."""
        return sorted((self.folder / "state" / "spool" / "clips").glob("*.mcap"))

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by process, from the status files."""
        names = ("runtime", "recorder", "uploader")
        return {name: pid for name in names if (pid := self.status(name).get("pid")) is not None}
