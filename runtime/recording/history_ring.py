"""The closed seconds of history: how many there may be, and which goes first.

    segments/   the last `seconds`, without a gap: what a firing of this moment can reach back to
    held/       older ones that a clip still waits for (`history_needs`), as they were

Together with the second being written they take `max_bytes` at most. A second that grows too old is unlinked, or moved
to `held/` where it is needed, and unlinked there as soon as it no longer is. When bytes run out, what is held goes
first: that of the least urgent clips, their oldest second first, so that what is left of a clip is its end. Only then
the oldest of the last `seconds` goes: the newest history never starves for clips of the past. Each kind is counted, and
the clip that missed it says so (`pre_roll_short_s`, gaps).

A held second stays where it is when its writer dies; the next run adopts it, and lets go of what nobody needs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.history_needs import HistoryNeeds, HoldSettings
from runtime.recording.layout import SEGMENT_NS, HistoryLayout


@dataclass(slots=True)
class HistoryCounters:
    """What history did, for metrics."""

    bytes_written: int = 0
    segments_closed: int = 0
    held_s: float = 0.0  # how far a firing could reach back when the newest second was closed
    segments_given_up: int = 0  # unlinked earlier than `seconds` because bytes or the file system ran out
    refused_records: int = 0  # no room even without any older second, and packets that refer to such
    refused_firings: int = 0  # too many wait for the recorder, or the file could not be written
    segments_held: int = 0  # older than `seconds`, kept at this moment because a clip waits for them
    holds_given_up: int = 0  # of such: unlinked although the clip still waited, for want of bytes or after too long


@dataclass(frozen=True, slots=True)
class ClosedSegment:
    """A second that no longer changes."""

    start_ns: int
    path: Path
    size_bytes: int


class HistoryRing:
    """Belongs to the thread that writes history."""

    def __init__(
        self, layout: HistoryLayout, seconds: float, max_bytes: int, hold: HoldSettings, counters: HistoryCounters
    ) -> None:
        """Adopts what an earlier run left there, and closes its last segment. OSError."""
        self._layout = layout
        self._keep_ns = round(seconds * NANOSECONDS_PER_SECOND)
        self._max_bytes = max_bytes
        self._needs = HistoryNeeds(layout, hold)
        self._counters = counters
        self._recent: deque[ClosedSegment] = deque()
        self._held: list[ClosedSegment] = []
        self._bytes = 0
        #: Start of the second that was closed last, whether it is still here or not; 0 before the first.
        self.newest_start_ns = 0
        self._adopt()

    def add(self, segment: ClosedSegment, lead_in_ns: int) -> None:
        """A second was closed; what it makes too old goes. `lead_in_ns`: see `HistoryNeeds.look`."""
        self._recent.append(segment)
        self.newest_start_ns = segment.start_ns
        self._bytes += segment.size_bytes
        newest_ns = segment.start_ns + SEGMENT_NS
        self._needs.look(newest_ns, lead_in_ns)
        while len(self._recent) > 1 and self._recent[1].start_ns <= newest_ns - self._keep_ns:
            self._hold_or_unlink(self._recent.popleft())
        self._release()
        self._counters.held_s = (newest_ns - self._recent[0].start_ns) / NANOSECONDS_PER_SECOND

    def make_room(self, current_bytes: int) -> None:
        """Give up seconds until the one being written fits in with its `current_bytes`."""
        while self._bytes + current_bytes > self._max_bytes and self.give_up():
            continue

    def give_up(self) -> bool:
        """Unlink the second that is missed least; False when there is none."""
        if self._held:
            victim = max(self._held, key=lambda held: (self._urgency(held), -held.start_ns))
            self._held.remove(victim)
            self._counters.holds_given_up += 1
            self._counters.segments_held = len(self._held)
        elif self._recent:
            victim = self._recent.popleft()
            self._counters.segments_given_up += 1
        else:
            return False
        self._unlink(victim)
        return True

    def _urgency(self, held: ClosedSegment) -> float:
        """The rank of who needs it; nobody comes after all."""
        rank = self._needs.rank_of(held.start_ns)
        return float("inf") if rank is None else rank

    def _hold_or_unlink(self, segment: ClosedSegment) -> None:
        if self._needs.rank_of(segment.start_ns) is None:
            self._unlink(segment)
            return
        path = self._layout.held_segment(segment.start_ns)
        try:
            segment.path.rename(path)
        except OSError:
            self._counters.holds_given_up += 1  # the directory is gone, or another's
            self._unlink(segment)
        else:
            self._held.append(ClosedSegment(segment.start_ns, path, segment.size_bytes))

    def _release(self) -> None:
        kept = []
        for held in self._held:
            if self._needs.rank_of(held.start_ns) is not None:
                kept.append(held)
            else:
                self._counters.holds_given_up += self._needs.is_expired(held.start_ns)
                self._unlink(held)
        self._held = kept
        self._counters.segments_held = len(kept)

    def _unlink(self, segment: ClosedSegment) -> None:
        segment.path.unlink(missing_ok=True)
        self._bytes -= segment.size_bytes  # only now: what cannot be deleted is still there

    def _adopt(self) -> None:
        for segment in self._layout.list_segments():
            path = segment.path
            if segment.is_open:
                path = segment.path.rename(self._layout.closed_segment(segment.start_ns))
            found = ClosedSegment(segment.start_ns, path, path.stat().st_size)
            (self._held if path.parent == self._layout.held else self._recent).append(found)
            self._bytes += found.size_bytes
        self._counters.segments_held = len(self._held)
        self.newest_start_ns = self._recent[-1].start_ns if self._recent else 0
