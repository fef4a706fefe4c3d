"""The receiver's end of its verifier's process: starts it when there is a clip to look at, ends it when there is none.

Python with its decoders takes about 100 MB, which a receiver of idle vehicles does not have to spare. A clip's file
travels as an open descriptor: the process needs no path, and a download without a name needs none either. What it
answers is as little to be trusted as the clips it has read: bounded, JSON, and text only.

A process that has died, or said nothing for too long, died of the clip that it looked at; the next one gets a new one.
What is too long grows with the clip: a long one is honest work, and its size is what a vehicle pays for.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.processes.verifier_child import MAX_ANSWER_BYTES, OUT_OF_MEMORY, READY
from runtime.uplink.verification import VerifierDiedError, VerifierStoppedError, VerifierTooSlowError

VERIFIER = "runtime.processes.verifier_child"
#: All of the receiver's environment that the verifier gets: no passwords of stores and databases.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
#: Threads of libraries would only take address space; it works on one thing at a time.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_POLL_S = 0.2
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class VerifierBounds:
    """What looking at clips may take. `memory_bytes`: beyond what the process maps before it has seen any.

    `processor_s` and `wall_s` are what the smallest clip may take; each MiB of a clip adds, up to the longest. Ten
    minutes of eight cameras (1080p, 30 Hz) are decoded in about 370 s of processor time. At every size the wall time
    lies below the catalogue's lease on a clip (`backlog.verifying_lease_ns`), with time left for a download.
    """

    memory_bytes: int = 1 << 30
    processor_s: float = 240.0
    processor_s_per_mebibyte: float = 2.0
    longest_processor_s: float = 1800.0
    wall_s: float = 480.0
    wall_s_per_mebibyte: float = 4.0
    longest_wall_s: float = 3600.0
    start_s: float = 60.0
    idle_s: float = 30.0

    def processor_s_for(self, size_bytes: int) -> float:
        """Seconds of processor time for a clip of this size."""
        return min(self.longest_processor_s, self.processor_s + self.processor_s_per_mebibyte * size_bytes / MEBIBYTE)

    def wall_s_for(self, size_bytes: int) -> float:
        """Seconds in all for a clip of this size."""
        return min(self.longest_wall_s, self.wall_s + self.wall_s_per_mebibyte * size_bytes / MEBIBYTE)


class VerifierLink:
    """A `runtime.uplink.verification.Verifier` in a process of its own."""

    def __init__(self, bounds: VerifierBounds | None = None) -> None:
        self._bounds = bounds or VerifierBounds()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._idle_since_s: float | None = None
        self._processor_s = 0.0  # what the clip may take that is looked at

    @property
    def pid(self) -> int | None:
        """The process that is up; None while there is none."""
        return None if self._process is None else self._process.pid

    def problems_of(self, path: Path, stop: threading.Event) -> Sequence[str]:
        """See `Verifier`."""
        self._idle_since_s = None
        with path.open("rb") as clip:
            size_bytes = os.fstat(clip.fileno()).st_size
            self._processor_s, wall_s = self._bounds.processor_s_for(size_bytes), self._bounds.wall_s_for(size_bytes)
            link = self._handed_over(clip.fileno(), stop)
            try:
                return _checked(self._heard(link, wall_s, stop))
            except TimeoutError as error:
                self.close()
                raise VerifierTooSlowError(f"it took more than {wall_s:.4g} s") from error
            except (EOFError, ConnectionError, ValueError, RecursionError) as error:
                raise self._death(error) from error
            except VerifierStoppedError:
                self.close()
                raise

    def _handed_over(self, descriptor: int, stop: threading.Event) -> socket.socket:
        """The link over which the answer will come. A process that went while it was idle died of no clip."""
        order = f"{self._processor_s}".encode()
        link = self._link or self._started(stop)
        try:
            socket.send_fds(link, [order], [descriptor])
        except ConnectionError:
            link = self._started(stop)
            socket.send_fds(link, [order], [descriptor])
        return link

    def rest(self) -> None:
        """End the process when nothing has been asked for `idle_s`."""
        now_s = time.monotonic()
        if self._idle_since_s is None:
            self._idle_since_s = now_s
        if now_s - self._idle_since_s >= self._bounds.idle_s:
            self.close()

    def close(self) -> None:
        """End the process, whatever it does; it has nothing to lose."""
        process, link = self._process, self._link
        self._process = self._link = None
        if link is not None:
            link.close()
        if process is not None:
            process.kill()
            process.wait()

    def _started(self, stop: threading.Event) -> socket.socket:
        """A process that is ready. Raises OSError, also when a new one does not get ready."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", VERIFIER, str(theirs.fileno()), str(self._bounds.memory_bytes)],
                stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _ONE_THREAD,
            )  # fmt: skip
        try:
            if self._heard(ours, self._bounds.start_s, stop) != READY:
                raise EOFError("it said something else than that it is ready")
        except (EOFError, ConnectionError, TimeoutError) as error:
            raise OSError(f"the verifier's process does not start: {self._cause_of_death(error)}") from error
        except VerifierStoppedError:
            self.close()
            raise
        return ours

    def _heard(self, link: socket.socket, wait_s: float, stop: threading.Event) -> bytes:
        """The next datagram. Raises TimeoutError, VerifierStoppedError, and EOFError when the process is gone."""
        deadline_s = time.monotonic() + wait_s
        poll = select.poll()
        poll.register(link, select.POLLIN)
        while not poll.poll(1000 * _POLL_S):
            if stop.is_set():
                raise VerifierStoppedError
            if time.monotonic() >= deadline_s:
                raise TimeoutError(f"nothing was heard for {wait_s:g} s")
        heard = link.recv(MAX_ANSWER_BYTES + 1)
        if not heard:
            raise EOFError("it is gone")
        return heard

    def _death(self, error: BaseException) -> VerifierDiedError:
        process = self._process
        cause = self._cause_of_death(error)
        is_slow = process is not None and process.returncode == -signal.SIGXCPU
        return VerifierTooSlowError(cause) if is_slow else VerifierDiedError(cause)

    def _cause_of_death(self, error: BaseException) -> str:
        """End it, if it is not gone already, and say how it went."""
        process = self._process
        try:
            code = None if process is None else process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = None
        self.close()
        if code is None:
            return f"it was ended: {error}"
        if code == OUT_OF_MEMORY:
            return f"it took more than {self._bounds.memory_bytes} bytes of memory"
        if code == -signal.SIGXCPU:
            return f"it took more than {self._processor_s:.4g} s of processor time"
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}; see the log"


def _checked(heard: bytes) -> list[str]:
    """Problems, from a process that may be anybody's by now. Raises ValueError, RecursionError."""
    if len(heard) > MAX_ANSWER_BYTES:
        raise ValueError(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
    problems = json.loads(heard)
    if not isinstance(problems, list) or not all(isinstance(problem, str) for problem in problems):
        raise ValueError("its answer is no list of problems")
    return problems
