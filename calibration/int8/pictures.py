"""Pictures out of recordings and image files, and how bright they are, for whoever samples them.

Only what lies around a wanted moment is decoded: the group of pictures that holds it, and of a group no more than has
been decoded already for a moment before. Brightness is looked up in key frames, which stand alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from runtime.capture.decoding import PacketDecoder, UnknownCodecError
from runtime.drives import DriveCamera, DriveVideoError
from runtime.messages import Packet

#: Packets from one key frame to the next that are kept for decoding; longer groups are decoded from their last part.
LONGEST_GROUP_PACKETS = 1200
#: A picture of this size says how bright a scene is.
LUMA_WIDTH, LUMA_HEIGHT = 64, 48


def pictures_at(camera: DriveCamera, times_ns: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Index and last picture of the camera at each of `times_ns` (in order), as far as its video goes."""
    group = _Group(camera)
    pending = 0
    for packet in readable(camera):
        while pending < len(times_ns) and packet.time_ns > times_ns[pending]:
            picture = group.last_picture()
            if picture is not None:
                yield pending, picture
            pending += 1
        if pending == len(times_ns):
            return
        if packet.is_key or len(group.packets) >= LONGEST_GROUP_PACKETS:
            group = _Group(camera)
        group.packets.append(packet)
    if pending < len(times_ns) and (picture := group.last_picture()) is not None:
        yield pending, picture


def readable(camera: DriveCamera) -> Iterator[Packet]:
    """Packets up to where the video breaks: a damaged recording is still good to calibrate on before the damage."""
    try:
        yield from camera.packets()
    except DriveVideoError:
        return


def lumas_at(camera: DriveCamera, times_ns: Sequence[int]) -> NDArray[np.float64]:
    """Mean brightness 0..255 of the key frame before each of `times_ns` (in order); NaN where there is none."""
    found = np.full(len(times_ns), np.nan)
    key: Packet | None = None
    known: float | None = None
    pending = 0
    for packet in _and_an_end(readable(camera)):
        while pending < len(times_ns) and (packet is None or packet.time_ns > times_ns[pending]):
            if known is None and key is not None:
                known = _luma_of_packet(camera, key)
            found[pending] = np.nan if known is None else known
            pending += 1
        if packet is None or pending == len(times_ns):
            return found
        if packet.is_key:
            key, known = packet, None
    return found


def luma(picture: av.VideoFrame) -> float:
    """Mean brightness 0..255."""
    return float(picture.reformat(LUMA_WIDTH, LUMA_HEIGHT, "gray").to_ndarray().mean())


def first_picture(path: Path) -> av.VideoFrame:
    """The picture in an image file. Raises OSError, FFmpegError or StopIteration when there is none."""
    with av.open(str(path)) as container:
        picture: av.VideoFrame = next(iter(container.decode(video=0)))
        return picture


@dataclass(slots=True)
class _Group:
    """Packets from one key frame on, decoded as far as somebody wanted to see."""

    camera: DriveCamera
    packets: list[Packet] = field(default_factory=list)
    _decoded: int = 0
    _decoder: PacketDecoder | None = None
    _last: av.VideoFrame | None = None

    def last_picture(self) -> av.VideoFrame | None:
        """The newest picture; None where nothing can be decoded."""
        if not self.packets:
            return None
        try:
            self._decoder = self._decoder or PacketDecoder(self.camera.stream())
        except (UnknownCodecError, DriveVideoError):
            return None
        for packet in self.packets[self._decoded :]:
            for frame in self._decoder.decode(packet):
                self._last = frame.picture
        self._decoded = len(self.packets)
        return self._last


def _luma_of_packet(camera: DriveCamera, key: Packet) -> float:
    picture = _Group(camera, [key]).last_picture()
    return float("nan") if picture is None else luma(picture)


def _and_an_end(packets: Iterable[Packet]) -> Iterator[Packet | None]:
    yield from packets
    yield None
