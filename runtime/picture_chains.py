"""What a camera's lost packet takes along: its pictures up to the next key frame refer to what is gone.

A decoder shows them nevertheless and says nothing: FFmpeg conceals what it lacks. So whoever may lose a packet on its
way into a clip (a full queue, a full tmpfs, a disk that fails) asks here before it takes one, and takes none of that
camera until its next key frame. The rule is stated here alone; each place that can lose packets keeps its own
`PictureChains`, so that what it passes on decodes without a guess if what it was given did. A clip then has a gap, from
the lost packet to the key frame, and its manifest lists it.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.messages import Packet

#: Codecs of which every picture stands alone, or whose recordings have one key frame only: no use in waiting for one.
CODECS_WITHOUT_GROUPS = frozenset({"mjpeg", "gif", "png", "rawvideo", "bmp"})


class PictureChains:
    """Cameras of which a packet is missing. One camera's packets come from one thread at a time."""

    def __init__(self) -> None:
        self._broken: set[str] = set()

    def takes(self, packet: Packet, has_room: bool = True) -> bool:
        """Whether to take it; False, to be counted by who asks, without room, or when what it refers to is lost."""
        if has_room and (packet.is_key or packet.camera not in self._broken):
            self._broken.discard(packet.camera)
            return True
        self.lose([packet])
        return False

    def lose(self, packets: Iterable[Packet]) -> None:
        """These were taken, or never offered, and are lost now."""
        for packet in packets:
            if packet.codec not in CODECS_WITHOUT_GROUPS:
                self._broken.add(packet.camera)
