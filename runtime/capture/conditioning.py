"""Packets as clips need them: H.264 or H.265, Annex B, parameter sets with every key frame, no B-frames.

Most cameras give that already (or nearly: sets are put before key frames that lack them), and their packets go through
as they came. A stream with B-frames or of another codec is encoded once to H.264: no B-frames, a closed group of
pictures of at most one second, one packet out for each picture in, marked `transcoded` (`picture_encoders`: by x264, or
by the encoder of a Jetson).

`ClipReady` does the work for one camera, on the calling thread; `EncodingWorker` gives the encoding ones a thread of
their own behind a bounded queue, so that no camera thread ever waits for an encoder. What the queue refuses is
counted, and is missing from clips only.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial

import av

from runtime.capture.decoding import DecodedFrame, PacketDecoder, UnknownCodecError
from runtime.capture.picture_encoders import OpenEncoder, PictureEncoder, X264Encoder
from runtime.formats.bitstream import ParameterSets, StreamInfo, has_b_slices
from runtime.messages import PASS_THROUGH_CODECS, Packet
from runtime.picture_chains import PictureChains

DEFAULT_RATE_HZ = 20.0
QUEUE_PACKETS = 64


class ClipReady:
    """One camera's packets made ready for clips."""

    def __init__(self, camera: str, info: StreamInfo, open_encoder: OpenEncoder = X264Encoder) -> None:
        """Raises UnknownCodecError when the stream must be encoded and cannot be decoded."""
        self.camera = camera
        #: Packets that gave nothing: before the first key frame, torn ones of a stream that is encoded, or such as
        #: refer to one whose time was impossible.
        self.dropped = 0
        self._info = info
        self._sets = ParameterSets(info.codec, info.extradata)
        self._seen_key = False
        self._last_time_ns: int | None = None
        self._open_encoder = open_encoder
        self._encoding: _Reencoder | None = None
        if info.codec not in PASS_THROUGH_CODECS or info.reorders:
            self._encoding = _Reencoder(camera, info, open_encoder)

    @property
    def encodes(self) -> bool:
        """True when packets are decoded and encoded again: work for the worker's thread."""
        return self._encoding is not None

    def feed(self, packet: Packet) -> list[Packet]:
        """What of `packet` belongs in clips: itself (perhaps completed), its encoded picture, or nothing."""
        if self._encoding is None and self._has_b_frames(packet):
            self._encoding = _Reencoder(self.camera, self._info, self._open_encoder)
        if self._encoding is not None:
            ready = self._encoding.feed(packet)
            self.dropped += self._encoding.gave_nothing
            return ready
        return self._pass(packet)

    def close(self) -> list[Packet]:
        """What an encoder still holds; nothing may follow. EncoderError."""
        return [] if self._encoding is None else self._encoding.close()

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

    def __init__(self, camera: str, info: StreamInfo, open_encoder: OpenEncoder) -> None:
        #: Whether the last packet gave no picture to encode.
        self.gave_nothing = False
        self._open_encoder = open_encoder
        self._camera = camera
        self._decoder = PacketDecoder(info)
        self._rate_hz = info.rate_hz or DEFAULT_RATE_HZ
        self._encoder: PictureEncoder | None = None

    def feed(self, packet: Packet) -> list[Packet]:
        wall_offset_ns = packet.wall_ns - packet.time_ns
        frames = list(self._decoder.decode(packet))
        self.gave_nothing = not frames
        return [ready for frame in frames for ready in self._encode(frame, wall_offset_ns)]

    def close(self) -> list[Packet]:
        encoder, self._encoder = self._encoder, None
        return [] if encoder is None else encoder.close()

    def _encode(self, frame: DecodedFrame, wall_offset_ns: int) -> list[Packet]:
        size = (frame.picture.width, frame.picture.height)
        left: list[Packet] = []
        if self._encoder is None or self._encoder.source_size != size:
            left = self.close()
            self._encoder = self._open_encoder(self._camera, *size, self._rate_hz)
        wall_ns = frame.time_ns + wall_offset_ns
        return left + self._encoder.encode(frame.picture, frame.time_ns, wall_ns, frame.sequence)


class EncodingWorker:
    """One thread that encodes for all cameras that need it."""

    def __init__(
        self,
        emit: Callable[[Packet], object],
        capacity: int = QUEUE_PACKETS,
        open_encoder: OpenEncoder = X264Encoder,
    ) -> None:
        #: Who encodes: for those who make the `ClipReady` of a camera.
        self.open_encoder = open_encoder
        self._emit = emit
        self._seen: dict[str, ClipReady] = {}  # the newest of each camera: a camera that comes again has another
        self._queue: queue.Queue[tuple[ClipReady, Packet] | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name="clip-encoder", daemon=True)
        self._chains = PictureChains()
        #: Packets for which the queue had no room, and those that refer to them.
        self.refused = 0
        #: Pictures that the encoder could not take, and why the last one.
        self.errors = 0
        self.last_error = ""

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def offer(self, ready: ClipReady, packet: Packet) -> bool:
        """Hand a packet over; False, counted, when the queue is full or was for what it refers to. Never waits."""
        if self._chains.takes(packet):
            try:
                self._queue.put_nowait((ready, packet))
                return True
            except queue.Full:
                self._chains.lose([packet])
        self.refused += 1
        return False

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
            before = self._seen.get(ready.camera)
            if before is not None and before is not ready:
                self._try(before, before.close)
            self._seen[ready.camera] = ready
            self._try(ready, partial(ready.feed, packet))
        for ready in self._seen.values():
            self._try(ready, ready.close)

    def _try(self, ready: ClipReady, encode: Callable[[], list[Packet]]) -> None:
        try:
            packets = encode()
        except (av.error.FFmpegError, UnknownCodecError, ValueError) as error:
            self.errors += 1
            self.last_error = f"camera {ready.camera}: {error}"
            return
        for encoded in packets:
            self._emit(encoded)
