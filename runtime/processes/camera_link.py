"""The runtime's end of its cameras' process: starts it, hears its reports, and starts it again when it dies.

One thread listens. What it hears goes where a camera's thread in this process would bring it: packets to history,
readiness to the search for the phase, each camera's record to its `MirroredWatch`, the grid's corrections to the grid.
Pictures do not come this way; they lie in shared memory already.

While the process is down its cameras are `connecting`, with what happened as their error: rules over camera health
see it, ticks go on without frames, and it is tried again after a bounded, doubling pause, as long as the runtime lives.
A process that says nothing for `SILENT_S` is taken for hung and killed. The next one goes on where the last one ended:
nothing is recorded twice, and frames that never came are counted as lost. What the dead one had not handed over (up to
`REPORT_PERIOD_S` of packets) is among them.
"""

from __future__ import annotations

import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from runtime.backoff import LONGEST_PAUSE_S, Backoff
from runtime.camera_memory import CameraMemory
from runtime.capture.assembler import Assembler, FrameCounters
from runtime.capture.camera_watch import MirroredWatch
from runtime.capture.phase import InstantGrid
from runtime.health.realtime import RealtimeReport
from runtime.messages import NANOSECONDS_PER_SECOND, Packet
from runtime.processes.camera_entry import NOT_FOR_IT
from runtime.processes.camera_messages import Assignment, Begin, Built, Report, Stop
from runtime.processes.shell import StartError, log

#: Below the time that systemd gives a service to stop in, which waits for this.
BUILD_TIMEOUT_S = 25.0
SILENT_S = 5.0
#: Threads and encoder of the process have half of it each; it reports meanwhile.
STOP_TIMEOUT_S = 8.0
END_TIMEOUT_S = 1.0
CAMERA_ENTRY = "runtime.processes.camera_entry"
_COUNTS = ("refused", "errors")


@dataclass(frozen=True, slots=True)
class ReportListeners:
    """Who hears of what a report holds; called by the listening thread."""

    keep: Callable[[Packet], None]
    note: Callable[[RealtimeReport], None]
    ready: Callable[[str, int], None] | None  # camera, and nanoseconds after its instant
    give_way: Callable[[], None]
    now_ns: Callable[[], int]


@dataclass(slots=True)
class _Life:
    """One process, from its start to its end."""

    process: subprocess.Popen[bytes]
    connection: Connection


