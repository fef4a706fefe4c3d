"""Recorded cameras, played live: a drive's camera or a video file, paced by capture time.

All cameras and signals of one drive share a `DriveEpoch`, the one mapping from the drive's time to the live clock, so
that what was simultaneous stays simultaneous. A packet is handed out when its live capture time has come, never
before; a reader that is slow gets it late, as from a real camera.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from runtime.capture.sources import CaptureDataError, CaptureEnded, CaptureOpenError
from runtime.clock import Clock
from runtime.drives.drive import DriveCamera, DriveEpoch, DriveVideoError
from runtime.drives.video_files import ContainerTimedCamera
from runtime.formats.bitstream import StreamInfo
from runtime.messages import NANOSECONDS_PER_SECOND, Packet


class DriveCameraSource:
    """One camera of a drive as a live source."""

    def __init__(self, camera: DriveCamera, clock: Clock, epoch: DriveEpoch, name: str | None = None) -> None:
        """`name` is the camera's name in the rig, where it differs from the drive's."""
        self._camera = camera
        self._clock = clock
        self._epoch = epoch
        self._name = camera.name if name is None else name
        self._packets: Iterator[Packet] | None = None
        self._next: Packet | None = None
        self._never = threading.Event()

    def open(self) -> StreamInfo:
        try:
            info = self._camera.stream()
        except DriveVideoError as error:
            raise CaptureDataError(str(error)) from error
        self._packets = self._camera.packets()
        return info

    def read(self, timeout_s: float) -> Packet | None:
        packet = self._upcoming()
        deadline_ns = self._clock.now_ns() + round(timeout_s * NANOSECONDS_PER_SECOND)
        live_ns = self._epoch.to_live(packet.time_ns)
        self._clock.wait_until(min(live_ns, deadline_ns), self._never)
        if live_ns > deadline_ns:
            return None
        self._next = None
        wall_ns = self._clock.wall_ns() - self._clock.now_ns() + live_ns
        return replace(packet, camera=self._name, time_ns=live_ns, wall_ns=wall_ns)

    def _upcoming(self) -> Packet:
        if self._packets is None:
            raise CaptureOpenError(f"camera {self._name} of the drive is read before it is opened")
        if self._next is None:
            try:
                self._next = next(self._packets)
            except StopIteration:
                raise CaptureEnded(f"the recording of camera {self._name} is over") from None
            except DriveVideoError as error:
                raise CaptureDataError(str(error)) from error
        return self._next

    def close(self) -> None:
        self._packets = None
        self._next = None


def video_file_source(
    name: str, path: Path, clock: Clock, *, loop: bool = False, live_start_ns: int | None = None
) -> DriveCameraSource:
    """A video file as a live camera, from `live_start_ns` on (now, when it is not given)."""
    camera = ContainerTimedCamera(name, [path], loop=loop)
    start_ns = clock.now_ns() if live_start_ns is None else live_start_ns
    return DriveCameraSource(camera, clock, DriveEpoch(0, start_ns))
