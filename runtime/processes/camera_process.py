"""The cameras' process: reads, decodes and prepares, and leaves each picture in memory that the tick reads.

Why a process: the interpreter runs one thread at a time, and eight cameras ask for it some thousand times a second. In
threads beside the tick they cost half as much processor time again, and the tick waited for them in the middle of its
work. What is left between both is a lock around a copy of microseconds (`ring_memory`). And a decoder that a broken
stream takes down takes nothing else with it: the runtime starts this process again.

It is told what to do over a socket pair (`camera_messages`), and leaves when told, when the stream ends because the
runtime is gone, or with the kernel's signal when the runtime was killed. SIGINT and SIGTERM mean the runtime and are
not for it.

Threads: `CameraThreads`, and the main one, which reports.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from runtime.camera_memory import CameraMemory
from runtime.capture.assembler import Assembler
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.phase import InstantGrid
from runtime.capture.picture_encoders import choose_encoder
from runtime.clock import Clock, SystemClock
from runtime.health.garbage import SlackCollector
from runtime.health.memory import keep_memory, small_stacks
from runtime.health.realtime import RealtimeReport, apply_to_process, apply_to_thread
from runtime.live_sources import SourceBuilder
from runtime.measured_ahead import AheadMeter
from runtime.messages import NANOSECONDS_PER_SECOND, Packet
from runtime.processes.camera_messages import REPORT_PERIOD_S, Assignment, Begin, Report, Stop
from runtime.processes.camera_threads import CameraListeners, CameraThreads
from runtime.supervisor import leave_with_parent

MAX_QUEUED_BYTES = 64 * 1024 * 1024


class ReportDesk:
    """Collects what cameras' threads have to say until the next report."""

    def __init__(self, grid: InstantGrid, clock: Clock) -> None:
        self._grid = grid
        self._clock = clock
        self._lock = threading.Lock()
        self._packets: list[Packet] = []
        self._queued_bytes = 0
        self._refused = 0
        self._ready: list[tuple[str, int]] = []
        self._realtime = RealtimeReport()
        self._told_segments: int | None = None

    def keep(self, packet: Packet) -> None:
        """A packet for history; refused, and counted, when the runtime has not listened for long."""
        with self._lock:
            if self._queued_bytes + len(packet.data) > MAX_QUEUED_BYTES:
                self._refused += 1
                return
            self._packets.append(packet)
            self._queued_bytes += len(packet.data)

    def note(self, report: RealtimeReport) -> None:
        """What became of a thread's wishes."""
        with self._lock:
            self._realtime += report

    def offered(self, camera: str) -> Callable[[int], None]:
        """What a camera's path tells of each frame's capture time, once it stands in its slot or was refused."""
        grid, clock = self._grid, self._clock

        def ready(time_ns: int) -> None:
            # Against the instant and not the frame: a camera without the common trigger exposes at a time of its own.
            after_ns = clock.now_ns() - grid.time_of(grid.instant_of(time_ns))
            with self._lock:
                self._ready.append((camera, after_ns))

        return ready

    def report(self, watches: list[CameraWatch], assembler: Assembler | None, threads: CameraThreads) -> Report:
        """Everything since the last one."""
        segments = self._grid.segments(self._told_segments)
        if segments:
            self._told_segments = segments[-1].first
        with self._lock:
            packets, self._packets, self._queued_bytes = self._packets, [], 0
            ready, self._ready = self._ready, []
            realtime, self._realtime = self._realtime, RealtimeReport()
            refused = self._refused
        frames = {} if assembler is None else dict(assembler.counters())
        reports = [watch.report() for watch in watches]
        return Report(packets, refused, ready, reports, frames, segments, realtime, threads.encoder_status())


def run_cameras(connection: Connection) -> None:
    """Everything, from the assignment to the last report."""
    clock = SystemClock()
    assignment: Assignment = pickle.loads(connection.recv_bytes())
    config, realtime = assignment.config, assignment.config.realtime
    memory = CameraMemory(assignment.cameras, assignment.specs, assignment.descriptors)
    builder = SourceBuilder(clock)
    builder.camera_names(config)  # opens recorded drives, which takes a while, before the time of the first frame
    connection.send_bytes(pickle.dumps(Report()))
    begin: Begin = pickle.loads(connection.recv_bytes())
    grid = InstantGrid(assignment.period_ns, assignment.reference_camera)
    grid.follow(begin.segments)
    sources = builder.build(config, begin.start_ns).cameras
    watches = [CameraWatch(camera.name, camera.size, clock.now_ns()) for camera in sources]
    assemblers = [
        Assembler(assignment.cameras, spec, grid, ring)
        for spec, ring in zip(assignment.specs, memory.rings, strict=True)
    ]
    if assemblers:
        assemblers[0].on_image = AheadMeter(assignment.specs[0].color, memory.ahead)
    desk = ReportDesk(grid, clock)
    listeners = CameraListeners(desk.keep, desk.note, desk.offered)
    encoder = choose_encoder(config.history.encoder)
    threads = CameraThreads(sources, watches, assemblers, clock, realtime, listeners, encoder)
    threads.start()
    desk.note(apply_to_process(realtime.lock_memory))
    desk.note(apply_to_thread("camera reports", realtime.helper_priority))
    first = assemblers[0] if assemblers else None
    # Python's own collector goes through all that start-up has made, again and again: a third of this process's time.
    collector = SlackCollector()
    collector.start()
    while not _is_over(connection, REPORT_PERIOD_S):
        connection.send_bytes(pickle.dumps(desk.report(watches, first, threads)))
        collector.offer(round(REPORT_PERIOD_S * NANOSECONDS_PER_SECOND))
    threads.stop()
    connection.send_bytes(pickle.dumps(desk.report(watches, first, threads)))


def _is_over(connection: Connection, timeout_s: float) -> bool:
    """Wait for a word of the runtime: True when that is to stop. EOFError when the runtime is gone."""
    return connection.poll(timeout_s) and isinstance(pickle.loads(connection.recv_bytes()), Stop)


def main() -> int:
    """`python -m runtime.processes.camera_process DESCRIPTOR`, as the runtime starts it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    leave_with_parent(signal.SIGKILL)
    # Started again, it comes from a real-time thread: only who asks for that below shall have it.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    small_stacks()
    keep_memory()
    connection = Connection(socket.socket(fileno=int(sys.argv[1])).detach())
    # The runtime is gone: there is nobody to report to, and history has what it got.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        run_cameras(connection)
    return 0


if __name__ == "__main__":
    sys.exit(main())
