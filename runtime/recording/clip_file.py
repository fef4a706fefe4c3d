"""A clip file open for looking at it: its manifest, its frames decoded, its boxes.

A clip may come from anybody: whatever FFmpeg, OpenCV or protobuf say of its bytes becomes a `ClipError`, and no picture
is larger than a camera's can be (`MAX_PICTURE_PIXELS`), so that a few bytes cannot ask for gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.error import FFmpegError
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from runtime.formats import foxglove_messages, topics
from runtime.formats.bitstream import ffmpeg_codec_name
from runtime.formats.foxglove_messages import THUMBNAIL_CODEC, AnnotatedBox
from runtime.formats.jpeg_size import jpeg_size
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.formats.topics import ChannelSpec
from runtime.messages import PASS_THROUGH_CODECS, Packet
from runtime.recording.manifest import MANIFEST_ATTACHMENT, ClipManifest, ManifestError, parse_manifest

#: No picture larger than this is decoded, in no process: a few bytes can claim any size, and decoders make room for it.
MAX_PICTURE_PIXELS = 64 * 1024 * 1024
#: Annotations this far from a frame's time still belong to it: they carry the same stamp, rounding apart.
_SAME_INSTANT_NS = 1_000_000
_MAX_SIDE_DIGITS = 5


class ClipError(ValueError):
    """A clip that cannot be looked at."""


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One picture of one camera."""

    time_ns: int
    frame: av.VideoFrame
    #: Width and height of what boxes are drawn in: the picture itself, or the one that a thumbnail was made of.
    source_size: tuple[int, int]

    def rgb(self) -> NDArray[np.uint8]:
        """`[height, width, 3]`. ClipError for a layout of pixels that FFmpeg cannot turn into colours."""
        try:
            return self.frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        except (FFmpegError, ValueError) as error:
            raise ClipError(f"a picture in format {self.frame.format.name} cannot be shown: {error}") from error


def read_manifest(reader: McapTopicReader) -> ClipManifest:
    """The manifest in the attachment; ManifestError when it is missing or unreadable."""
    attachment = reader.attachments().get(MANIFEST_ATTACHMENT)
    if attachment is None:
        raise ManifestError(f"{reader.path}: manifest is missing: no attachment {MANIFEST_ATTACHMENT}")
    return parse_manifest(attachment)


def decode(packets: Iterator[Packet]) -> Iterator[DecodedFrame]:
    """Every frame of one camera's packets, with its capture time. ClipError names the first packet that fails."""
    decoder: av.VideoCodecContext | None = None
    for packet in packets:
        if decoder is None:
            decoder = new_decoder(packet.codec)
        yield from decode_packet(decoder, packet)
    if decoder is not None:
        yield from decode_rest(decoder)


def new_decoder(codec: str) -> av.VideoCodecContext:
    """One thread, no delay: a frame comes out with its own packet. It refuses pictures beyond `MAX_PICTURE_PIXELS`."""
    if codec not in PASS_THROUGH_CODECS:
        raise ClipError(f"codec {codec!r} is not one of {', '.join(PASS_THROUGH_CODECS)}")
    decoder = cast(av.VideoCodecContext, av.VideoCodecContext.create(ffmpeg_codec_name(codec), "r"))
    decoder.thread_count = 1
    decoder.flags |= av.codec.context.Flags.low_delay
    decoder.options = {"max_pixels": str(MAX_PICTURE_PIXELS)}  # asked by FFmpeg before it makes room for a picture
    return decoder


def decode_packet(decoder: av.VideoCodecContext, packet: Packet) -> list[DecodedFrame]:
    """The frames that come out for one packet; ClipError when it cannot be decoded."""
    raw = av.Packet(packet.data)
    raw.pts = raw.dts = packet.time_ns
    try:
        return _frames(decoder, raw)
    except FFmpegError as error:
        raise ClipError(
            f"camera {packet.camera}: the frame at {packet.time_ns} ns cannot be decoded: {error}"
        ) from error


def decode_rest(decoder: av.VideoCodecContext) -> list[DecodedFrame]:
    """The frames that are still inside after the last packet; ClipError when they cannot be decoded."""
    try:
        return _frames(decoder, None)
    except FFmpegError as error:
        raise ClipError(f"the last frames cannot be decoded: {error}") from error


