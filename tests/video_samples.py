"""Small real videos and packets for tests: a textured scene that moves, or stands still, through real encoders."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from runtime.messages import NANOSECONDS_PER_SECOND, Packet

RATE_HZ = 20
PERIOD_NS = NANOSECONDS_PER_SECOND // RATE_HZ


def scene(index: int, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """Picture number `index` of a scene that moves by 3 pixels a picture: RGB `[height, width, 3]`."""
    texture = np.random.default_rng(7).integers(0, 255, (height // 8, 512, 3), np.uint8)
    wide = texture.repeat(8, axis=0).repeat(8, axis=1)
    start = (3 * index) % (wide.shape[1] - width)
    return np.ascontiguousarray(wide[:height, start : start + width])


def scenes(count: int, width: int = 320, height: int = 240) -> list[NDArray[np.uint8]]:
    return [scene(index, width, height) for index in range(count)]


def encode(
    images: Sequence[NDArray[np.uint8]],
    camera: str = "front",
    codec: str = "h264",
    *,
    start_ns: int = 0,
    period_ns: int = PERIOD_NS,
    group: int = 10,
    b_frames: int = 0,
    global_header: bool = False,
) -> list[Packet]:
    """Packets of `images`, in decoding order, as a camera would send them."""
    encoder = {"h264": "libx264", "h265": "libx265", "mjpeg": "mjpeg"}[codec]
    context = av.CodecContext.create(encoder, "w")
    context.width, context.height = images[0].shape[1], images[0].shape[0]
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    context.time_base = Fraction(1, RATE_HZ)
    context.framerate = Fraction(RATE_HZ)
    context.gop_size = group
    context.max_b_frames = b_frames
    context.thread_count = 1
    if codec == "mjpeg":
        context.bit_rate = 20_000_000
    if codec == "h264":
        context.options = {"preset": "ultrafast" if not b_frames else "veryfast", "crf": "23", "threads": "1"}
    if codec == "h265":
        context.options = {"preset": "ultrafast", "x265-params": f"log-level=none:bframes={b_frames}:pools=1"}
    if global_header:
        context.flags |= av.codec.context.Flags.global_header
    packets = []
    for encoded in _encoded(context, images):
        time_ns = start_ns + int(encoded.pts) * period_ns
        is_key = encoded.is_keyframe
        packets.append(Packet(camera, len(packets), time_ns, time_ns, codec, is_key, bytes(encoded)))
    return packets


def _encoded(context: av.VideoCodecContext, images: Sequence[NDArray[np.uint8]]) -> list[av.Packet]:
    packets = []
    for index, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=context.pix_fmt)
        frame.pts = index
        frame.time_base = Fraction(1, RATE_HZ)
        packets += context.encode(frame)
    return packets + context.encode(None)


def write_video(
    path: Path, images: Sequence[NDArray[np.uint8]], *, group: int = 10, b_frames: int = 0, codec: str = "libx264"
) -> Path:
    """A video file of `images` at 20 pictures a second; the suffix chooses the container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.width, stream.height = images[0].shape[1], images[0].shape[0]
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p", "rawvideo": "yuyv422"}.get(codec, "yuv420p")
        if codec == "libx264":
            stream.codec_context.gop_size = group
            stream.codec_context.max_b_frames = b_frames
            stream.options = {"preset": "veryfast", "crf": "23"}
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
