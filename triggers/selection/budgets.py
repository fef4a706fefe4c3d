"""Budgets as sliding windows: firings of the last hour, bytes of the last 24 hours, and what a clip will weigh.

Windows are bounded in memory: times within a 256th of an hour share an entry, and so do bytes within an hour. An entry
leaves when its newest part is old enough, never before, so that a limit holds for *every* hour and *every* 24 hours.
Times are integers of nanoseconds that never go back; none is read from a clock here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from runtime.messages import NANOSECONDS_PER_SECOND
from triggers.language.types import Value

HOUR_NS = 3600 * NANOSECONDS_PER_SECOND
DAY_NS = 24 * HOUR_NS
_FIRING_STEP_NS = HOUR_NS // 256
#: Values of a quota's operand that have a window of their own; the others share one.
MAX_QUOTA_VALUES = 256
#: Clips of a rule whose mean is the estimate of the next one.
RECENT_CLIPS = 16


class HourlyCount:
    """How many firings the last hour holds."""

    __slots__ = ("_entries", "_total")

    def __init__(self, entries: Iterable[Sequence[int]] = ()) -> None:
        self._entries: deque[tuple[int, int]] = deque((int(time_ns), int(count)) for time_ns, count in entries)
        self._total = sum(count for _, count in self._entries)

    def add(self, time_ns: int) -> None:
        """One more firing."""
        self.total(time_ns)  # old ones leave, also where no limit ever asks for them
        entries, count = self._entries, 1
        if entries and entries[-1][0] // _FIRING_STEP_NS == time_ns // _FIRING_STEP_NS:
            count += entries.pop()[1]
        entries.append((time_ns, count))
        self._total += 1

    def total(self, time_ns: int) -> int:
        """Firings since an hour before `time_ns`."""
        entries, start_ns = self._entries, time_ns - HOUR_NS
        while entries and entries[0][0] <= start_ns:
            self._total -= entries.popleft()[1]
        return self._total

    def to_list(self) -> list[tuple[int, int]]:
        """Entries (newest time, firings), oldest first."""
        return list(self._entries)


class HourlyQuota:
    """At most `limit` firings an hour, for each value of an operand by itself."""

    __slots__ = ("_counts", "_rest")

    def __init__(self, saved: Iterable[Sequence[object]] = ()) -> None:
        self._counts: dict[Value, HourlyCount] = {}
        self._rest = HourlyCount()  # values beyond MAX_QUOTA_VALUES
        for is_rest, value, entries in saved:
            count = HourlyCount(entries)  # type: ignore[arg-type]
            if is_rest:
                self._rest = count
            else:
                self._counts[value] = count  # type: ignore[index]

    def has_room(self, value: Value, limit: int, time_ns: int) -> bool:
        """Whether one more firing with this value fits."""
        return self._count_of(value, time_ns).total(time_ns) < limit

    def add(self, value: Value, time_ns: int) -> None:
        """One more firing with this value."""
        self._count_of(value, time_ns).add(time_ns)

    def _count_of(self, value: Value, time_ns: int) -> HourlyCount:
        count = self._counts.get(value)
        if count is None:
            if len(self._counts) >= MAX_QUOTA_VALUES:
                self._forget_idle(time_ns)
            if len(self._counts) >= MAX_QUOTA_VALUES:
                return self._rest
            count = self._counts[value] = HourlyCount()
        return count

    def _forget_idle(self, time_ns: int) -> None:
        self._counts = {value: count for value, count in self._counts.items() if count.total(time_ns)}

    def to_list(self) -> list[tuple[bool, Value, list[tuple[int, int]]]]:
        """Entries (is the shared rest, value, its firings)."""
        counts = [(False, value, count.to_list()) for value, count in self._counts.items()]
        return [entry for entry in [*counts, (True, None, self._rest.to_list())] if entry[2]]


class DailyBytes:
    """Bytes of the last 24 hours, sealed and reserved. Corrections find the hour that they belong to."""

    __slots__ = ("_hours",)

    def __init__(self, hours: Iterable[Sequence[int]] = ()) -> None:
        self._hours: deque[tuple[int, int]] = deque((int(start_ns), int(size)) for start_ns, size in hours)

    def total(self, time_ns: int) -> int:
        """Bytes since 24 hours before `time_ns`."""
        self._leave(time_ns)
        return sum(size for _, size in self._hours)

    def _leave(self, time_ns: int) -> None:
        while self._hours and self._hours[0][0] + HOUR_NS <= time_ns - DAY_NS:
            self._hours.popleft()

    def add(self, time_ns: int, size_bytes: int) -> None:
        """Charge bytes at `time_ns`."""
        self._leave(time_ns)
        if self._hours and time_ns < self._hours[-1][0] + HOUR_NS:
            start_ns, size = self._hours.pop()
            self._hours.append((start_ns, size + size_bytes))
        else:
            self._hours.append((time_ns, size_bytes))

    def correct(self, time_ns: int, change_bytes: int) -> None:
        """What was charged at `time_ns` weighs that much more. An hour that has left needs no correction."""
        for index in range(len(self._hours) - 1, -1, -1):
            start_ns, size = self._hours[index]
            if start_ns <= time_ns:
                if time_ns < start_ns + HOUR_NS:
                    self._hours[index] = (start_ns, size + change_bytes)
                return

    def to_list(self) -> list[tuple[int, int]]:
        """Entries (start of the hour, bytes), oldest first."""
        return list(self._hours)


class ClipSizes:
    """What the next clip of a rule will weigh: the mean of its recent ones, until then seconds x bytes a second."""

    __slots__ = ("_recent",)

    def __init__(self, recent: Iterable[int] = ()) -> None:
        self._recent: deque[int] = deque((int(size) for size in recent), maxlen=RECENT_CLIPS)

    def add(self, size_bytes: int) -> None:
        """A clip was sealed."""
        self._recent.append(size_bytes)

    def estimate(self, window_s: float, bytes_per_s: float) -> int:
        """Bytes; 0 while nothing is known."""
        if self._recent:
            return round(sum(self._recent) / len(self._recent))
        return round(window_s * bytes_per_s)

    def to_list(self) -> list[int]:
        """Recent sizes, oldest first."""
        return list(self._recent)


def fits(spent_bytes: int, size_bytes: int, limit_bytes: int) -> bool:
    """Whether a clip fits beside what is spent. One of unknown size (0) fits as long as anything is left."""
    return spent_bytes + max(size_bytes, 1) <= limit_bytes
