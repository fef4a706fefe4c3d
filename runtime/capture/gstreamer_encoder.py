"""H.264 by a GStreamer pipeline in a process of its own: how a Jetson's hardware encoder is reached.

    gst-launch-1.0 fdsrc ! rawvideoparse (NV12) ! nvvidconv ! nvv4l2h264enc ! video/x-h264,byte-stream,au ! fdsink

Pictures go in through one pipe, access units come out of another; each begins with an access unit delimiter (ITU-T
H.264, 7.3.2.4), which is where they are told apart, so the newest comes out with the one after it. A process of its
own, because a driver's fault must not reach the runtime, and because it needs GStreamer's tools only, no bindings.

Nothing waits without bounds: a pipeline that takes or gives nothing for `STALL_S`, is more than `MAX_INSIDE` pictures
behind, or dies, is ended and is an `EncoderError` that holds the last words of its standard error. The next picture
after a failure is refused likewise until `REST_PICTURES` have passed; then a new pipeline is started.

`JETSON` has not run on a Jetson: it is written after NVIDIA's Accelerated GStreamer guide (elements and properties of
nvv4l2h264enc: insert-sps-pps, insert-aud, idrinterval, iframeinterval, num-B-Frames, bitrate, maxperf-enable). All but
its elements is what the tests run, with `X264ENC` in their place.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import IO

import av
from av.video.reformatter import VideoReformatter

from runtime.capture.picture_encoders import EncoderError, Stamps, even_size, group_pictures
from runtime.messages import Packet

STALL_S = 2.0
MAX_INSIDE = 32
REST_PICTURES = 100
_READ_BYTES = 1 << 18
_LAST_WORDS_BYTES = 400
#: Bits for each pixel and picture: 1280x960 at 20 Hz gets 2.9 Mbit/s.
_BITS_PER_PIXEL = 0.12
_DELIMITER = b"\x00\x00\x00\x01\x09"


@dataclass(frozen=True, slots=True)
class Elements:
    """The part of the pipeline that encodes; `{group}` and `{bitrate}` (bit/s, `{kbitrate}`: kbit/s) are filled in."""

    element: str  # what must be there
    text: str


JETSON = Elements(
    "nvv4l2h264enc",
    "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc insert-sps-pps=true insert-aud=true"
    " idrinterval={group} iframeinterval={group} num-B-Frames=0 control-rate=0 bitrate={bitrate} maxperf-enable=true",
)
X264ENC = Elements(
    "x264enc",
    "x264enc tune=zerolatency speed-preset=ultrafast aud=true byte-stream=true bframes=0 key-int-max={group}"
    " option-string=scenecut=0 bitrate={kbitrate}",
)


class AccessUnits:
    """Takes a byte stream apart at its access unit delimiters."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The access units that are whole by now."""
        searched = max(1, len(self._held) - len(_DELIMITER))
        self._held += data
        while (end := self._held.find(_DELIMITER, searched)) > 0:
            yield bytes(self._held[:end])
            del self._held[:end]
            searched = 1

    def rest(self) -> bytes:
        """The last one, once the stream has ended."""
        rest = bytes(self._held)
        self._held.clear()
        return rest


