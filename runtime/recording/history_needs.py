"""Which seconds of history somebody waits for: the windows of firings without a clip, and of pulls in the queue.

A clip that blurs every frame may take longer than history lasts, and others wait behind it. Their seconds would be gone
by then. So whoever drops the oldest second asks here first, and keeps it where it is needed (`history_ring`).

There is nothing to take back and nobody to die with it: a need is a file that is there anyway. A firing waits in
`firings/` until its clip is sealed or given up; for a pull that waits for its turn the recorder leaves
`needs/<request>.json`, and takes all of those away when it starts. A need counts for `HoldSettings.max_s` after its
end at most, whatever becomes of the recorder. Pure but for reading these files; time is an argument.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.messages import NANOSECONDS_PER_SECOND, Priority
from runtime.recording.firing_files import FiringFileError, read_firing
from runtime.recording.layout import LATE_NS, SEGMENT_NS, HistoryLayout, write_atomically

#: Files looked at; more than the firings that may wait (`MAX_WAITING_FIRINGS`), and all pulls.
MAX_NEEDS = 4096


@dataclass(frozen=True, slots=True)
class HoldSettings:
    """How long seconds that a clip waits for are kept beyond what history keeps anyway."""

    max_s: float = 0.0  # 0: not at all
    #: A policy looks so far back before a clip begins: the fix that holds there is part of what is needed.
    before_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Need:
    """A window of capture time that will become a clip."""

    start_ns: int
    end_ns: int
    rank: int  # of its priority; 0 is the most urgent


@dataclass(frozen=True, slots=True)
class _Span:
    """Windows that overlap: they go together, as they would be merged."""

    start_ns: int
    end_ns: int
    rank: int  # the most urgent of them


class HistoryNeeds:
    """Belongs to the thread that writes history."""

    def __init__(self, layout: HistoryLayout, settings: HoldSettings) -> None:
        self._layout = layout
        self._max_ns = round(settings.max_s * NANOSECONDS_PER_SECOND)
        self._before_ns = round(settings.before_s * NANOSECONDS_PER_SECOND)
        self._known: dict[Path, Need | None] = {}  # None: cannot be read, and needs nothing
        self._spans: list[_Span] = []
        self._expired: list[_Span] = []

    def look(self, newest_ns: int, lead_in_ns: int) -> None:
        """Read what is new. A clip begins up to `lead_in_ns` before its window: with the key frame in front of it."""
        if self._max_ns <= 0:
            return
        paths = [*self._layout.list_firings(), *self._layout.list_needs()][:MAX_NEEDS]
        self._known = {path: self._known[path] if path in self._known else _read(path) for path in paths}
        needs = [need for need in self._known.values() if need is not None]
        before_ns = self._before_ns + lead_in_ns + SEGMENT_NS
        self._spans = _spans((need for need in needs if need.end_ns >= newest_ns - self._max_ns), before_ns)
        self._expired = _spans((need for need in needs if need.end_ns < newest_ns - self._max_ns), before_ns)

    def rank_of(self, segment_start_ns: int) -> int | None:
        """The rank of the most urgent clip that needs this second; None: nobody does."""
        return _rank(self._spans, segment_start_ns)

    def is_expired(self, segment_start_ns: int) -> bool:
        """Whether somebody still waits for this second, and did for too long."""
        return _rank(self._expired, segment_start_ns) is not None


def leave_need(layout: HistoryLayout, name: str, need: Need) -> None:
    """Ask for a window to be kept until `drop_need`. OSError."""
    write_atomically(layout.needs / f"{name}.json", json.dumps(asdict(need)).encode())


def drop_need(layout: HistoryLayout, name: str) -> None:
    """No longer needed; nothing happens where it was not asked for."""
    (layout.needs / f"{name}.json").unlink(missing_ok=True)


def drop_all_needs(layout: HistoryLayout) -> None:
    """What a recorder that died had asked for: the next one asks anew."""
    for path in layout.list_needs():
        path.unlink(missing_ok=True)


def need_of(start_ns: int, end_ns: int, priority: Priority) -> Need:
    """The need of a clip of this window."""
    return Need(start_ns, end_ns, priority.rank)


def _read(path: Path) -> Need | None:
    """What cannot be read is the recorder's to set aside and count."""
    try:
        if path.parent.name == "needs":
            fields = json.loads(path.read_bytes())
            return Need(int(fields["start_ns"]), int(fields["end_ns"]), int(fields["rank"]))
        waiting = read_firing(path)
        return need_of(waiting.start_ns, waiting.end_ns, waiting.firing.priority)
    except (FiringFileError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _spans(needs: Iterable[Need], before_ns: int) -> list[_Span]:
    """Disjoint, in order. A record may lie up to `LATE_NS` behind its time."""
    spans: list[_Span] = []
    for need in sorted(needs, key=lambda need: need.start_ns):
        start_ns, end_ns = need.start_ns - before_ns, need.end_ns + LATE_NS
        if spans and start_ns <= spans[-1].end_ns:
            last = spans[-1]
            spans[-1] = _Span(last.start_ns, max(last.end_ns, end_ns), min(last.rank, need.rank))
        else:
            spans.append(_Span(start_ns, end_ns, need.rank))
    return spans


def _rank(spans: list[_Span], segment_start_ns: int) -> int | None:
    index = bisect_left(spans, segment_start_ns, key=lambda span: span.end_ns)
    if index == len(spans) or spans[index].start_ns >= segment_start_ns + SEGMENT_NS:
        return None
    return spans[index].rank
