"""Thumbnails: what a clip of the low-bandwidth variant holds in place of video.

They are made of key frames alone, which decode without any other frame, at most one each `interval_s`: a camera with a
key frame a second costs one decoded picture a second, in the recorder, off the tick. A camera whose key frames are
further apart has fewer thumbnails; the manifest says how many there are and when. A key frame that cannot be decoded
costs its thumbnail and is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import av
import cv2

from runtime.formats.foxglove_messages import encode_thumbnail
from runtime.formats.mcap_files import RawMessage
from runtime.formats.topics import thumbnail_channel
from runtime.messages import NANOSECONDS_PER_SECOND, Packet
from runtime.recording.clip_file import ClipError, DecodedFrame, decode_packet, new_decoder

#: What one is taken to weigh when room is reserved: generous for 320 pixels at quality 70 (about 15 kB).
EXPECTED_BYTES = 40_000
#: What a second of signals is taken to weigh.
EXPECTED_SIGNAL_BYTES_PER_S = 64_000


@dataclass(frozen=True, slots=True)
class ThumbnailSettings:
    """How many, how large, how good."""

    interval_s: float = 1.0
    width_px: int = 320
    jpeg_quality: int = 70

    def expected_bytes(self, cameras: int, duration_s: float) -> int:
        """An estimate to reserve room by; a clip that turns out larger asks again when it is sealed."""
        pictures = cameras * (duration_s / self.interval_s + 2)
        return round(pictures * EXPECTED_BYTES + duration_s * EXPECTED_SIGNAL_BYTES_PER_S)


def thumbnail_times(key_times_ns: Iterable[int], settings: ThumbnailSettings) -> frozenset[int]:
    """Which key frames become thumbnails: the first, then each that comes `interval_s` (less a tenth) after the last.

    The tenth keeps every key frame of a camera whose group is as long as the interval, jitter or not.
    """
    chosen: list[int] = []
    distance_ns = least_distance_ns(settings.interval_s)
    for time_ns in sorted(key_times_ns):
        if not chosen or time_ns - chosen[-1] >= distance_ns:
            chosen.append(time_ns)
    return frozenset(chosen)


def least_distance_ns(interval_s: float) -> float:
    """Between two thumbnails of one camera."""
    return 0.9 * interval_s * NANOSECONDS_PER_SECOND


class Thumbnailer:
    """Makes the thumbnails of one clip, of all its cameras."""

    def __init__(self, settings: ThumbnailSettings) -> None:
        self.failed = 0  # packets that gave no picture
        self._settings = settings
        self._decoders: dict[str, av.VideoCodecContext] = {}

    def feed(self, packet: Packet) -> list[RawMessage]:
        """The thumbnail of a packet; none, counted, when it cannot be decoded.

        Each camera has one decoder: a treatment may have encoded its key frames anew, as pictures that need each other.
        """
        try:
            if packet.camera not in self._decoders:
                self._decoders[packet.camera] = new_decoder(packet.codec)
            made = [self._message(packet, frame) for frame in decode_packet(self._decoders[packet.camera], packet)]
        except ClipError:
            made = []  # the manifest counts it: a clip with a hole is worth more than none
        self.failed += not made
        return made

    def _message(self, packet: Packet, decoded: DecodedFrame) -> RawMessage:
        image = decoded.rgb()
        height, width = image.shape[:2]
        scale = min(1.0, self._settings.width_px / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._settings.jpeg_quality]
        encoded, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), quality)
        if not encoded:
            raise ClipError(f"camera {packet.camera}: OpenCV cannot encode a JPEG of {size[0]}x{size[1]}")
        data = encode_thumbnail(packet.camera, decoded.time_ns, jpeg.tobytes())
        wall_ns = decoded.time_ns + packet.wall_ns - packet.time_ns
        return RawMessage(
            thumbnail_channel(packet.camera, width, height), decoded.time_ns, wall_ns, packet.sequence, data
        )