class GstreamerEncoder:
    """One camera's pictures through a pipeline."""

    def __init__(self, camera: str, width: int, height: int, rate_hz: float, elements: Elements = JETSON) -> None:
        """EncoderError when the pipeline cannot be started."""
        self.source_size = (width, height)
        self._camera = camera
        self._size = even_size(width, height)
        self._command = pipeline(*self._size, rate_hz, elements)
        self._reformatter = VideoReformatter()
        self._resting = 0
        self._start()

    def encode(self, picture: av.VideoFrame, time_ns: int, wall_ns: int, sequence: int) -> list[Packet]:
        """The packets that are ready: of pictures before this one, as a rule. EncoderError: see the module."""
        if self._resting > 0:
            self._resting -= 1
            raise EncoderError(f"camera {self._camera}: the encoder failed and rests for {self._resting} pictures more")
        if self._process is None:
            self._start()
        frame = self._reformatter.reformat(picture, *self._size, "nv12", dst_color_range="MPEG", threads=1)
        self._stamps.push(time_ns, wall_ns, sequence)
        packets = self._exchange(frame.to_ndarray().tobytes())
        if len(self._stamps) > MAX_INSIDE:
            raise self._fail(f"it is {len(self._stamps)} pictures behind")
        return packets

    def close(self) -> list[Packet]:
        """End the pipeline; what was inside comes out."""
        process = self._process
        if process is None:
            return []
        _pipe(process.stdin).close()
        packets = self._drain()
        if rest := self._units.rest():
            packets.append(self._stamps.packet(rest))
        self._end()
        return packets

    # The pipeline

    def _start(self) -> None:
        self._units = AccessUnits()
        self._stamps = Stamps(self._camera)
        self._last_words = b""
        self._is_at_end = False
        self._process: subprocess.Popen[bytes] | None = None
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        except OSError as error:
            raise EncoderError(
                f"camera {self._camera}: {self._command[0]} cannot be started ({error}): install gstreamer1.0-tools"
            ) from error
        for stream in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(_pipe(stream).fileno(), False)
        self._process = process

    def _exchange(self, data: bytes) -> list[Packet]:
        """Write one picture, reading what comes meanwhile: neither side can block the other."""
        assert self._process is not None
        sink = _pipe(self._process.stdin).fileno()
        view, packets = memoryview(data), list[Packet]()
        while view:
            ready = self._wait(sink)
            packets += self._read(ready)
            if sink in ready:
                try:
                    view = view[os.write(sink, view) :]
                except BrokenPipeError as error:
                    raise self._fail("it ended") from error
        return packets + self._read(self._wait(None, 0.0))

    def _drain(self) -> list[Packet]:
        """All that comes until the pipeline has ended."""
        packets: list[Packet] = []
        while not self._is_at_end:
            packets += self._read(self._wait(None))
        return packets

    def _wait(self, sink: int | None, timeout_s: float | None = None) -> set[int]:
        """Descriptors that are ready. EncoderError when none is for `STALL_S`, unless another limit is named."""
        assert self._process is not None
        poll = select.poll()
        for stream in (self._process.stdout, self._process.stderr):
            poll.register(_pipe(stream).fileno(), select.POLLIN)
        if sink is not None:
            poll.register(sink, select.POLLOUT)
        ready = {descriptor for descriptor, _ in poll.poll(1000 * (STALL_S if timeout_s is None else timeout_s))}
        if not ready and timeout_s is None:
            raise self._fail(f"it took and gave nothing for {STALL_S:g} s")
        return ready

    def _read(self, ready: set[int]) -> list[Packet]:
        assert self._process is not None
        errors, source = _pipe(self._process.stderr).fileno(), _pipe(self._process.stdout).fileno()
        if errors in ready:
            self._last_words = (self._last_words + os.read(errors, _READ_BYTES))[-_LAST_WORDS_BYTES:]
        if source not in ready:
            return []
        data = os.read(source, _READ_BYTES)
        self._is_at_end = not data
        return [self._stamps.packet(unit) for unit in self._units.feed(data)]

    def _fail(self, what: str) -> EncoderError:
        said = self._last_words.decode("utf-8", "replace").strip()
        self._end()
        self._resting = REST_PICTURES
        return EncoderError(f"camera {self._camera}: the pipeline failed, {what}{f': {said}' if said else ''}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            _pipe(stream).close()


def pipeline(width: int, height: int, rate_hz: float, elements: Elements = JETSON) -> list[str]:
    """The command: raw NV12 at standard input, H.264 access units at standard output."""
    rate = Fraction(rate_hz).limit_denominator(1000)
    bitrate = max(200_000, round(_BITS_PER_PIXEL * width * height * rate_hz))
    encode = elements.text.format(group=group_pictures(rate_hz), bitrate=bitrate, kbitrate=bitrate // 1000)
    parse = f"rawvideoparse format=nv12 width={width} height={height} framerate={rate.numerator}/{rate.denominator}"
    caps = "video/x-h264,stream-format=byte-stream,alignment=au"
    return ["gst-launch-1.0", "-q", *f"fdsrc fd=0 ! {parse} ! {encode} ! {caps} ! fdsink fd=1 sync=false".split()]


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
