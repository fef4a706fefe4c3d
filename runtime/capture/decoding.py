"""Compressed packets into pictures, one camera at a time, with capture time and sequence kept.

The decoder runs on the calling thread (one thread, low delay): the camera threads are the parallelism, and a picture
leaves with its own packet. A stream is picked up at its first key frame. After a torn packet or a concealed picture
everything up to the next key frame is dropped, because it refers to what was torn; it is counted, never shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from runtime.formats.bitstream import StreamInfo, ffmpeg_codec_name
from runtime.messages import Packet
from runtime.picture_chains import CODECS_WITHOUT_GROUPS

_NANOSECOND = Fraction(1, 1_000_000_000)

#: Pictures that a decoder may hold back to bring them into showing order (H.264 and H.265 allow 16).
MAX_HELD_PICTURES = 32


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One picture, and which packet it came from."""

    picture: av.VideoFrame
    time_ns: int
    sequence: int


class UnknownCodecError(ValueError):
    """There is no decoder for a stream's codec."""


class PacketDecoder:
    """Decodes one camera's packets."""

    def __init__(self, info: StreamInfo) -> None:
        """Raises UnknownCodecError."""
        self.codec = info.codec
        #: Packets that were torn, or gave a picture with holes.
        self.errors = 0
        #: Packets dropped unseen while waiting for a key frame.
        self.skipped = 0
        #: True until the first key frame: what is skipped by then was not lost, the stream was joined in its middle.
        self.is_joining = True
        self._awaiting_key = True
        self._refers_back = info.codec not in CODECS_WITHOUT_GROUPS
        self._sequences: dict[int, int] = {}
        self._context = self._create(info)

    @staticmethod
    def _create(info: StreamInfo) -> av.VideoCodecContext:
        try:
            context = av.CodecContext.create(ffmpeg_codec_name(info.codec), "r")
        except av.codec.codec.UnknownCodecError as error:
            raise UnknownCodecError(f"no decoder for codec {info.codec!r}: use h264, h265 or mjpeg") from error
        if not isinstance(context, av.VideoCodecContext):
            raise UnknownCodecError(f"{info.codec!r} is no video codec")
        context.thread_count = 1
        context.thread_type = "NONE"
        context.flags |= av.codec.context.Flags.low_delay
        if info.extradata:
            context.extradata = info.extradata
        if info.pixel_format:
            context.width, context.height, context.pix_fmt = info.width, info.height, info.pixel_format
        return context

    def decode(self, packet: Packet) -> list[DecodedFrame]:
        """The pictures that are ready after this packet, usually one; none of a packet that cannot be used."""
        if self._awaiting_key and not packet.is_key:
            self.skipped += 1
            return []
        try:
            pictures = self._context.decode(self._wrap(packet))
        except av.error.FFmpegError:
            self._lose_reference()
            return []
        self._awaiting_key = self.is_joining = False
        if any(picture.is_corrupt for picture in pictures):
            self._lose_reference()
            return []
        return [self._frame(picture, packet) for picture in pictures]

    def _wrap(self, packet: Packet) -> av.Packet[Any]:
        wrapped = av.Packet(packet.data)
        wrapped.pts = packet.time_ns
        wrapped.time_base = _NANOSECOND
        self._sequences[packet.time_ns] = packet.sequence
        if len(self._sequences) > MAX_HELD_PICTURES:
            del self._sequences[next(iter(self._sequences))]
        return wrapped

    def _frame(self, picture: av.VideoFrame, packet: Packet) -> DecodedFrame:
        time_ns = packet.time_ns if picture.pts is None else picture.pts
        return DecodedFrame(picture, time_ns, self._sequences.pop(time_ns, packet.sequence))

    def _lose_reference(self) -> None:
        self.errors += 1
        self._awaiting_key = self._refers_back
        self._sequences.clear()
        self._context.flush_buffers()
