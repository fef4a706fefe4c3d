"""The live cameras: a thread for each, turns among them, and one encoder for those whose packets no clip can take.

The same in the cameras' own process and, where the network prepares images itself, beside the tick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.capture.assembler import Assembler
from runtime.capture.camera_path import CameraPath
from runtime.capture.camera_thread import CameraThread, PacketSink
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.conditioning import EncodingWorker
from runtime.capture.picture_encoders import OpenEncoder
from runtime.capture.turnstile import Turnstile, places_here
from runtime.clock import Clock
from runtime.config.rig_config import RealtimeConfig
from runtime.health.realtime import RealtimeReport, apply_to_thread
from runtime.live_sources import LiveCamera
from runtime.messages import NANOSECONDS_PER_SECOND, Packet
from runtime.processes.shell import log

JOIN_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class CameraListeners:
    """Who hears of what cameras do; each is called by the cameras' threads."""

    keep: Callable[[Packet], None]  # packets that belong into history
    note: Callable[[RealtimeReport], None]
    offered: Callable[[str], Callable[[int], None] | None]  # of a camera: told of each frame that stands in its slot
    give_way: Callable[[], None] | None = None


class CameraThreads:
    """All of them: `start` once, `stop` once."""

    def __init__(
        self,
        cameras: Sequence[LiveCamera],
        watches: Sequence[CameraWatch],
        assemblers: Sequence[Assembler],
        clock: Clock,
        realtime: RealtimeConfig,
        listeners: CameraListeners,
        open_encoder: OpenEncoder,
        resume_after_ns: Sequence[int | None] = (),
    ) -> None:
        """`assemblers`: none without a network, two when a second one takes other images; who encodes raw pictures.

        `resume_after_ns`: of each camera the last packet that an earlier process has handed on, if there was one.
        """
        self._clock = clock
        self._realtime = realtime
        self._assemblers = (*assemblers, None, None)[:2]
        self._listeners = listeners
        self._turns = Turnstile(places_here())
        self._encoder = EncodingWorker(listeners.keep, open_encoder=open_encoder)
        resume = tuple(resume_after_ns) or (None,) * len(cameras)
        self._threads = [self._thread(*each) for each in zip(cameras, watches, resume, strict=True)]

    def start(self) -> None:
        """Begin. The encoder may compute for seconds, and so it keeps the priority of the calling thread."""
        self._encoder.start()
        for thread in self._threads:
            thread.start()  # it asks for rights of its own

    def stop(self) -> None:
        """End all threads, within `JOIN_TIMEOUT_S` in all; packets that were to be encoded are, within as much."""
        for thread in self._threads:
            thread.stop()
        deadline_ns = self._clock.now_ns() + round(JOIN_TIMEOUT_S * NANOSECONDS_PER_SECOND)
        for thread in self._threads:
            left_s = max(0.0, (deadline_ns - self._clock.now_ns()) / NANOSECONDS_PER_SECOND)
            if not thread.join(left_s):
                log.warning("camera %s did not end in time", thread.watch.name)
        if not self._encoder.stop(JOIN_TIMEOUT_S / 2):
            log.warning("the encoder did not end in time: what it had queued is missing from history")

    def encoder_status(self) -> dict[str, Any]:
        """What the encoder refused, and what it could not encode."""
        encoder = self._encoder
        return {"refused": encoder.refused, "errors": encoder.errors, "last_error": encoder.last_error}

    def process_status(self) -> dict[str, Any] | None:
        """They have no process of their own."""
        return None

    def _thread(self, camera: LiveCamera, watch: CameraWatch, resume_after_ns: int | None) -> CameraThread:
        listeners, realtime = self._listeners, self._realtime

        def ask_for_rights() -> None:
            listeners.note(apply_to_thread(f"camera {watch.name}", realtime.capture_priority, realtime.capture_cpus))

        path = CameraPath(
            watch, *self._assemblers, on_offered=listeners.offered(watch.name), give_way=listeners.give_way
        )
        sink = PacketSink(listeners.keep, self._encoder)
        return CameraThread(
            camera.source, path, self._clock, sink,
            on_start=ask_for_rights, turn=self._turns, resume_after_ns=resume_after_ns,
        )  # fmt: skip
