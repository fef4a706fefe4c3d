"""Writes history: one segment a second, bounded by seconds and bytes.

Invariants: a segment is appended to only while it is called `.open`; a closed one never changes; every file ends with
a whole record at every instant; a record is in the file when its call returns, or when its block of `together` ends
(at most `MAX_HELD_BYTES` wait that long, to be written in one go); all seconds together take at most `max_bytes` and
are, once the newest is closed, at most `seconds` old, but for those that a clip waits for (`history_ring`). A record
that arrives late goes into the current segment: readers look at capture times, not at file names.

A closed segment carries metadata `shadowrig.segment` (session, and the start of the segment before it: where that is
another one, seconds in between are gone) and `shadowrig.key_frames` (camera -> capture times), so that a cut finds
where to start without reading video. Calibrations are repeated in every segment, so that none depends on a second that
may be gone.

When the file system is full, the oldest seconds go first; when none is left, the record is refused and counted. When
it fails in any other way, the second is closed as it is, what it held is counted, and the error goes up: the next
record begins a new second. A packet that is lost so takes along those that refer to it (`picture_chains`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeAlias, TypeVar, cast

from runtime.formats import foxglove_messages, topics
from runtime.formats.mcap_files import McapTopicWriter
from runtime.messages import NANOSECONDS_PER_SECOND, Firing, Packet, SignalSample, TickReport
from runtime.picture_chains import PictureChains
from runtime.recording.answers import HISTORY, Answer, leave_answers
from runtime.recording.current_segment import CurrentSegment
from runtime.recording.firing_files import WaitingRoom
from runtime.recording.history_needs import HoldSettings
from runtime.recording.history_ring import ClosedSegment, HistoryCounters, HistoryRing
from runtime.recording.layout import SEGMENT_NS, HistoryLayout
from runtime.recording.segment_stream import SegmentStream, is_full
from runtime.recording.sessions import SessionChange, SessionLock, SessionRecord

SEGMENT_METADATA = "shadowrig.segment"
KEY_FRAMES_METADATA = "shadowrig.key_frames"
#: In `SEGMENT_METADATA`.
PREVIOUS = "previous"
#: Records that wait for the others of their block; beyond, they are written before it ends.
MAX_HELD_BYTES = 4 * 1024 * 1024
#: A camera that was away has no key frames for longer: that is no reason to keep more.
MAX_GOP_NS = 10 * NANOSECONDS_PER_SECOND
NO_HOLD = HoldSettings()

_Write: TypeAlias = Callable[[McapTopicWriter], None]
_Written = TypeVar("_Written")


class HistoryWriter:
    """Owned by one thread. Time comes with the records; nothing here reads a clock."""

    def __init__(
        self,
        directory: Path | str,
        seconds: float,
        max_bytes: int,
        session: SessionRecord,
        wall_offset_ns: int = 0,
        hold: HoldSettings = NO_HOLD,
    ) -> None:
        """Adopts what an earlier run left there (and closes its last segment). OSError when it cannot be written.

        `wall_offset_ns` is wall minus capture time, for records that come before the first packet tells it. `hold`:
        for how long seconds that a clip waits for are kept beyond `seconds`.
        """
        self.layout = HistoryLayout(directory)
        self.layout.create()
        self.counters = HistoryCounters()
        self._max_bytes = max_bytes
        self._ring = HistoryRing(self.layout, seconds, max_bytes, hold, self.counters)
        # Only now: where an earlier run has filled the file system, its oldest seconds make room for this one's name.
        self._lock = self._with_room(lambda: SessionLock(self.layout, session))
        self._current: CurrentSegment | None = None
        self._calibrations: dict[str, bytes] = {}
        self._wall_offset_ns = wall_offset_ns
        self._holds = False
        self._newest_key_ns: dict[str, int] = {}
        self._longest_gop_ns = 0  # how far before a window its clip's first frame may lie
        self._waiting_room = WaitingRoom(self.layout)
        self._chains = PictureChains()

    # Records

    def packet(self, packet: Packet) -> bool:
        """One access unit; False when it was refused. ValueError for a codec that a recording cannot hold."""
        self._wall_offset_ns = packet.wall_ns - packet.time_ns
        is_written = False
        try:
            writer = self._writer_at(packet.time_ns)  # first: on the way it may lose what this one refers to
            writer = writer if self._chains.takes(packet) else None
            is_written = self._try(writer, lambda target: target.packet(packet), packet)
        finally:
            if not is_written:
                self._chains.lose([packet])
        return is_written

    def signals(self, samples: Sequence[SignalSample]) -> bool:
        """Samples of any names; those of one namespace and time share a message."""
        if not samples:
            return True
        newest_ns = max(sample.time_ns for sample in samples)
        return self._try(self._writer_at(newest_ns), lambda target: target.signal_samples(samples))

    def tick(self, report: TickReport) -> bool:
        """All that one tick says, except its firings, which come by `firing`."""
        return self._try(self._writer_at(report.time_ns), lambda target: target.tick(report))

    def firing(self, firing: Firing) -> bool:
        """Publish a firing on `/firing` and leave its file for the recorder, whatever becomes of the record."""
        left = False
        try:
            self._try(self._writer_at(firing.time_ns), lambda target: target.firing(firing))
        finally:
            left = self._leave_for_recorder(firing)
        return left

    def change(self, change: SessionChange) -> None:
        """Other rules run from here on: firings that come after this are theirs. OSError."""
        self._with_room(lambda: self._lock.note_change(change))

    def log(self, level: str, name: str, message: str, time_ns: int) -> bool:
        """A log line."""
        return self._try(self._writer_at(time_ns), lambda target: target.log(level, name, message, time_ns))

    def calibrate(
        self,
        camera: str,
        width: int,
        height: int,
        intrinsic: Sequence[float],
        distortion: Sequence[float] = (),
        distortion_model: str = "plumb_bob",
    ) -> None:
        """Set a camera's calibration: every segment from the next on carries it."""
        self._calibrations[camera] = foxglove_messages.encode_calibration(
            camera, width, height, intrinsic, distortion, distortion_model
        )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Records of this block are written in one go at its end; counted as refused if there is no room then."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
            self._send()

    def close(self) -> None:
        """Close the last segment and say that this run left cleanly. OSError."""
        try:
            self._close_current()
        finally:
            self._with_room(self._lock.end)

    # Segments

    def _writer_at(self, time_ns: int) -> McapTopicWriter | None:
        """The writer for a record of this time, or None when no segment can be opened."""
        if self._current is not None and self._is_over(self._current, time_ns) and self._send():
            self._close_current()
        if self._current is None:
            self._open_segment(time_ns)
        if self._current is not None:
            self._current.writer.wall_offset_ns = self._wall_offset_ns
            self._ring.make_room(self._current.size_bytes)
        return self._current.writer if self._current is not None else None

    def _is_over(self, current: CurrentSegment, time_ns: int) -> bool:
        """A second that alone takes half of all bytes is cut short: the bound holds whatever arrives."""
        return time_ns >= current.start_ns + SEGMENT_NS or current.size_bytes > self._max_bytes // 2

    def _open_segment(self, time_ns: int) -> None:
        """A second run, or a late first record, may ask for a start that is taken: the next nanosecond is as good."""
        start_ns = max(0, time_ns)
        while self.layout.closed_segment(start_ns).exists() or self.layout.open_segment(start_ns).exists():
            start_ns += 1
        path = self.layout.open_segment(start_ns)
        stream: SegmentStream | None = None
        try:
            stream = SegmentStream(path, self._ring.give_up)
            writer = McapTopicWriter(cast("IO[bytes]", stream), chunked=False, wall_offset_ns=self._wall_offset_ns)
            facts = {"session": self._lock.record.session, PREVIOUS: str(self._ring.newest_start_ns)}
            writer.metadata(SEGMENT_METADATA, facts)
            writer.holds = True
            for camera, calibration in self._calibrations.items():
                writer.write(topics.calibration_channel(camera), calibration, start_ns)
            writer.send()
        except OSError as error:
            if stream is not None:
                stream.close()
            path.unlink(missing_ok=True)
            if not is_full(error):
                self.counters.refused_records += 1  # the one that asked for the segment
                raise
            return
        self._current = CurrentSegment(start_ns, stream, writer)

    def _close_current(self) -> None:
        """Whatever fails on the way, the second is closed and counted among the others afterwards. OSError."""
        current, self._current = self._current, None
        if current is None:
            return
        try:
            index = {camera: ",".join(map(str, times)) for camera, times in current.key_frames_ns.items()}
            current.writer.metadata(KEY_FRAMES_METADATA, index)
            current.writer.finish()
        except OSError:
            pass  # the segment stays without a summary and is read record by record, as after a crash
        finally:
            self._count_closed(current)

    def _count_closed(self, current: CurrentSegment) -> None:
        """A second that cannot be renamed keeps its name: it is found under it, and goes like the others."""
        size = current.stream.tell()
        current.stream.close()
        path = self.layout.open_segment(current.start_ns)
        with contextlib.suppress(OSError):
            path = path.rename(self.layout.closed_segment(current.start_ns))
        self.counters.segments_closed += 1
        self.counters.bytes_written += size
        self._ring.add(ClosedSegment(current.start_ns, path, size), self._longest_gop_ns)

    def _try(self, writer: McapTopicWriter | None, write: _Write, packet: Packet | None = None) -> bool:
        current = self._current
        if writer is None or current is None:
            self.counters.refused_records += 1
            return False
        write(writer)
        current.hold(packet)
        return (self._holds and writer.held_bytes <= MAX_HELD_BYTES) or self._send()

    def _send(self) -> bool:
        """Write what the current segment holds; False when there was no room for it. OSError."""
        current = self._current
        if current is None:
            return True
        records, packets = current.take_held()
        try:
            current.writer.send()
        except OSError as error:
            # The records may have carried a channel's definition with them: the next one starts a new segment.
            self.counters.refused_records += records
            self._chains.lose(packets)
            self._close_current()
            if not is_full(error):
                raise
            return False
        for packet in packets:
            if packet.is_key:
                self._note_key_frame(current, packet)
        return True

    def _note_key_frame(self, current: CurrentSegment, packet: Packet) -> None:
        current.key_frames_ns.setdefault(packet.camera, []).append(packet.time_ns)
        gop_ns = min(packet.time_ns - self._newest_key_ns.get(packet.camera, packet.time_ns), MAX_GOP_NS)
        self._longest_gop_ns = max(self._longest_gop_ns, gop_ns)
        self._newest_key_ns[packet.camera] = packet.time_ns

    # Firings

    def _leave_for_recorder(self, firing: Firing) -> bool:
        if self._write_firing(firing):
            return True
        self.counters.refused_firings += 1
        lost = Answer(firing.rule, firing.sequence, firing.time_ns, HISTORY)
        with contextlib.suppress(OSError):  # no room for the note either: the firing stays charged with an estimate
            leave_answers(self.layout, [lost])
        return False

    def _write_firing(self, firing: Firing) -> bool:
        try:
            if not self._waiting_room.has_room():
                return False
            self._with_room(lambda: self._waiting_room.admit(self._lock.record.session, firing))
        except OSError:
            return False
        return True

    def _with_room(self, write: Callable[[], _Written]) -> _Written:
        """A small file is worth more than the oldest second: make room for it as long as there is some. OSError."""
        while True:
            try:
                return write()
            except OSError as error:
                if not (is_full(error) and self._ring.give_up()):
                    raise
