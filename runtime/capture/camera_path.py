"""One camera's way from a packet to the assembler, the same live and in replay.

`feed` decodes a packet and offers its pictures; it never raises for what a camera sends. Without an assembler (no
inference) packets are only watched and nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from runtime.capture.assembler import Assembler
from runtime.capture.batch_ring import Stored
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.decoding import DecodedFrame, PacketDecoder, UnknownCodecError
from runtime.capture.preparation import ImagePreparer
from runtime.capture.source_frames import SourcePicture
from runtime.formats.bitstream import StreamInfo
from runtime.formats.image_spec import Geometry
from runtime.messages import Packet


class CameraPath:
    """Decodes and prepares one camera. Belongs to one thread."""

    def __init__(
        self,
        watch: CameraWatch,
        assembler: Assembler | None,
        second: Assembler | None = None,
        *,
        on_offered: Callable[[int], None] | None = None,
        give_way: Callable[[], None] | None = None,
    ) -> None:
        """`second` collects the same pictures for a second network that takes other images; usually there is none.

        `on_offered` is told the capture time of each frame once it stands in its slot, or has been refused.
        `give_way` is called between the steps of a frame's work, and may wait there for something more urgent.
        """
        self.watch = watch
        self._assembler = assembler
        self._preparer = None if assembler is None else ImagePreparer(assembler.spec)
        self._second = None if second is None else (second, ImagePreparer(second.spec))
        self._decoder: PacketDecoder | None = None
        self._on_offered = on_offered
        self._give_way = _go_on if give_way is None else give_way

    def open(self, info: StreamInfo, now_ns: int) -> None:
        """Begin a stream, or begin again after the source came back. Raises UnknownCodecError."""
        if self._assembler is not None:
            self._decoder = PacketDecoder(info)
            self._assembler.declare(self.watch.name, info.rate_hz, free_running=info.free_running)
        if self._second is not None:
            self._second[0].declare(self.watch.name, info.rate_hz, free_running=info.free_running)
        self.watch.connected(info, now_ns)

    def feed(self, packet: Packet) -> None:
        """Take one packet in."""
        self.watch.packet(packet)
        if self._assembler is None:
            return
        decoder = self._decoder_for(packet)
        if decoder is None:
            return
        errors, skipped = decoder.errors, decoder.skipped
        self._give_way()
        frames = decoder.decode(packet)
        self._give_way()
        self.watch.decoding(
            pictures=len(frames),
            errors=decoder.errors - errors,
            skipped=decoder.skipped - skipped,
            joining=decoder.is_joining,
        )
        for frame in frames:
            self._offer(frame)

    def _decoder_for(self, packet: Packet) -> PacketDecoder | None:
        """The decoder; a new one where the source changed its codec; None, counted as torn, where there is none."""
        if self._decoder is None or self._decoder.codec != packet.codec:
            try:
                self._decoder = PacketDecoder(StreamInfo(packet.codec, 0, 0))
            except UnknownCodecError as error:
                self.watch.error = str(error)
                self.watch.decoding(pictures=0, errors=1, skipped=0)
                return None
        return self._decoder

    def _offer(self, frame: DecodedFrame) -> None:
        picture = frame.picture
        if self._assembler is None or not self.watch.accepts(picture.width, picture.height):
            return

        def prepare(view: NDArray[np.uint8]) -> Geometry:
            assert self._preparer is not None
            geometry = self._preparer.prepare(picture, view)
            self._give_way()
            self.watch.picture(view, frame.time_ns)
            return geometry

        codec = "" if self._decoder is None else self._decoder.codec
        source = None if self._assembler.sources is None else SourcePicture(picture, codec)
        outcome = self._assembler.offer(self.watch.name, frame.time_ns, frame.sequence, prepare, source)
        self.watch.offered(outcome is Stored.LATE)
        if self._second is not None:
            second, preparer = self._second
            second.offer(self.watch.name, frame.time_ns, frame.sequence, lambda view: preparer.prepare(picture, view))
        if self._on_offered is not None:
            self._on_offered(frame.time_ns)


def _go_on() -> None:
    """Nothing is more urgent."""
