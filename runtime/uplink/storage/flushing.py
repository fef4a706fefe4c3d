"""Chunks become durable together: their bytes first, then their ranges in one commit, then what may be said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from runtime.uplink.catalogue import Catalogue, ClipKey, PartialRow
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.depot import Depot, DepotError
from runtime.uplink.storage.disk_room import DiskRoom
from runtime.uplink.storage.open_partials import OpenPartial, OpenPartials, PartialGoneError
from runtime.uplink.storage.rows import Segment

#: What may be acknowledged now, and which partials were lost on the way to it.
Flushed: TypeAlias = "tuple[list[tuple[ClipKey, RangeSet]], list[tuple[ClipKey, OSError]]]"
#: By the id of a partial: all bytes of it that are durable, and the segments that are new among them.
Durable: TypeAlias = "list[tuple[int, RangeSet, Sequence[Segment]]]"


class Flusher:
    """Used by one thread, the receiver's loop. `drop_row` throws a partial away, and raises OSError if not now."""

    def __init__(
        self,
        depot: Depot,
        catalogue: Catalogue,
        open_partials: OpenPartials,
        room: DiskRoom,
        drop_row: Callable[[PartialRow, int], None],
    ) -> None:
        self._depot = depot
        self._catalogue = catalogue
        self._open = open_partials
        self._room = room
        self._drop_row = drop_row

    def flush(self, wall_ns: int, only: ClipKey | None) -> Flushed:
        """Make what was written durable: of all clips, or of `only` one."""
        waiting = {partial.row.id: partial for partial in self._open.unanswered if only in (None, partial.row.key)}
        if not waiting:
            return [], []
        durable, failures = self._synced(waiting, wall_ns)
        try:
            held = self._catalogue.save_ranges(durable, wall_ns)
        except OSError as error:  # durable, but nobody would know: forget it, it was not acknowledged
            lost = [waiting[ident].row for ident, _, _ in durable]
            for row in lost:
                self._open.forget(row)
            return [], [*failures, *((row.key, error) for row in lost)]
        answers: list[tuple[ClipKey, RangeSet]] = []
        for ident, _, segments in durable:
            partial = waiting[ident]
            outcome = self._outcome(partial, held.get(ident), segments)
            if isinstance(outcome, OSError):
                failures.append((partial.row.key, outcome))
            else:
                answers.append((partial.row.key, outcome))
        return answers, failures

    def _synced(
        self, waiting: Mapping[int, OpenPartial], wall_ns: int
    ) -> tuple[Durable, list[tuple[ClipKey, OSError]]]:
        """Every partial's new bytes in the depot, or what was in the way."""
        durable: Durable = []
        failures: list[tuple[ClipKey, OSError]] = []
        for ident, synced in self._depot.sync([partial.row for partial in waiting.values()]).items():
            if isinstance(synced, OSError):
                failures.append((waiting[ident].row.key, self._drop_failed(waiting[ident], synced, wall_ns)))
            else:
                durable.append((ident, waiting[ident].with_written(), synced))
        return durable, failures

    def _drop_failed(self, partial: OpenPartial, error: OSError, wall_ns: int) -> OSError:
        """After a failed fdatasync nothing in a file can be trusted; a failed PUT harms no earlier segment."""
        self._open.forget(partial.row)
        if self._depot.is_exclusive:
            try:
                self._drop_row(partial.row, wall_ns)
            except OSError as further:
                return DepotError(f"{error}; and what is left of it could not be dropped yet: {further}")
        return error

    def _outcome(self, partial: OpenPartial, held: RangeSet | None, segments: Sequence[Segment]) -> RangeSet | OSError:
        """What to say of a partial whose bytes are durable; without `held` somebody has removed it meanwhile."""
        if held is None:
            self._room.forget(partial.row.id)
            return self._outcome_of_gone(partial.row, segments)
        partial.segment_count += len(segments)
        self._open.answered(partial, held)
        self._room.expect(partial.row.id, partial.row.size_bytes - held.total)
        return held

    def _outcome_of_gone(self, row: PartialRow, segments: Sequence[Segment]) -> RangeSet | OSError:
        self._open.forget(row)
        try:
            if segments:
                self._depot.delete([segment.name for segment in segments])
            if self._catalogue.has(row.key):  # another receiver has stored it: all of it is held
                return RangeSet([(0, row.size_bytes)])
        except OSError as error:
            return error
        return PartialGoneError("it was removed meanwhile: offer it again")
