"""Reads history while it is being written, or after its writer died.

Segments vanish (the oldest) and change name (the newest, when its second closes) at any time: a segment that is gone
when it is opened is passed over, and one that was renamed is found under its new name. A record counts by its capture
time; because it may arrive late, segments up to `LATE_NS` after the one that covers an instant are looked at too.

Of older history only the seconds that clips wait for may be left: see `history_holes`.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path

from runtime.formats import topics
from runtime.formats.mcap_files import McapFileError, RawMessage
from runtime.messages import SignalSample
from runtime.recording.history_holes import facts, follows, from_key_frames
from runtime.recording.history_writer import KEY_FRAMES_METADATA, SEGMENT_METADATA
from runtime.recording.layout import LATE_NS, SEGMENT_NS, HistoryLayout, Segment
from runtime.recording.opened_segment import opened
from runtime.recording.record_source import calibrations_in, samples_of
from runtime.recording.sealing_policy import SealedBefore
from runtime.recording.wall_offsets import WallOffsets

#: Two segments closer than this follow each other: one lasts a second, and the first record after that ends it.
_FOLLOWING_NS = SEGMENT_NS * 3 // 2
#: Closed seconds that tell what recording takes.
MEASURED_SEGMENTS = 10


class HistoryReader:
    """Looks at one history directory. Holds no file open between calls."""

    def __init__(self, directory: Path | str) -> None:
        self.layout = HistoryLayout(directory)
        self._wall_offsets = WallOffsets(self.layout)

    @property
    def sealed_before(self) -> SealedBefore | None:
        """Nothing was done to it."""
        return None

    def oldest_start_ns(self) -> int | None:
        """Start of the oldest second, or None while history is empty."""
        segments = self.layout.list_segments()
        return segments[0].start_ns if segments else None

    def newest_start_ns(self) -> int | None:
        """Start of the newest second: everything captured well before it has arrived."""
        segments = self.layout.list_segments()
        return segments[-1].start_ns if segments else None

    def newest_record(self, session: str) -> tuple[int, int] | None:
        """Capture and wall time of the newest record that this run of the runtime left, or None."""
        for segment in reversed(self.layout.list_segments()):
            with opened(self.layout, segment) as reader:
                if reader is None or facts(reader, SEGMENT_METADATA).get("session") != session:
                    continue
                if (times := reader.time_range_ns) is not None:
                    newest = list(reader.messages(start_ns=times[1]))
                    return times[1], newest[-1].wall_ns
        return None

    def session_at(self, time_ns: int) -> str | None:
        """The run that recorded this instant: that of the last second which started by then, else of the first."""
        segments = self.layout.list_segments()
        for segment in (*reversed([segment for segment in segments if segment.start_ns <= time_ns]), *segments):
            with opened(self.layout, segment) as reader:
                session = None if reader is None else facts(reader, SEGMENT_METADATA).get("session")
                if session is not None:
                    return session
        return None

    def sessions(self) -> set[str]:
        """All runs that recorded any of what is held and can be read."""
        found: set[str] = set()
        for segment in self.layout.list_segments():
            with contextlib.suppress(McapFileError), opened(self.layout, segment) as reader:
                session = None if reader is None else reader.metadata().get(SEGMENT_METADATA, {}).get("session")
                found.update([] if session is None else [session])
        return found

    def wall_offset_ns(self, wall_ns: int | None) -> int | None:
        """See `WallOffsets.at`."""
        return self._wall_offsets.at(wall_ns)

    def bytes_between(self, start_ns: int, end_ns: int) -> int:
        """Bytes of the seconds that cover the window."""
        sizes = 0
        for segment in self._covering(start_ns, end_ns):
            with contextlib.suppress(FileNotFoundError):
                sizes += segment.path.stat().st_size
        return sizes

    def bytes_per_s(self) -> float | None:
        """What recording takes: the mean size of the newest closed seconds; None while there is none."""
        sizes = []
        for segment in self.layout.list_segments()[-MEASURED_SEGMENTS - 1 :]:
            if not segment.is_open:
                with contextlib.suppress(FileNotFoundError):
                    sizes.append(segment.path.stat().st_size)
        return sum(sizes) / len(sizes) if sizes else None

    def cameras(self, start_ns: int, end_ns: int) -> tuple[str, ...]:
        """Cameras that have a video channel in the seconds that cover the window, in order of appearance."""
        found: dict[str, None] = {}
        for segment in self._covering(start_ns, end_ns):
            with opened(self.layout, segment) as reader:
                found.update(dict.fromkeys(reader.cameras if reader is not None else ()))
        return tuple(found)

    def cameras_behind(self, time_ns: int) -> set[str]:
        """Cameras with video in the second before this instant, and none from after it yet."""
        behind = {topics.video_topic(camera) for camera in self.cameras(time_ns - SEGMENT_NS, time_ns)}
        recent: set[str] = set()
        for message in self.messages(time_ns - SEGMENT_NS, time_ns + LATE_NS, frozenset(behind)):
            if message.time_ns <= time_ns:
                recent.add(message.topic)
            else:
                behind.discard(message.topic)
        return {camera for topic in behind & recent if (camera := topics.camera_of(topic)) is not None}

    def key_frame_starts(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, int]:
        """For each camera the last key frame at or before `start_ns`, else the first one up to `end_ns`.

        Cameras without a key frame in reach are left out: nothing of theirs could be decoded.
        """
        before: dict[str, int] = {}
        after: dict[str, int] = {}
        segments = self._covering(0, end_ns)
        for index in reversed(range(len(segments))):
            if len(before) == len(cameras) or self._ends_in_a_hole(segments[index : index + 2], start_ns):
                break
            for camera, times_ns in self._key_frames(segments[index], cameras).items():
                earlier = [time_ns for time_ns in times_ns if time_ns <= start_ns]
                later = [time_ns for time_ns in times_ns if start_ns < time_ns <= end_ns]
                if earlier:
                    before[camera] = max(*earlier, before.get(camera, 0))
                if later:
                    after[camera] = min(*later, after.get(camera, end_ns))
        return {**after, **before}

    def key_frames(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, list[int]]:
        """Capture times of the key frames with start <= time <= end, by camera, ascending."""
        found: dict[str, list[int]] = {}
        for segment in self._covering(start_ns, end_ns):
            for camera, times_ns in self._key_frames(segment, cameras).items():
                found.setdefault(camera, []).extend(time_ns for time_ns in times_ns if start_ns <= time_ns <= end_ns)
        return {camera: sorted(times_ns) for camera, times_ns in found.items() if times_ns}

    def first_time_ns(self, start_ns: int, end_ns: int) -> int:
        """Capture time of the first record from `start_ns` on, or `start_ns` where that is not known to be later."""
        earliest_ns: int | None = None
        for segment in self._covering(start_ns, end_ns):
            if earliest_ns is not None and segment.start_ns > earliest_ns + LATE_NS:
                break  # until then one may hold a record that came late
            with opened(self.layout, segment) as reader:
                times = reader.time_range_ns if reader is not None else None
            if times is not None and times[1] >= start_ns:
                first_ns = max(times[0], start_ns)
                earliest_ns = first_ns if earliest_ns is None else min(first_ns, earliest_ns)
        return start_ns if earliest_ns is None else earliest_ns

    def last_time_ns(self, start_ns: int, end_ns: int) -> int:
        """Capture time of the last record up to `end_ns`, or `end_ns` where that is not known to be earlier."""
        latest_ns: int | None = None
        for segment in reversed(self._covering(start_ns, end_ns)):
            if latest_ns is not None and segment.start_ns + SEGMENT_NS <= latest_ns:
                break  # until then all are looked at: the newest one may hold nothing but late records
            with opened(self.layout, segment) as reader:
                times = reader.time_range_ns if reader is not None else None
            if times is not None and times[0] <= end_ns:  # else all of it lies behind, maybe behind a hole
                latest_ns = max(min(times[1], end_ns), latest_ns or 0)
        return end_ns if latest_ns is None else latest_ns

    def signal_samples(self, namespace: str, start_ns: int, end_ns: int) -> Iterator[SignalSample | tuple[str, int]]:
        """See `SignalHistory.signal_samples`."""
        return samples_of(self.messages(start_ns, end_ns, {topics.signal_topic(namespace)}), namespace)

    def messages(self, start_ns: int, end_ns: int, wanted: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages of the topics `wanted` (None: all) with start <= capture time <= end, in order of capture time."""
        with contextlib.ExitStack() as stack:
            streams, holes_ns = [], []
            earlier: Segment | None = None
            for segment in self._covering(start_ns, end_ns):
                reader = stack.enter_context(opened(self.layout, segment))
                if reader is None:
                    continue
                if earlier is not None and not follows(reader, earlier):
                    holes_ns.append(segment.start_ns)
                streams.append(reader.messages(wanted, start_ns, end_ns + 1))
                earlier = segment
            merged = heapq.merge(*streams, key=lambda message: message.time_ns)
            yield from from_key_frames(merged, holes_ns) if holes_ns else merged

    def held_ns(self, start_ns: int, end_ns: int) -> int:
        """How much of the range is or will be here: what lies after the oldest second, without the holes."""
        segments = self.layout.list_segments()
        if not segments:
            return 0
        held_ns = max(0, end_ns - max(start_ns, segments[0].start_ns))
        for earlier, later in pairwise(segments):
            if self._is_hole(earlier, later):
                held_ns -= max(0, min(later.start_ns, end_ns) - max(earlier.start_ns + SEGMENT_NS, start_ns))
        return held_ns

    def is_past(self, start_ns: int, end_ns: int) -> bool:
        """Whether nothing of the range is left, and nothing of it is to come."""
        starts_ns = [segment.start_ns for segment in self.layout.list_segments()]
        is_left = any(start_ns - SEGMENT_NS < segment_ns <= end_ns for segment_ns in starts_ns)
        return not starts_ns or (not is_left and starts_ns[-1] > end_ns)

    def _ends_in_a_hole(self, pair: list[Segment], start_ns: int) -> bool:
        """Whether between this segment and the next there are seconds missing from before `start_ns`."""
        if len(pair) < 2 or pair[0].start_ns + SEGMENT_NS > start_ns:
            return False
        return self._is_hole(*pair)

    def _is_hole(self, earlier: Segment, later: Segment) -> bool:
        if later.start_ns - earlier.start_ns < _FOLLOWING_NS:
            return False
        with opened(self.layout, later) as reader:
            return reader is not None and not follows(reader, earlier)

    def calibrations(self, at_ns: int) -> tuple[RawMessage, ...]:
        """See `RecordSource`: those of the second that holds this instant, or the one before it, else after it.

        A run of the runtime repeats its own in every second, in front of all other records.
        """
        segments = self.layout.list_segments()
        earlier = [segment for segment in segments if segment.start_ns <= at_ns]
        for segment in (*reversed(earlier), *segments[len(earlier) :]):
            with opened(self.layout, segment) as reader:
                if reader is not None and reader.time_range_ns is not None:
                    return calibrations_in(reader)
        return ()

    def _covering(self, start_ns: int, end_ns: int) -> list[Segment]:
        """Segments that may hold records of the window."""
        segments = self.layout.list_segments()
        last_start_ns = end_ns + LATE_NS
        return [
            segment
            for index, segment in enumerate(segments)
            if segment.start_ns <= last_start_ns
            and (index + 1 == len(segments) or segments[index + 1].start_ns >= start_ns - SEGMENT_NS)
        ]

    def _key_frames(self, segment: Segment, cameras: Collection[str]) -> dict[str, list[int]]:
        with opened(self.layout, segment) as reader:
            if reader is None:
                return {}
            index = facts(reader, KEY_FRAMES_METADATA) if reader.is_finished else {}
            if not index:
                return reader.key_frames(cameras)
            try:
                return {
                    camera: [int(time) for time in times.split(",")]
                    for camera, times in index.items()
                    if camera in cameras
                }
            except ValueError:  # a bit of it flipped
                return reader.key_frames(cameras)
