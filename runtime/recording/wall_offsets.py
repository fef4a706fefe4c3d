"""Which wall time the records of history say, by the first record of each second."""

from __future__ import annotations

from typing import NamedTuple

from runtime.recording.layout import SEGMENT_NS, HistoryLayout, Segment
from runtime.recording.opened_segment import opened


class _Times(NamedTuple):
    """Of one record, on both clocks."""

    time_ns: int
    wall_ns: int


class WallOffsets:
    """Remembers what closed seconds say, which never change: pulls that wait ask again and again."""

    def __init__(self, layout: HistoryLayout) -> None:
        self._layout = layout
        self._first_times: dict[int, _Times | None] = {}  # of closed seconds, by their start

    def at(self, wall_ns: int | None) -> int | None:
        """Wall minus capture time in the second that said `wall_ns` (None: the newest); None without any.

        A clock that was set while history was recorded has several: each second says what it was then. Set back, it may
        say a time twice: the newest counts. Of a time that no second said, the last one that started by then decides,
        or else the oldest.
        """
        earliest: int | None = None
        started_by: int | None = None
        segments = self._layout.list_segments()
        held = {segment.start_ns for segment in segments}
        self._first_times = {start_ns: first for start_ns, first in self._first_times.items() if start_ns in held}
        for segment in reversed(segments):
            first = self._first_of(segment)
            if first is not None:
                earliest = first.wall_ns - first.time_ns
                if wall_ns is None or 0 <= wall_ns - first.wall_ns < SEGMENT_NS:
                    return earliest
                if started_by is None and first.wall_ns <= wall_ns:
                    started_by = earliest
        return earliest if started_by is None else started_by

    def _first_of(self, segment: Segment) -> _Times | None:
        if segment.start_ns in self._first_times:
            return self._first_times[segment.start_ns]
        with opened(self._layout, segment) as reader:
            message = None if reader is None else next(reader.messages(), None)
        first = None if message is None else _Times(message.time_ns, message.wall_ns)
        if not segment.is_open:
            self._first_times[segment.start_ns] = first
        return first
