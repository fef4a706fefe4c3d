"""The runtime's end of its cameras' process: starts it, hears its reports, and starts it again when it dies.

One thread listens. What it hears goes where a camera's thread in this process would bring it: packets to history,
readiness to the search for the phase, each camera's record to its `MirroredWatch`, the grid's corrections to the grid.
Pictures do not come this way; they lie in shared memory already.

While the process is down its cameras are `connecting`, with what happened as their error: rules over camera health
see it, ticks go on without frames, and it is tried again after a bounded, doubling pause, as long as the runtime lives.
A process that says nothing for `SILENT_S` is taken for hung and killed.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from runtime.camera_memory import CameraMemory
from runtime.capture.assembler import Assembler, FrameCounters
from runtime.capture.camera_watch import MirroredWatch
from runtime.capture.phase import InstantGrid
from runtime.health.realtime import RealtimeReport
from runtime.messages import Packet
from runtime.processes.camera_messages import Assignment, Begin, Report, Stop
from runtime.processes.shell import StartError, log

BUILD_TIMEOUT_S = 60.0
SILENT_S = 5.0
STOP_TIMEOUT_S = 8.0
END_TIMEOUT_S = 1.0
CAMERA_PROCESS = "runtime.processes.camera_process"
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class ReportListeners:
    """Who hears of what a report holds; called by the listening thread."""

    keep: Callable[[Packet], None]
    note: Callable[[RealtimeReport], None]
    ready: Callable[[str, int], None] | None  # camera, and nanoseconds after its instant
    give_way: Callable[[], None]
    now_ns: Callable[[], int]


class CameraLink:
    """The process and the thread that listens to it. Call `wait_until_built`, `attach`, `start` and `stop` in order."""

    def __init__(self, assignment: Assignment, memory: CameraMemory) -> None:
        """Starts the process, which takes a second or two to be built."""
        self._assignment = assignment
        self._memory = memory
        self._stopping = threading.Event()
        self._restarts = 0
        self._refused = self._refused_before = 0
        self._frames_before: Mapping[str, FrameCounters] = {}
        self._encoder: dict[str, Any] = {"refused": 0, "errors": 0, "last_error": ""}
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)
        self._start_ns = 0
        self._process, self._connection = self._launch()

    def wait_until_built(self) -> None:
        """Recorded sources are open, and the cameras can begin at once. Raises StartError."""
        try:
            self._hear_built()
        except (EOFError, OSError) as error:
            raise StartError(f"the cameras' process did not start ({self._end()}): its own message is above") from error

    def attach(
        self,
        watches: Sequence[MirroredWatch],
        assembler: Assembler | None,
        grid: InstantGrid,
        listeners: ReportListeners,
    ) -> None:
        """Who is told what; `watches` in the order of the assignment's cameras."""
        self._watches = watches
        self._assembler = assembler
        self._grid = grid
        self._listeners = listeners

    def start(self, start_ns: int) -> None:
        """Let the cameras begin, on a grid that has started; recorded ones play from `start_ns` on."""
        self._start_ns = start_ns
        self._thread.start()

    def stop(self) -> None:
        """Tell it to end, and wait for its last report."""
        self._stopping.set()
        self._tell(Stop())
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning("the cameras' process did not end within %g s: it is killed", STOP_TIMEOUT_S)
            self._process.kill()
            self._thread.join(1.0)
        self._memory.close()

    def encoder_status(self) -> dict[str, Any]:
        """What the encoder refused, and what it could not encode."""
        return self._encoder

    def process_status(self) -> dict[str, Any] | None:
        """Its pid, how often it was started again, packets it could not hand over, framesets it kept from the tick."""
        blocked = 0 if self._assembler is None else self._assembler.blocked
        return {
            "pid": self._process.pid,
            "restarts": self._restarts,
            "packets_refused": self._refused_before + self._refused,
            "framesets_blocked": blocked,
        }

    # The listening thread

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            heard = self._listen()
            ending = self._end()
            if self._stopping.is_set():
                return
            pause_s = FIRST_PAUSE_S if heard else min(2 * pause_s, LONGEST_PAUSE_S)
            self._mourn(f"the cameras' process ended ({ending}); it is started again in {pause_s:g} s")
            if self._stopping.wait(pause_s):
                return
            self._restarts += 1
            self._process, self._connection = self._launch()
            with contextlib.suppress(EOFError, OSError):  # whatever it is, `_listen` meets it again
                self._hear_built()

    def _listen(self) -> int:
        """Hear reports until the process has ended or says nothing any more; how many came."""
        self._tell(Begin(self._start_ns, self._grid.segments()))
        heard = 0
        with contextlib.suppress(EOFError, OSError):
            while self._connection.poll(SILENT_S):
                self._take(pickle.loads(self._connection.recv_bytes()))
                heard += 1
        return heard

    def _take(self, report: Report) -> None:
        listeners = self._listeners
        self._grid.follow(report.segments)
        for watch, said in zip(self._watches, report.watches, strict=True):
            if said.info is not None and said.info != watch.info and self._assembler is not None:
                self._assembler.declare(watch.name, said.info.rate_hz, free_running=said.info.free_running)
            watch.adopt(said)
        if self._assembler is not None:
            for camera, frames in report.frames.items():
                self._assembler.adopt(camera, frames.offered_since(self._frames_before.get(camera, FrameCounters())))
        if listeners.ready is not None:
            for camera, after_ns in report.ready:
                listeners.ready(camera, after_ns)
        if report.realtime.settings:
            listeners.note(report.realtime)
        self._encoder, self._refused = report.encoder, report.refused
        for packet in report.packets:
            listeners.give_way()
            listeners.keep(packet)

    def _mourn(self, what: str) -> None:
        log.error("runtime: %s", what)
        for watch in self._watches:
            watch.orphaned(what, self._listeners.now_ns())
        if self._assembler is not None:
            self._frames_before = self._assembler.counters()
        self._refused_before, self._refused = self._refused_before + self._refused, 0

    # The process

    def _launch(self) -> tuple[subprocess.Popen[bytes], Connection]:
        """Start it and give it its assignment."""
        mine, its = socket.socketpair()
        with its:
            descriptors = (its.fileno(), *self._memory.descriptors)
            process = subprocess.Popen(
                [sys.executable, "-m", CAMERA_PROCESS, str(its.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        connection = Connection(mine.detach())
        connection.send_bytes(pickle.dumps(self._assignment))
        return process, connection

    def _hear_built(self) -> None:
        if not self._connection.poll(BUILD_TIMEOUT_S):
            raise EOFError
        self._connection.recv_bytes()

    def _tell(self, message: Begin | Stop) -> None:
        with contextlib.suppress(OSError):  # it is gone: who listens finds that out
            self._connection.send_bytes(pickle.dumps(message))

    def _end(self) -> str:
        """See the process off, killing it where it lingers; how it ended."""
        self._connection.close()
        try:
            code = self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return f"it hung and was killed with code {self._process.wait()}"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"code {code}"
