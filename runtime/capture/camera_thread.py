"""One thread for each live camera: read, hand the packet to history, decode, offer the picture.

A camera that cannot be opened or breaks off is tried again with growing, bounded pauses, for as long as the runtime
lives. Nothing that a camera does ends the process or reaches another camera: every error becomes its `CameraWatch`'s
state. The thread ends when a recording is over or damaged for good, or when it is told to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from runtime.backoff import Backoff
from runtime.capture.camera_path import CameraPath
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.conditioning import ClipReady, EncodingWorker
from runtime.capture.decoding import UnknownCodecError
from runtime.capture.sources import (
    CameraSource,
    CaptureDataError,
    CaptureEnded,
    CaptureError,
    CaptureWaiting,
    StreamInfo,
)
from runtime.clock import Clock
from runtime.messages import NANOSECONDS_PER_SECOND, Packet
from runtime.picture_chains import PictureChains

READ_TIMEOUT_S = 0.2
#: Between two looks at a silent sender; short, because the source waits by itself.
WAITING_PAUSE_S = 0.02
#: A capture time this far from now is a broken clock: it would put the frame into a wrong instant.
MAX_AHEAD_NS = NANOSECONDS_PER_SECOND // 2
MAX_BEHIND_NS = 10 * NANOSECONDS_PER_SECOND


@dataclass(frozen=True, slots=True)
class PacketSink:
    """Where clip-ready packets go, and who encodes those that are not."""

    emit: Callable[[Packet], object]
    worker: EncodingWorker


class CameraThread:
    """Runs one camera until it ends or is stopped."""

    def __init__(
        self,
        source: CameraSource,
        path: CameraPath,
        clock: Clock,
        sink: PacketSink | None = None,
        *,
        on_start: Callable[[], None] | None = None,
        turn: AbstractContextManager[object] | None = None,
        resume_after_ns: int | None = None,
    ) -> None:
        """`on_start` runs first, on the new thread: real-time rights are asked for there.

        `turn` is entered for the work on each packet: where cameras share few processors they take turns.
        Packets up to `resume_after_ns` are passed over: another process has handed them on.
        """
        self._source = source
        self._path = path
        self._clock = clock
        self._sink = sink
        self._on_start = on_start
        self._resume_after_ns = resume_after_ns
        self._turn = nullcontext() if turn is None else turn
        self._ready: ClipReady | None = None
        self._chains = PictureChains()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{path.watch.name}", daemon=True)

    @property
    def watch(self) -> CameraWatch:
        """The camera's running record."""
        return self._path.watch

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it does within the read timeout."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False when it has not come in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self._on_start is not None:
            self._on_start()
        backoff = Backoff()
        while not self._stop.is_set():
            packets_before = self.watch.counters.packets
            if not self._run_connection():
                return
            if self.watch.counters.packets > packets_before:
                backoff.reset()
            self._stop.wait(backoff.next_s())

    def _run_connection(self) -> bool:
        """Open, read until something happens, close. True when it is worth trying again."""
        try:
            info = self._open()
            if info is None:
                return False
            encoder = None if self._sink is None else self._sink.worker.open_encoder
            self._ready = None if encoder is None else ClipReady(self.watch.name, info, encoder)
            self._path.open(info, self._clock.now_ns())
            self._read_until_stopped()
            return False
        except CaptureEnded:
            self.watch.ended(self._clock.now_ns())
            return False
        except (CaptureDataError, UnknownCodecError) as error:
            self.watch.failed(str(error), self._clock.now_ns())
            return False
        except CaptureError as error:
            self.watch.disconnected(str(error), self._clock.now_ns())
            return True
        except Exception as error:  # the last line of defence: one camera must not take the others along
            self.watch.failed(f"{type(error).__name__}: {error}", self._clock.now_ns())
            return False
        finally:
            self._source.close()

    def _open(self) -> StreamInfo | None:
        """Open the source, and wait for a silent sender; None when told to stop meanwhile."""
        while not self._stop.is_set():
            try:
                return self._source.open()
            except CaptureWaiting as waiting:
                self.watch.disconnected(str(waiting), self._clock.now_ns())
                self._stop.wait(WAITING_PAUSE_S)
        return None

    def _read_until_stopped(self) -> None:
        while not self._stop.is_set():
            packet = self._source.read(READ_TIMEOUT_S)
            if packet is None or (self._resume_after_ns is not None and packet.time_ns <= self._resume_after_ns):
                continue
            age_ns = self._clock.now_ns() - packet.time_ns
            if not -MAX_AHEAD_NS <= age_ns <= MAX_BEHIND_NS:
                self.watch.counters.bad_time += 1
                self._chains.lose([packet])
                continue
            with self._turn:
                self._path.feed(packet)
                self._record(packet)

    def _record(self, packet: Packet) -> None:
        """Pass the packet on to history, after the picture that the tick waits for."""
        if self._sink is None or self._ready is None:
            return
        if not self._chains.takes(packet):
            self._ready.dropped += 1
            return
        if self._ready.encodes:
            self._sink.worker.offer(self._ready, packet)
            return
        for ready in self._ready.feed(packet):
            self._sink.emit(ready)
