"""What one receiver remembers of clips under way: which bytes are durable, and which are only written.

None of it is needed: a receiver that is asked about a clip it does not remember looks it up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.depot import Depot
from runtime.uplink.storage.limits import RefusedError, smallest_alone_bytes
from runtime.uplink.storage.rows import ClipKey, PartialRow
from runtime.uplink.wire import MAX_RANGES

#: Those that wait for an answer always stay; there are as many as fit into `flush_bytes`.
MAX_OPEN = 4096


class PartialGoneError(OSError):
    """A clip under way was removed by somebody else; `code` goes to the vehicle."""

    code = "unknown_clip"


@dataclass(slots=True)
class OpenPartial:
    """A clip under way in this process: what is durable, and what is only written."""

    row: PartialRow
    durable: RangeSet
    written: RangeSet = field(default_factory=RangeSet)
    segment_count: int = 0

    def with_written(self) -> RangeSet:
        """Everything that was written, durable or not."""
        return RangeSet([*self.durable, *self.written])

    def check_place(self, offset: int, end: int, makes_objects: bool) -> None:
        """Whether bytes may come there next. Raises RefusedError: too many holes, or a crumb that touches nothing.

        An honest vehicle's small chunk ends a range or goes on where the one before it ended.
        """
        grown = self.with_written()
        before = len(grown)
        grown.add(offset, end)
        if len(grown) > MAX_RANGES:
            raise RefusedError("too_fragmented", f"more than {MAX_RANGES} ranges: fill the gaps first")
        is_alone = len(grown) > before and offset > 0 and end < self.row.size_bytes
        if makes_objects and is_alone and end - offset < smallest_alone_bytes(self.row.size_bytes):
            raise RefusedError("too_fragmented", f"{end - offset} bytes that touch nothing: send larger chunks")


class OpenPartials:
    """Open partials by their clip. Used by one thread."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self._open: dict[ClipKey, OpenPartial] = {}
        self._unanswered: dict[ClipKey, None] = {}  # in the order in which their chunks came

    def __contains__(self, key: ClipKey) -> bool:
        return key in self._open

    def get(self, key: ClipKey) -> OpenPartial | None:
        """What is remembered."""
        return self._open.get(key)

    @property
    def unanswered(self) -> list[OpenPartial]:
        """Those with chunks that were not acknowledged yet."""
        return [self._open[key] for key in self._unanswered]

    @property
    def has_unanswered(self) -> bool:
        """True when there is one."""
        return bool(self._unanswered)

    def must_answer(self, partial: OpenPartial) -> None:
        """A chunk came."""
        self._unanswered.setdefault(partial.row.key)

    def answered(self, partial: OpenPartial, held: RangeSet) -> None:
        """Everything that was written is durable, and acknowledged."""
        partial.durable, partial.written = held, RangeSet()
        self._unanswered.pop(partial.row.key, None)

    def take(self, row: PartialRow) -> OpenPartial:
        """Know a partial as the catalogue has it now; bytes of an earlier attempt are forgotten."""
        known = self._open.get(row.key)
        if known is not None and known.row.id == row.id:
            known.durable.update(row.ranges)
            known.segment_count = max(known.segment_count, row.segment_count)
            return known
        if known is not None:
            self.forget(known.row)
        idle = [partial.row for key, partial in self._open.items() if key not in self._unanswered]
        for oldest in idle[: max(0, len(self._open) + 1 - MAX_OPEN)]:
            self.forget(oldest)
        self._open[row.key] = OpenPartial(row, RangeSet(row.ranges), segment_count=row.segment_count)
        return self._open[row.key]

    def forget(self, row: PartialRow) -> None:
        """Keep nothing of this attempt in this process."""
        self._depot.release(row)
        known = self._open.get(row.key)
        if known is not None and known.row.id == row.id:
            del self._open[row.key]
            self._unanswered.pop(row.key, None)

    def forget_key(self, key: ClipKey) -> None:
        """Keep nothing of this clip."""
        if key in self._open:
            self.forget(self._open[key].row)
