"""Who encodes the pictures of raw sources for clips: one protocol, x264 on a developer's machine, the Jetson's encoder.

Whoever it is: H.264, Annex B, parameter sets with every key frame, no B-frames, a closed group of pictures of at most
`MAX_GROUP_S`, one packet for each picture in the order in which they came, marked `transcoded`. x264 gives each packet
at once, in this process. The Jetson's encoder (`gstreamer_encoder`) runs in a process of its own and may be some
pictures behind.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol, TypeAlias

import av
from av.video.reformatter import VideoReformatter

from runtime.formats.bitstream import is_key_access_unit
from runtime.messages import Packet

MAX_GROUP_S = 1.0


class EncoderError(ValueError):
    """A picture that could not be encoded; the text says why, and what to do where something can be done."""


class PictureEncoder(Protocol):
    """Encodes one camera's pictures of one size. Belongs to one thread."""

    source_size: tuple[int, int]

    def encode(self, picture: av.VideoFrame, time_ns: int, wall_ns: int, sequence: int) -> list[Packet]:
        """Take a picture; the packets that are ready, perhaps of earlier ones. EncoderError or FFmpegError."""

    def close(self) -> list[Packet]:
        """The packets of pictures that are still inside; no picture may follow."""


#: Camera, width, height in pixels, pictures a second -> an encoder. EncoderError when it cannot be started.
OpenEncoder: TypeAlias = Callable[[str, int, int, float], PictureEncoder]


class Stamps:
    """Gives encoded pictures the times and numbers that they went in with: first in, first out."""

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._waiting: deque[tuple[int, int, int]] = deque()

    def __len__(self) -> int:
        """Pictures that went in and have not come out."""
        return len(self._waiting)

    def push(self, time_ns: int, wall_ns: int, sequence: int) -> None:
        """A picture goes in."""
        self._waiting.append((time_ns, wall_ns, sequence))

    def packet(self, data: bytes) -> Packet:
        """The oldest picture comes out. EncoderError when none is inside."""
        if not self._waiting:
            raise EncoderError(f"camera {self._camera}: the encoder gave more access units than it was given pictures")
        time_ns, wall_ns, sequence = self._waiting.popleft()
        is_key = is_key_access_unit("h264", data)
        return Packet(self._camera, sequence, time_ns, wall_ns, "h264", is_key, data, transcoded=True)


class X264Encoder:
    """On the processor, through the FFmpeg that PyAV brings."""

    def __init__(self, camera: str, width: int, height: int, rate_hz: float) -> None:
        self.source_size = (width, height)
        self._reformatter = VideoReformatter()
        self._count = 0
        self._stamps = Stamps(camera)
        self._context = self._create(*even_size(width, height), rate_hz)

    @staticmethod
    def _create(width: int, height: int, rate_hz: float) -> av.VideoCodecContext:
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p"
        rate = Fraction(rate_hz).limit_denominator(1000)
        context.framerate = rate
        context.time_base = 1 / rate
        group = group_pictures(rate_hz)
        parameters = f"keyint={group}:min-keyint={group}:scenecut=0:bframes=0:open-gop=0:repeat-headers=1:annexb=1"
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23", "x264-params": parameters}
        context.thread_count = 1
        return context

    def encode(self, picture: av.VideoFrame, time_ns: int, wall_ns: int, sequence: int) -> list[Packet]:
        """One packet for each picture, as soon as it is in."""
        frame = self._reformatter.reformat(
            picture, self._context.width, self._context.height, "yuv420p", dst_color_range="MPEG", threads=1
        )
        frame.pts = self._count
        frame.time_base = self._context.time_base
        frame.pict_type = 0  # the group's length decides, not what the source's picture was
        self._count += 1
        self._stamps.push(time_ns, wall_ns, sequence)
        return [self._stamps.packet(bytes(encoded)) for encoded in self._context.encode(frame)]

    def close(self) -> list[Packet]:
        """Nothing is ever left inside."""
        return [self._stamps.packet(bytes(encoded)) for encoded in self._context.encode(None)]


def even_size(width: int, height: int) -> tuple[int, int]:
    """4:2:0 has no odd sizes."""
    return max(2, width & ~1), max(2, height & ~1)


def group_pictures(rate_hz: float) -> int:
    """Pictures of one group."""
    return max(1, int(rate_hz * MAX_GROUP_S))


def choose_encoder(name: str) -> OpenEncoder:
    """`x264`, `jetson`, or `auto`: the Jetson's where it is there. EncoderError when what is asked for is not."""
    from runtime.capture.gstreamer_encoder import JETSON, GstreamerEncoder

    if name == "x264":
        return X264Encoder
    missing = why_no_element(JETSON.element)
    if missing and name == "jetson":
        raise EncoderError(f"history.encoder is jetson, but {missing}: install it, or write encoder: x264")
    return X264Encoder if missing else GstreamerEncoder


def why_no_element(element: str) -> str:
    """Why GStreamer cannot run this element here; empty when it can."""
    inspect = shutil.which("gst-inspect-1.0")
    if inspect is None or shutil.which("gst-launch-1.0") is None:
        return "gst-launch-1.0 is not installed (package gstreamer1.0-tools)"
    try:
        found = subprocess.run([inspect, "--exists", element], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"gst-inspect-1.0 does not answer: {error}"
    return "" if found.returncode == 0 else f"GStreamer has no element {element}"