class CameraLink:
    """The process and the thread that listens to it. Call `wait_until_built`, `attach`, `start` and `stop` in order."""

    def __init__(self, assignment: Assignment, memory: CameraMemory) -> None:
        """Starts the process, which takes a second or two to be built. Raises OSError."""
        self._assignment = assignment
        self._memory = memory
        self._stopping = threading.Event()
        self._restarts = 0
        self._corrections_late = 0
        self._refused = self._refused_before = 0
        self._frames_before: Mapping[str, FrameCounters] = {}
        self._encoder: dict[str, Any] = {"refused": 0, "errors": 0, "last_error": ""}
        self._encoder_before: Counter[str] = Counter()
        self._watches: Sequence[MirroredWatch] = ()
        self._assemblers: Sequence[Assembler] = ()
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)
        self._start_ns = 0
        self._lock = threading.Lock()  # over who writes to the connection and who closes it
        self._life: _Life | None = self._launch()

    def wait_until_built(self) -> None:
        """Recorded sources are open, and the cameras can begin at once. Raises StartError."""
        life = self._life
        assert life is not None
        try:
            if self._hear_built(life):
                return
            what = f"said nothing for {BUILD_TIMEOUT_S:g} s and was killed"
            life.process.kill()
        except (EOFError, OSError):
            what = "ended before it was built; its own message is above"
        raise StartError(f"the cameras' process {what} ({self._end(life)})", exit_code=1)

    def attach(
        self,
        watches: Sequence[MirroredWatch],
        assemblers: Sequence[Assembler],
        grid: InstantGrid,
        listeners: ReportListeners,
    ) -> None:
        """Who is told what; `watches` in the order of the assignment's cameras, `assemblers` in that of its specs."""
        self._watches = watches
        self._assemblers = assemblers
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
            log.warning("the cameras' process did not end within %g s and is killed", STOP_TIMEOUT_S)
            life = self._life
            if life is not None:
                life.process.kill()
            self._thread.join(END_TIMEOUT_S)
        self._memory.close()

    def encoder_status(self) -> dict[str, Any]:
        """What the encoder refused, and what it could not encode."""
        return self._encoder

    def process_status(self) -> dict[str, Any] | None:
        """Its pid (None: it is down), restarts, packets that it could not hand over, framesets kept from the tick,
        corrections of the grid that came after the instant they begin with."""
        life = self._life
        return {
            "pid": None if life is None else life.process.pid,
            "restarts": self._restarts,
            "packets_refused": self._refused_before + self._refused,
            "framesets_blocked": sum(assembler.blocked for assembler in self._assemblers),
            "corrections_late": self._corrections_late,
        }

    # The listening thread

    def _run(self) -> None:
        backoff = Backoff()
        while True:
            began_ns, ending = self._listeners.now_ns(), self._live()
            if self._stopping.is_set():
                if ending:
                    log.error("the cameras' process did not end as it was told: %s", ending)
                return
            lived_s = (self._listeners.now_ns() - began_ns) / NANOSECONDS_PER_SECOND
            if lived_s > LONGEST_PAUSE_S:
                backoff.reset()
            pause_s = backoff.next_s()
            self._mourn(f"the cameras' process ended ({ending or 'code 0'}); it is started again in {pause_s:g} s")
            if self._stopping.wait(pause_s):
                return
            self._restarts += 1

    def _live(self) -> str:
        """Hear one process out, starting it where it is not there; how it ended, empty when as it should."""
        heard = ""
        try:
            if self._life is None:
                self._life = self._launch()
                if not self._hear_built(self._life):
                    self._life.process.kill()
            heard = self._listen(self._life)
        except (EOFError, OSError) as error:
            heard = str(error)
        except Exception as error:  # a report that cannot be: another process may make better ones
            heard = f"{type(error).__name__}: {error}"
            if self._life is not None:
                self._life.process.kill()
        with self._lock:
            life, self._life = self._life, None
        return heard if life is None else self._end(life, heard)

    def _listen(self, life: _Life) -> str:
        """Hear reports until the stream ends (EOFError), or nothing comes any more: says so."""
        resume = tuple(watch.last_packet_ns for watch in self._watches)
        self._tell(Begin(self._start_ns, self._grid.segments(), resume))
        if self._stopping.is_set():
            self._tell(Stop())
        while life.connection.poll(SILENT_S):
            self._take(pickle.loads(life.connection.recv_bytes()))
        life.process.kill()
        return f"it said nothing for {SILENT_S:g} s"

    def _take(self, report: Report) -> None:
        listeners = self._listeners
        self._corrections_late += self._grid.follow(report.segments, listeners.now_ns())
        for watch, said in zip(self._watches, report.watches, strict=True):
            if said.info is not None and said.info != watch.info:
                for assembler in self._assemblers:
                    assembler.declare(watch.name, said.info.rate_hz, free_running=said.info.free_running)
            watch.adopt(said)
        for camera, frames in report.frames.items():
            self._assemblers[0].adopt(camera, frames.offered_since(self._frames_before.get(camera, FrameCounters())))
        if listeners.ready is not None:
            for camera, after_ns in report.ready:
                listeners.ready(camera, after_ns)
        if report.realtime.settings and not self._restarts:
            listeners.note(report.realtime)
        counts = {name: self._encoder_before[name] + report.encoder[name] for name in _COUNTS}
        self._encoder, self._refused = {**report.encoder, **counts}, report.refused
        listeners.give_way()
        for packet in report.packets:
            listeners.keep(packet)

    def _mourn(self, what: str) -> None:
        log.error("runtime: %s", what)
        for watch in self._watches:
            watch.orphaned(what, self._listeners.now_ns())
        if self._assemblers:
            self._frames_before = self._assemblers[0].counters()
        self._encoder_before = Counter({name: self._encoder[name] for name in _COUNTS})
        self._refused_before, self._refused = self._refused_before + self._refused, 0

    # The process

    def _launch(self) -> _Life:
        """Start it and give it its assignment. Raises OSError."""
        mine, its = socket.socketpair()
        try:
            with its:
                process = self._start_process(its.fileno())
        except BaseException:
            mine.close()
            raise
        connection = Connection(mine.detach())
        connection.send_bytes(pickle.dumps(self._assignment))
        return _Life(process, connection)

    def _start_process(self, descriptor: int) -> subprocess.Popen[bytes]:
        """In a session of its own, and deaf to what is meant for the runtime until it can say so itself."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_IT)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", CAMERA_ENTRY, str(descriptor)],
                stdin=subprocess.DEVNULL, pass_fds=(descriptor, *self._memory.descriptors), start_new_session=True,
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _hear_built(self, life: _Life) -> bool:
        """False when it says nothing. Raises EOFError, OSError when it ends instead."""
        return life.connection.poll(BUILD_TIMEOUT_S) and isinstance(pickle.loads(life.connection.recv_bytes()), Built)

    def _tell(self, message: Begin | Stop) -> None:
        with self._lock:
            life = self._life
            if life is None or life.connection.closed:
                return
            try:
                life.connection.send_bytes(pickle.dumps(message))
            except OSError:
                return  # it is gone: who listens finds that out

    def _end(self, life: _Life, heard: str = "") -> str:
        """See the process off, killing it where it lingers; how it ended, empty for an end as it should be."""
        with self._lock:
            life.connection.close()
        try:
            code = life.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            life.process.kill()
            return f"it hung and was killed with code {life.process.wait()}"
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"code {code}" if code else ""
        return ", ".join(filter(None, (heard, how)))
