"""Packets as clips need them: H.264 or H.265, Annex B, parameter sets with every key frame, no B-frames.

Most cameras give that already (or nearly: sets are put before key frames that lack them), and their packets go through
as they came. A stream with B-frames or of another codec is encoded once to H.264: no B-frames, a closed group of
pictures of at most one second, one packet out for each picture in, marked `transcoded`.

`ClipReady` does the work for one camera, on the calling thread; `EncodingWorker` gives the encoding ones a thread of
their own behind a bounded queue, so that no camera thread ever waits for an encoder. What the queue refuses is
counted, and is missing from clips only.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from fractions import Fraction

import av
from av.video.reformatter import VideoReformatter

from runtime.capture.decoding import DecodedFrame, PacketDecoder, UnknownCodecError
from runtime.formats.bitstream import ParameterSets, StreamInfo, has_b_slices
from runtime.messages import PASS_THROUGH_CODECS, Packet

DEFAULT_RATE_HZ = 20.0
MAX_GROUP_S = 1.0
QUEUE_PACKETS = 64


class ClipReady:
    """One camera's packets made ready for clips."""

    def __init__(self, camera: str, info: StreamInfo) -> None:
        """Raises UnknownCodecError when the stream must be encoded and cannot be decoded."""
        self.camera = camera
        #: Packets that gave nothing: before the first key frame, or torn ones of a stream that is encoded.
        self.dropped = 0
        self._info = info
        self._sets = ParameterSets(info.codec, info.extradata)
        self._seen_key = False
        self._last_time_ns: int | None = None
        self._encoding: _Reencoder | None = None
        if info.codec not in PASS_THROUGH_CODECS or info.reorders:
            self._encoding = _Reencoder(camera, info)

    @property
    def encodes(self) -> bool:
        """True when packets are decoded and encoded again: work for the worker's thread."""
        return self._encoding is not None

    def feed(self, packet: Packet) -> list[Packet]:
        """What of `packet` belongs in clips: itself (perhaps completed), its encoded picture, or nothing."""
        if self._encoding is None and self._has_b_frames(packet):
            self._encoding = _Reencoder(self.camera, self._info)
        if self._encoding is not None:
            ready = self._encoding.feed(packet)
            self.dropped += not ready
            return ready
        return self._pass(packet)

    def _has_b_frames(self, packet: Packet) -> bool:
        """B slices; or for H.265, where even streams in order use them, pictures that come out of order."""
        if packet.codec == "h264":
            return not packet.is_key and has_b_slices(packet.data)
        goes_back = self._last_time_ns is not None and packet.time_ns < self._last_time_ns
        self._last_time_ns = packet.time_ns
        return goes_back

    def _pass(self, packet: Packet) -> list[Packet]:
        self._seen_key |= packet.is_key
        if not self._seen_key:
            self.dropped += 1
            return []
        data = self._sets.with_sets(packet.data, packet.is_key)
        if data is packet.data:
            return [packet]
        return [
            Packet(packet.camera, packet.sequence, packet.time_ns, packet.wall_ns, packet.codec, packet.is_key, data)
        ]


class _Reencoder:
    """Decodes a stream and encodes its pictures as H.264."""

    def __init__(self, camera: str, info: StreamInfo) -> None:
        self._camera = camera
        self._decoder = PacketDecoder(info)
        self._rate_hz = info.rate_hz or DEFAULT_RATE_HZ
        self._encoder: PictureEncoder | None = None

    def feed(self, packet: Packet) -> list[Packet]:
        wall_offset_ns = packet.wall_ns - packet.time_ns
        return [ready for frame in self._decoder.decode(packet) for ready in self._encode(frame, wall_offset_ns)]

    def _encode(self, frame: DecodedFrame, wall_offset_ns: int) -> list[Packet]:
        size = (frame.picture.width, frame.picture.height)
        if self._encoder is None or self._encoder.source_size != size:
            self._encoder = PictureEncoder(self._camera, *size, self._rate_hz)
        return self._encoder.encode(frame.picture, frame.time_ns, frame.time_ns + wall_offset_ns, frame.sequence)


class PictureEncoder:
    """Encodes one camera's pictures as H.264 that may go into a clip."""

    def __init__(self, camera: str, width: int, height: int, rate_hz: float) -> None:
        self.source_size = (width, height)
        self._camera = camera
        self._reformatter = VideoReformatter()
        self._count = 0
        self._waiting: list[tuple[int, int, int]] = []
        self._context = self._create(max(2, width & ~1), max(2, height & ~1), rate_hz)

    @staticmethod
    def _create(width: int, height: int, rate_hz: float) -> av.VideoCodecContext:
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height = width, height  # 4:2:0 has no odd sizes
        context.pix_fmt = "yuv420p"
        rate = Fraction(rate_hz).limit_denominator(1000)
        context.framerate = rate
        context.time_base = 1 / rate
        group = max(1, int(rate_hz * MAX_GROUP_S))
        parameters = f"keyint={group}:min-keyint={group}:scenecut=0:bframes=0:open-gop=0:repeat-headers=1:annexb=1"
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23", "x264-params": parameters}
        context.thread_count = 1
        return context

    def encode(self, picture: av.VideoFrame, time_ns: int, wall_ns: int, sequence: int) -> list[Packet]:
        """The packets that are ready: one for each picture, as soon as it is in."""
        frame = self._reformatter.reformat(
            picture, self._context.width, self._context.height, "yuv420p", dst_color_range="MPEG", threads=1
        )
        frame.pts = self._count
        frame.time_base = self._context.time_base
        frame.pict_type = 0  # the group's length decides, not what the source's picture was
        self._count += 1
        self._waiting.append((time_ns, wall_ns, sequence))
        return [self._packet(encoded) for encoded in self._context.encode(frame)]

    def _packet(self, encoded: av.Packet[av.VideoStream]) -> Packet:
        time_ns, wall_ns, sequence = self._waiting.pop(0)
        is_key = encoded.is_keyframe
        return Packet(self._camera, sequence, time_ns, wall_ns, "h264", is_key, bytes(encoded), transcoded=True)


class EncodingWorker:
    """One thread that encodes for all cameras that need it."""

    def __init__(self, emit: Callable[[Packet], object], capacity: int = QUEUE_PACKETS) -> None:
        self._emit = emit
        self._queue: queue.Queue[tuple[ClipReady, Packet] | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name="clip-encoder", daemon=True)
        #: Packets for which the queue had no room.
        self.refused = 0
        #: Pictures that the encoder could not take, and why the last one.
        self.errors = 0
        self.last_error = ""

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def offer(self, ready: ClipReady, packet: Packet) -> bool:
        """Hand a packet over; False, counted, when the queue is full. Never waits."""
        try:
            self._queue.put_nowait((ready, packet))
        except queue.Full:
            self.refused += 1
            return False
        return True

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Encode what is queued and end; False when that took longer than `timeout_s`."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            ready, packet = work
            try:
                packets = ready.feed(packet)
            except (av.error.FFmpegError, UnknownCodecError, ValueError) as error:
                self.errors += 1
                self.last_error = f"camera {ready.camera}: {error}"
                continue
            for encoded in packets:
                self._emit(encoded)
