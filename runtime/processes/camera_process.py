"""The cameras' process: reads, decodes and prepares, and leaves each picture in memory that the tick reads.

Why a process: the interpreter runs one thread at a time, and eight cameras ask for it some thousand times a second. In
threads beside the tick they cost half as much processor time again, and the tick waited for them in the middle of its
work. What is left between both is a lock around a copy of microseconds (`ring_memory`). And a decoder that a broken
stream takes down takes nothing else with it: the runtime starts this process again.

It begins in `camera_entry`, is told what to do over a socket pair (`camera_messages`), and leaves when told, when the
stream ends because the runtime is gone, or with the kernel's signal when the runtime was killed.

Threads: `CameraThreads`, and the main one, which reports, and collects garbage in small pieces (`SlackCollector`):
Python's own collector went through all that start-up had made again and again, a third of this process's time.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from runtime.camera_memory import CameraMemory
from runtime.capture.assembler import Assembler
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.phase import InstantGrid, readiness_of
from runtime.capture.picture_encoders import choose_encoder
from runtime.clock import Clock, SystemClock
from runtime.health.garbage import SlackCollector
from runtime.health.memory import keep_memory, small_stacks
from runtime.health.realtime import RealtimeReport, apply_to_process, apply_to_thread
from runtime.live_sources import SourceBuilder
from runtime.measured_ahead import AheadMeter
from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Packet
from runtime.picture_chains import PictureChains
from runtime.processes.camera_messages import REPORT_PERIOD_S, Assignment, Begin, Built, Report, Stop
from runtime.processes.camera_threads import CameraListeners, CameraThreads
from runtime.supervisor import leave_with_parent

MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_READY = 4096
#: What a collection may take at most: cameras stand still for it.
COLLECTION_ALLOWANCE_NS = 4 * NANOSECONDS_PER_MILLISECOND


class RuntimeGoneError(Exception):
    """Nobody listens any more: there is nothing left to do, and history has what it got."""


class Wire:
    """The socket to the runtime. Every method raises RuntimeGoneError."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(socket.socket(fileno=descriptor).detach())

    def send(self, message: Built | Report) -> None:
        """Wait until the runtime can take it."""
        try:
            self._connection.send_bytes(pickle.dumps(message))
        except OSError as error:
            raise RuntimeGoneError from error

    def receive(self) -> Any:
        """The runtime's next word."""
        try:
            return pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise RuntimeGoneError from error

    def is_told_to_stop(self, timeout_s: float) -> bool:
        """Wait so long for a word."""
        try:
            has_word = self._connection.poll(timeout_s)
        except OSError as error:
            raise RuntimeGoneError from error
        return has_word and isinstance(self.receive(), Stop)


class ReportDesk:
    """Collects what cameras' threads have to say until the next report."""

    def __init__(self, grid: InstantGrid, clock: Clock) -> None:
        self._grid = grid
        self._clock = clock
        self._lock = threading.Lock()
        self._packets: list[Packet] = []
        self._queued_bytes = 0
        self._chains = PictureChains()
        self._refused = 0
        self._ready: list[tuple[str, int]] = []
        self._realtime = RealtimeReport()
        self._told_segments: int | None = None

    def keep(self, packet: Packet) -> None:
        """A packet for history; refused, and counted, when the runtime has not listened for long: see PictureChains."""
        with self._lock:
            if not self._chains.takes(packet, self._queued_bytes + len(packet.data) <= MAX_QUEUED_BYTES):
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
        return readiness_of(self._grid, self._clock.now_ns, partial(self._note_ready, camera))

    def _note_ready(self, camera: str, after_ns: int) -> None:
        with self._lock:
            if len(self._ready) < MAX_READY:  # the phase is chosen by far fewer
                self._ready.append((camera, after_ns))

    def report(self, watches: list[CameraWatch], assemblers: list[Assembler], threads: CameraThreads) -> Report:
        """Everything since the last one."""
        segments = self._grid.segments(self._told_segments)
        if segments:
            self._told_segments = segments[-1].first
        with self._lock:
            packets, self._packets, self._queued_bytes = self._packets, [], 0
            ready, self._ready = self._ready, []
            realtime, self._realtime = self._realtime, RealtimeReport()
            refused = self._refused
        frames = dict(assemblers[0].counters()) if assemblers else {}
        reports = [watch.report() for watch in watches]
        return Report(packets, refused, ready, reports, frames, segments, realtime, threads.encoder_status())


def run_cameras(wire: Wire, limits: RealtimeReport) -> None:
    """Everything, from the assignment to the last report. Raises RuntimeGoneError."""
    clock = SystemClock()
    assignment: Assignment = wire.receive()
    config, realtime = assignment.config, assignment.config.realtime
    memory = CameraMemory(assignment.cameras, assignment.specs, assignment.descriptors)
    builder = SourceBuilder(clock)
    builder.camera_names(config)  # opens recorded drives, which takes a while, before the time of the first frame
    encoder = choose_encoder(config.history.encoder)  # may ask another program what it can
    wire.send(Built())
    begin: Begin = wire.receive()
    grid = InstantGrid(assignment.period_ns, assignment.reference_camera)
    grid.follow(begin.segments)
    sources = builder.build(config, begin.start_ns).cameras
    watches = [
        CameraWatch(camera.name, camera.size, clock.now_ns(), last_ns)
        for camera, last_ns in zip(sources, begin.resume_after_ns, strict=True)
    ]
    assemblers = [
        Assembler(assignment.cameras, spec, grid, ring)
        for spec, ring in zip(assignment.specs, memory.rings, strict=True)
    ]
    if assemblers:
        assemblers[0].on_image = AheadMeter(assignment.specs[0].color, memory.ahead)
    desk = ReportDesk(grid, clock)
    threads = CameraThreads(
        sources, watches, assemblers, clock, realtime, CameraListeners(desk.keep, desk.note, desk.offered),
        encoder, begin.resume_after_ns,
    )  # fmt: skip
    threads.start()
    _report_until_stopped(wire, lambda: desk.report(watches, assemblers, threads), desk, limits, assignment)
    # Reports go on while threads end: silence would be taken for a hang.
    ending = threading.Thread(target=threads.stop, name="ending")
    ending.start()
    while ending.is_alive():
        ending.join(REPORT_PERIOD_S)
        wire.send(desk.report(watches, assemblers, threads))
    wire.send(desk.report(watches, assemblers, threads))


def _report_until_stopped(
    wire: Wire, report: Callable[[], Report], desk: ReportDesk, limits: RealtimeReport, assignment: Assignment
) -> None:
    realtime = assignment.config.realtime
    # A correction of the grid holds from four instants on: it must be with the tick by then.
    period_s = min(REPORT_PERIOD_S, assignment.period_ns / NANOSECONDS_PER_SECOND)
    wire.send(report())
    own = limits + apply_to_process(realtime.lock_memory)
    desk.note(RealtimeReport(tuple(replace(each, setting=f"cameras: {each.setting}") for each in own.settings)))
    desk.note(apply_to_thread("camera reports", realtime.helper_priority))
    collector = SlackCollector()
    collector.start()
    while not wire.is_told_to_stop(period_s):
        wire.send(report())
        collector.offer(COLLECTION_ALLOWANCE_NS)


def main(descriptor: int) -> int:
    """Run the cameras for the runtime at the other end of this socket."""
    leave_with_parent(signal.SIGKILL)
    small_stacks()
    limits = keep_memory()
    with contextlib.suppress(RuntimeGoneError):  # as it should be, when the runtime was killed
        run_cameras(Wire(descriptor), limits)
    return 0
