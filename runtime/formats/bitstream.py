"""H.264 and H.265 access units as clips need them: Annex B, parameter sets before every key frame, no B-frames.

Containers hold the same pictures in two ways. MP4 and Matroska write a length before each NAL unit and keep the
parameter sets aside (`extradata`); transport streams, RTSP and clips use Annex B, where a start code stands before
each unit and parameter sets may be in the stream. `AnnexBConverter` brings both to Annex B; `ParameterSets` remembers
the newest sets and puts them before a key frame that comes without; `has_b_slices` finds pictures that refer forward.

Everything here works on one access unit at a time and keeps nothing but the parameter sets. Data that is no valid
bitstream is never an error here: the decoder is the judge of pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.bitstream import BitStreamFilterContext
from av.packet import Packet as AvPacket
from av.video.stream import VideoStream

#: What FFmpeg calls a codec, and what everything here calls it.
_OUR_NAMES = {"hevc": "h265", "libx264": "h264", "mpeg1video": "mpeg1", "mpeg2video": "mpeg2"}
_FFMPEG_NAMES = {ours: theirs for theirs, ours in _OUR_NAMES.items() if theirs != "libx264"}

_H264_SPS, _H264_PPS, _H264_IDR = 7, 8, 5
_H264_SLICES = (1, 2, 5)
_H265_VPS, _H265_SPS, _H265_PPS = 32, 33, 34
_H265_RANDOM_ACCESS = range(16, 24)  # BLA, IDR and CRA pictures (ITU-T H.265, table 7-1)

#: Parameter sets are tens of bytes; anything longer is not one, and must not be kept or sent again and again.
MAX_PARAMETER_SETS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known about a camera's stream before its first packet."""

    codec: str
    width: int
    height: int
    rate_hz: float | None = None
    extradata: bytes = b""
    #: FFmpeg's name of the pixel layout, for codec "rawvideo" only: its packets do not say.
    pixel_format: str = ""
    #: True when pictures come in another order than they are shown in (B-frames).
    reorders: bool = False
    #: True when no common trigger ties the camera to the others: its phase drifts, so one missed instant is no loss.
    free_running: bool = False


def codec_name(ffmpeg_name: str) -> str:
    """FFmpeg's codec name in our words: `hevc` is `h265`."""
    return _OUR_NAMES.get(ffmpeg_name, ffmpeg_name)


def ffmpeg_codec_name(codec: str) -> str:
    """Our codec name in FFmpeg's words."""
    return _FFMPEG_NAMES.get(codec, codec)


