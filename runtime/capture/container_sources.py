"""Live cameras through FFmpeg: what network cameras (`rtsp`) and local devices (`v4l2`) share.

FFmpeg reads block, and an interrupted read leaves a network stream unusable. So a thread of its own reads packets
into a bounded queue, and `read` takes from the queue and keeps its timeout. When the queue is full, the newest packet
is dropped and counted; the gap shows in the capture times, and the decoder finds its way at the next key frame.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from fractions import Fraction

import av

from runtime.capture.sources import CaptureError, CaptureOpenError, CaptureReadError, StreamInfo
from runtime.capture.stream_clock import StreamClock
from runtime.clock import Clock
from runtime.formats.bitstream import AnnexBConverter, is_key_access_unit, stream_info
from runtime.messages import NANOSECONDS_PER_SECOND, PASS_THROUGH_CODECS, Packet
from runtime.picture_chains import PictureChains

QUEUE_PACKETS = 64
OPEN_TIMEOUT_S = 5.0
#: A camera that says nothing for so long is gone.
READ_TIMEOUT_S = 3.0


class ContainerSource:
    """A live stream that FFmpeg opens: `url` read as `format`, with FFmpeg's `options`."""

    def __init__(
        self, camera: str, url: str, clock: Clock, *, format_name: str | None, options: Mapping[str, str]
    ) -> None:
        self._camera = camera
        self._url = url
        self._clock = clock
        self._format_name = format_name
        self.options = dict(options)
        self._pump: _Pump | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Packets for which the queue had no room, and those that refer to them, over all connections."""
        return self._dropped + (0 if self._pump is None else self._pump.dropped)

    def open(self) -> StreamInfo:
        self.close()
        try:
            container = av.open(
                self._url,
                "r",
                format=self._format_name,
                options=self.options,
                timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CaptureOpenError(f"camera {self._camera} at {self._url} cannot be opened: {reason}") from error
        if not container.streams.video:
            container.close()
            raise CaptureOpenError(f"camera {self._camera} at {self._url} has no video stream")
        info = stream_info(container.streams.video[0], free_running=True)
        self._pump = _Pump(self._camera, container, self._clock)
        self._pump.start()
        return info

    def read(self, timeout_s: float) -> Packet | None:
        if self._pump is None:
            raise CaptureReadError(f"camera {self._camera} at {self._url} is read before it is opened")
        return self._pump.take(timeout_s)

    def close(self) -> None:
        if self._pump is not None:
            self._dropped += self._pump.dropped
            self._pump.stop()
            self._pump = None


class _Pump:
    """Reads one opened container on a thread of its own; closes it there when told to stop."""

    def __init__(self, camera: str, container: av.container.InputContainer, clock: Clock) -> None:
        self._camera = camera
        self._container = container
        self._clock = clock
        self._queue: queue.Queue[Packet] = queue.Queue(QUEUE_PACKETS)
        self._stop = threading.Event()
        self._end: CaptureError | None = None
        self._thread = threading.Thread(target=self._run, name=f"stream-{camera}", daemon=True)
        self._chains = PictureChains()
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end. The read under way is left to its own timeout, and nobody waits for it."""
        self._stop.set()

    def take(self, timeout_s: float) -> Packet | None:
        """The next packet; None when none came in time. Raises CaptureReadError when the stream broke off."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            if self._end is not None:
                raise self._end from None
            return None

    def _run(self) -> None:
        reason = "the stream ended"
        try:
            self._read()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        finally:
            self._container.close()
        self._end = CaptureReadError(f"camera {self._camera}: {reason}")

    def _read(self) -> None:
        stream = self._container.streams.video[0]
        converter = AnnexBConverter(stream)
        stream_clock = StreamClock()
        tick_ns = NANOSECONDS_PER_SECOND * (stream.time_base or Fraction(1, 90_000))
        sequence = 0
        for packet in self._container.demux(stream):
            if self._stop.is_set():
                return
            if packet.size == 0:
                continue
            arrival_ns = self._clock.now_ns()
            wall_offset_ns = self._clock.wall_ns() - arrival_ns
            stream_ns = None if packet.pts is None else round(packet.pts * tick_ns)
            time_ns = stream_clock.capture_time(stream_ns, arrival_ns)
            data = converter.convert(packet)
            is_key = self._is_key(packet, converter.codec, data)
            self._put(Packet(self._camera, sequence, time_ns, time_ns + wall_offset_ns, converter.codec, is_key, data))
            sequence += 1

    @staticmethod
    def _is_key(packet: av.Packet[av.VideoStream], codec: str, data: bytes) -> bool:
        """RTP has no key-frame flag: for H.264 and H.265 the bitstream itself says it."""
        return is_key_access_unit(codec, data) if codec in PASS_THROUGH_CODECS else packet.is_keyframe

    def _put(self, packet: Packet) -> None:
        if self._chains.takes(packet):
            try:
                self._queue.put_nowait(packet)
                return
            except queue.Full:
                self._chains.lose([packet])
        self.dropped += 1