def _frames(decoder: av.VideoCodecContext, packet: Any) -> list[DecodedFrame]:
    return [DecodedFrame(frame.pts or 0, frame, (frame.width, frame.height)) for frame in decoder.decode(packet)]


def pictures(reader: McapTopicReader, camera: str, end_ns: int | None = None) -> Iterator[DecodedFrame]:
    """What a camera shows, in order of time: its video, or its thumbnails where the clip holds those instead."""
    if topics.thumbnail_topic(camera) not in reader.topics:
        yield from decode(reader.packets(camera, end_ns=end_ns))
        return
    for message in reader.messages({topics.thumbnail_topic(camera)}, end_ns=end_ns):
        frame = av.VideoFrame.from_ndarray(read_jpeg(message.packet()), format="rgb24")
        yield DecodedFrame(message.time_ns, frame, source_size(message.channel, (frame.width, frame.height)))


def source_size(channel: ChannelSpec, shown: tuple[int, int]) -> tuple[int, int]:
    """What a thumbnail's channel says of the picture that it was made of; the shown size where it says nothing."""
    width, height = channel.metadata.get("source_width", ""), channel.metadata.get("source_height", "")
    if not all(side.isdecimal() and len(side) <= _MAX_SIDE_DIGITS for side in (width, height)):
        return shown
    return int(width), int(height)


def read_jpeg(packet: Packet) -> NDArray[np.uint8]:
    """A thumbnail's picture `[height, width, 3]`, RGB. ClipError when it cannot be read."""
    if packet.codec != THUMBNAIL_CODEC:
        raise ClipError(f"camera {packet.camera}: the thumbnail at {packet.time_ns} ns is {packet.codec!r}, not JPEG")
    size = jpeg_size(packet.data)
    if size is not None and size[0] * size[1] > MAX_PICTURE_PIXELS:
        shown = f"{size[0]} x {size[1]} pixels, at most {MAX_PICTURE_PIXELS} are decoded"
        raise ClipError(f"camera {packet.camera}: the thumbnail at {packet.time_ns} ns has {shown}")
    bgr = cv2.imdecode(np.frombuffer(packet.data, np.uint8), cv2.IMREAD_COLOR) if size is not None else None
    if bgr is None:
        raise ClipError(f"camera {packet.camera}: the thumbnail at {packet.time_ns} ns is no JPEG")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def frames_at(reader: McapTopicReader, camera: str, instants_ns: list[int]) -> dict[int, DecodedFrame]:
    """For each instant the last frame at or before it (before the first frame: that one), decoded in one pass.

    Decoding starts at the camera's first packet. Empty when the camera has no frames.
    """
    shown: dict[int, DecodedFrame] = {}
    waiting = sorted(set(instants_ns))
    latest: DecodedFrame | None = None
    for decoded in pictures(reader, camera, waiting[-1] + 1):
        while waiting and latest is not None and decoded.time_ns > waiting[0]:
            shown[waiting.pop(0)] = latest
        latest = decoded
    if latest is None:
        latest = next(pictures(reader, camera), None)
    if latest is not None:
        shown.update(dict.fromkeys(waiting, latest))
    return shown


def boxes_at(reader: McapTopicReader, camera: str, frame_time_ns: int) -> list[AnnotatedBox]:
    """The boxes drawn over the frame of this time."""
    window = (frame_time_ns - _SAME_INSTANT_NS, frame_time_ns + _SAME_INSTANT_NS + 1)
    for message in reader.messages({topics.annotations_topic(camera)}, *window):
        return boxes_of(message)
    return []


def boxes_of(message: RawMessage) -> list[AnnotatedBox]:
    """The boxes of one message; ClipError when it holds something else."""
    try:
        return foxglove_messages.decode_annotations(message.data)
    except DecodeError as error:
        raise ClipError(f"{message.topic}: the message at {message.time_ns} ns is no annotations: {error}") from error


def open_clip(path: Path | str) -> McapTopicReader:
    """A strict reader: damage is an error (McapFileError)."""
    return McapTopicReader(path, strict=True)