def nal_units(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each NAL unit in an Annex B access unit, without start codes."""
    start = data.find(b"\x00\x00\x01")
    while start >= 0:
        start += 3
        following = data.find(b"\x00\x00\x01", start)
        end = len(data) if following < 0 else following
        while end > start and following >= 0 and data[end - 1] == 0:
            end -= 1  # the zero byte of a four-byte start code, or trailing zeros
        if end > start:
            yield start, end
        start = following


def nal_unit_type(codec: str, first_byte: int) -> int:
    """The type of a NAL unit from its first byte."""
    return first_byte & 0x1F if codec == "h264" else (first_byte >> 1) & 0x3F


def is_key_access_unit(codec: str, data: bytes) -> bool:
    """True when decoding can begin at this Annex B access unit."""
    for start, _ in nal_units(data):
        kind = nal_unit_type(codec, data[start])
        if (codec == "h264" and kind == _H264_IDR) or (codec == "h265" and kind in _H265_RANDOM_ACCESS):
            return True
    return False


def has_b_slices(data: bytes) -> bool:
    """True when an H.264 Annex B access unit holds a B slice (ITU-T H.264, 7.3.3 and table 7-6)."""
    for start, end in nal_units(data):
        if data[start] & 0x1F in _H264_SLICES:
            bits = _BitReader(data[start + 1 : min(end, start + 17)])
            bits.unsigned_exp_golomb()  # first_mb_in_slice
            return bits.unsigned_exp_golomb() % 5 == 1
    return False


class _BitReader:
    """Reads the first few bits of a NAL unit; past the end there are only ones, which end every code."""

    def __init__(self, data: bytes) -> None:
        unescaped = data.replace(b"\x00\x00\x03", b"\x00\x00")
        self._bits = int.from_bytes(unescaped, "big")
        self._left = len(unescaped) * 8

    def bit(self) -> int:
        if self._left == 0:
            return 1
        self._left -= 1
        return (self._bits >> self._left) & 1

    def unsigned_exp_golomb(self) -> int:
        zeros = 0
        while self.bit() == 0:
            zeros += 1
        value = 1
        for _ in range(zeros):
            value = (value << 1) | self.bit()
        return value - 1


class ParameterSets:
    """The newest parameter sets of one stream, and key frames made complete with them."""

    def __init__(self, codec: str, extradata: bytes = b"") -> None:
        self._codec = codec
        self._needed = (_H264_SPS, _H264_PPS) if codec == "h264" else (_H265_VPS, _H265_SPS, _H265_PPS)
        self._sets: dict[int, bytes] = {}
        if extradata[:1] == b"\x00":  # Annex B; avcC and hvcC begin with version 1
            self._remember(extradata)

    @property
    def complete(self) -> bool:
        """True when a key frame can be made decodable on its own."""
        return all(kind in self._sets for kind in self._needed)

    def with_sets(self, data: bytes, is_key: bool) -> bytes:
        """`data`, with the parameter sets in front where it is a key frame that lacks some of them."""
        if not is_key:
            return data
        if self._remember(data).issuperset(self._needed) or not self.complete:
            return data
        return b"".join(b"\x00\x00\x00\x01" + self._sets[kind] for kind in self._needed) + data

    def _remember(self, data: bytes) -> set[int]:
        found: dict[int, list[bytes]] = {}
        for start, end in nal_units(data):
            kind = nal_unit_type(self._codec, data[start])
            if kind in self._needed and end - start <= MAX_PARAMETER_SETS_BYTES:
                found.setdefault(kind, []).append(data[start:end])
        for kind, units in found.items():
            joined = b"\x00\x00\x00\x01".join(dict.fromkeys(units))
            if len(joined) <= MAX_PARAMETER_SETS_BYTES:
                self._sets[kind] = joined
        return set(found)


class AnnexBConverter:
    """Packets of one opened container stream as bytes: H.264/H.265 as Annex B, every other codec as it is."""

    def __init__(self, stream: VideoStream) -> None:
        self.codec = codec_name(stream.codec_context.name)
        extradata = stream.codec_context.extradata or b""
        is_length_prefixed = extradata[:1] == b"\x01"
        self._filter: BitStreamFilterContext | None = None
        if is_length_prefixed and self.codec in ("h264", "h265"):
            name = "h264_mp4toannexb" if self.codec == "h264" else "hevc_mp4toannexb"
            self._filter = BitStreamFilterContext(name, stream)
        #: Empty where the parameter sets are in the packets; never in the container's own form.
        self.extradata = b"" if self._filter is not None else extradata

    def convert(self, packet: AvPacket[VideoStream]) -> bytes:
        """The packet's bytes. Raises `av.error.FFmpegError` for a packet that is torn."""
        if self._filter is None:
            return bytes(packet)
        return b"".join(bytes(part) for part in self._filter.filter(packet))


def stream_info(stream: VideoStream, *, free_running: bool = False) -> StreamInfo:
    """What an opened container says about its video stream."""
    context = stream.codec_context
    rate = stream.guessed_rate or stream.average_rate or stream.base_rate
    converter_extradata = context.extradata or b""
    return StreamInfo(
        codec=codec_name(context.name),
        width=context.width,
        height=context.height,
        rate_hz=float(rate) if rate else None,
        extradata=b"" if converter_extradata[:1] == b"\x01" else converter_extradata,
        pixel_format=(context.pix_fmt or "") if context.name == "rawvideo" else "",
        reorders=bool(context.has_b_frames),
        free_running=free_running,
    )


def decodable(codec: str) -> bool:
    """True when the FFmpeg that PyAV brings has a decoder for `codec`."""
    try:
        av.Codec(ffmpeg_codec_name(codec), "r")
    except av.codec.codec.UnknownCodecError:
        return False
    return True
