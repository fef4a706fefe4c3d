"""The second of history that is being written: its file, and what is in it so far or is still to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.formats.mcap_files import McapTopicWriter
from runtime.messages import Packet
from runtime.recording.segment_stream import SegmentStream


@dataclass(slots=True)
class CurrentSegment:
    """Belongs to the writer of history."""

    start_ns: int
    stream: SegmentStream
    writer: McapTopicWriter
    key_frames_ns: dict[str, list[int]] = field(default_factory=dict)
    #: Records that are not in the file yet, and the packets among them.
    held_records: int = 0
    held_packets: list[Packet] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Of the file, with what is still to be written."""
        return self.stream.tell() + self.writer.held_bytes

    def hold(self, packet: Packet | None) -> None:
        """One record more is to be written, which may be a packet."""
        self.held_records += 1
        if packet is not None:
            self.held_packets.append(packet)

    def take_held(self) -> tuple[int, list[Packet]]:
        """Records that are written now, and the packets among them."""
        records, self.held_records = self.held_records, 0
        packets, self.held_packets = self.held_packets, []
        return records, packets
