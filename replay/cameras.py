"""A drive's cameras played in step: every packet up to a moment, decoded in parallel, before the tick of that moment.

Each camera belongs to one worker at a time and the assembler does not depend on which thread came first, so the
framesets are those of the live run, whatever the machine's load.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from runtime.capture.assembler import Assembler
from runtime.capture.camera_path import CameraPath
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.conditioning import ClipReady
from runtime.capture.decoding import UnknownCodecError
from runtime.drives import Drive, DriveCamera, DriveVideoError
from runtime.messages import Packet


class ReplayCamera:
    """One camera of the drive."""

    def __init__(
        self,
        camera: DriveCamera,
        watch: CameraWatch,
        assembler: Assembler | None,
        keep_packets: bool,
        second: Assembler | None = None,
    ) -> None:
        self.watch = watch
        self._camera = camera
        self._path = CameraPath(watch, assembler, second)
        self._keep_packets = keep_packets
        self._packets: Iterator[Packet] | None = None
        self._next: Packet | None = None
        self._ready: ClipReady | None = None
        self._is_over = False
        self.recorded_bytes = 0
        self.codec: str | None = None

    def open(self, now_ns: int) -> None:
        """Begin; a video that cannot be opened is a fault of this camera only."""
        try:
            info = self._camera.stream()
            self._path.open(info, now_ns)
            self._ready = ClipReady(self.watch.name, info) if self._keep_packets else None
            self._packets = self._camera.packets()
        except (DriveVideoError, UnknownCodecError) as error:
            self.watch.failed(str(error), now_ns)
            self._is_over = True

    def feed_until(self, time_ns: int) -> list[Packet]:
        """Take in every packet captured up to `time_ns`; returns what of it belongs in clips."""
        ready: list[Packet] = []
        while (packet := self._upcoming(time_ns)) is not None and packet.time_ns <= time_ns:
            self._next = None
            self.recorded_bytes += len(packet.data)
            self.codec = packet.codec
            self._path.feed(packet)
            if self._ready is not None:
                ready += self._ready.feed(packet)
        return ready

    def _upcoming(self, now_ns: int) -> Packet | None:
        if self._next is None and not self._is_over and self._packets is not None:
            try:
                self._next = next(self._packets, None)
                if self._next is None:
                    self._end(now_ns)
            except DriveVideoError as error:
                self._is_over = True
                self.watch.failed(str(error), now_ns)
        return self._next

    def _end(self, now_ns: int) -> None:
        self._is_over = True
        self.watch.ended(now_ns)


class ReplayCameras:
    """All cameras of a drive, fed side by side."""

    def __init__(
        self,
        drive: Drive,
        watches: Sequence[CameraWatch],
        assembler: Assembler | None,
        keep_packets: bool,
        workers: int,
        second: Assembler | None = None,
    ) -> None:
        self.players = [
            ReplayCamera(drive.cameras[watch.name], watch, assembler, keep_packets, second) for watch in watches
        ]
        self._pool = ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="replay-camera")
        for camera in self.players:
            camera.open(drive.start_ns)

    def feed_until(self, time_ns: int) -> list[Packet]:
        """Every camera's packets up to `time_ns`; clip-ready ones come back, oldest first."""
        fed = self._pool.map(lambda camera: camera.feed_until(time_ns), self.players)
        return sorted((packet for packets in fed for packet in packets), key=lambda packet: packet.time_ns)

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(wait=True)
