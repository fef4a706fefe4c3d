"""Runs the vehicle's processes as children on a dev box; in the car systemd does this work.

A child that dies is started again after a bounded, doubling pause; more than `MAX_RESTARTS` deaths of one child, none
of which came after `HEALTHY_S` of life, end the whole run with an error. Stopping follows the data: the runtime first,
so that the recorder can seal what is in flight, and the uploader last. A child whose `progress_path` still changes is
not killed for taking long. Children live in sessions of their own, so that a Ctrl-C or a signal to the whole group does
not reach them past this order; the kernel tells them to leave when the supervisor itself is killed.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.backoff import Backoff

MAX_RESTARTS = 20
#: Who has lived so long was well: its next death is a first one.
HEALTHY_S = 300.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.1

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class SupervisorError(RuntimeError):
    """A child cannot be kept running. `exit_code` is 2 when it refused its input, 1 otherwise."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(slots=True)
class Child:
    """One process: how to start it, and what became of it."""

    name: str
    command: Sequence[str]
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0  # since it was last well
    exit_codes: list[int] = field(default_factory=list)  # of its last deaths
    start_again_at_s: float = 0.0
    seen_alive_at_s: float | None = None  # first, since it was started
    was_stopped: bool = False  # on purpose: it stays down
    progress_path: Path | None = None  # a file that it writes as long as it makes progress
    backoff: Backoff = field(default_factory=Backoff)

    def start(self) -> None:
        """Start it, with its output appended to its log file; again, if it was stopped on purpose."""
        self.was_stopped = False
        self.seen_alive_at_s = None
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=leave_with_parent,
            )  # fmt: skip

    @property
    def is_running(self) -> bool:
        """True while the process lives."""
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """SIGTERM, then SIGKILL after `timeout_s` without progress; the exit code, or None if it never ran."""
        self.was_stopped = True
        if self.process is None:
            return None
        if self.is_running:
            self.process.send_signal(signal.SIGTERM)
        while True:
            seen_ns = self._progress_ns()
            try:
                return self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                if self._progress_ns() == seen_ns:
                    break
        self.process.kill()
        return self.process.wait()

    def _progress_ns(self) -> int:
        """When it last wrote its file; 0 without one."""
        try:
            return 0 if self.progress_path is None else self.progress_path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def leave_with_parent(number: int = signal.SIGTERM) -> None:
    """Runs in the child before its program does: this signal when its parent dies, however it dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)


def shadowrig_command(*arguments: str) -> list[str]:
    """The command line that runs `shadowrig ARGUMENTS` with this very interpreter."""
    return [sys.executable, "-m", "runtime.cli", *arguments]


class Supervisor:
    """Keeps children alive until told to stop. A child that leaves with code 0 is done, not dead."""

    def __init__(self, children: Sequence[Child], report: Callable[[str], None]) -> None:
        self.children = {child.name: child for child in children}
        self._report = report

    def start(self) -> None:
        """Start every child, in order."""
        for child in self.children.values():
            child.start()

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set or every child is done; SupervisorError when one keeps dying."""
        while not stop.wait(POLL_S):
            self.watch_once(time.monotonic())
            if all(self._is_done(child) for child in self.children.values()):
                return

    def watch_once(self, now_s: float) -> None:
        """Start again what died and whose pause is over."""
        for child in self.children.values():
            if child.is_running and child.seen_alive_at_s is None:
                child.seen_alive_at_s = now_s
            if child.is_running or child.was_stopped or self._is_done(child):
                continue
            if child.start_again_at_s == 0.0:
                self._bury(child, now_s)
            elif now_s >= child.start_again_at_s:
                child.start_again_at_s = 0.0
                child.start()

    def stop(self, names: Sequence[str] | None = None, timeout_s: float = STOP_TIMEOUT_S) -> dict[str, int | None]:
        """Stop children in the given order (default: the order of starting); their exit codes."""
        return {name: self.children[name].stop(timeout_s) for name in names or list(self.children)}

    def _is_done(self, child: Child) -> bool:
        return child.process is not None and child.process.poll() == 0

    def _bury(self, child: Child, now_s: float) -> None:
        code = child.process.returncode if child.process is not None else -1
        child.exit_codes = [*child.exit_codes, code][-MAX_RESTARTS:]
        if child.seen_alive_at_s is not None and now_s - child.seen_alive_at_s >= HEALTHY_S:
            child.restarts = 0
            child.backoff.reset()
        child.restarts += 1
        if code == 2:
            raise SupervisorError(f"{child.name} refused its configuration: see {child.log_path}", exit_code=2)
        if child.restarts > MAX_RESTARTS:
            raise SupervisorError(f"{child.name} died {child.restarts} times, last with {code}: see {child.log_path}")
        pause_s = child.backoff.next_s()
        child.start_again_at_s = now_s + pause_s
        self._report(f"{child.name} died with code {code}; restart in {pause_s:.1f} s (log: {child.log_path})")
