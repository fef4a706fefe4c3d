"""What the receiver does with clips: takes them in piece by piece, stores them whole, and never says more than is so.

`ClipStore` composes a depot (bytes) and a catalogue (rows); see `runtime.uplink.storage` for what that promises.
`ClipStore(directory, limits)` is the embedded default, a folder and SQLite; `storage.opening` makes the others.
Used by one thread, the receiver's loop. Where finishing a clip takes long (object storage), it happens in workers:
`commit` returns None then, and `finished` tells the outcome later.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.catalogue import Catalogue, ClipKey, PartialRow
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.depot import Depot
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.limits import RefusedError, StoreLimits
from runtime.uplink.storage.removal import empty_deletions
from runtime.uplink.storage.rows import Segment
from runtime.uplink.wire import MAX_RANGES

__all__ = ["ClipStore", "OpenPartial", "RefusedError", "StoreLimits"]

#: Partials that are remembered between messages; the rest is looked up again.
MAX_OPEN = 4096
FINISHERS = 4
MAX_FINISHING = 64
ABANDONED_NS = 3600 * NANOSECONDS_PER_SECOND
FIGURES_PERIOD_NS = 30 * NANOSECONDS_PER_SECOND


class PartialGoneError(OSError):
    """A clip under way was removed by somebody else; `code` goes to the vehicle."""

    code = "unknown_clip"


@dataclass(slots=True)
class OpenPartial:
    """A clip under way in this process: what is durable, and what is only written."""

    row: PartialRow
    durable: RangeSet
    written: RangeSet = field(default_factory=RangeSet)

    def with_written(self) -> RangeSet:
        """Everything that was written, durable or not."""
        return RangeSet([*self.durable, *self.written])


class ClipStore:
    """Partial and stored clips of all vehicles. Used by one thread."""

    def __init__(
        self, directory: Path, limits: StoreLimits, depot: Depot | None = None, catalogue: Catalogue | None = None
    ) -> None:
        self.directory = directory
        self.limits = limits
        self.dirty_bytes = 0
        self.depot: Depot = depot or FolderDepot(directory)
        try:
            self.catalogue = catalogue or Catalogue(directory / "catalogue.sqlite")
        except BaseException:
            self.depot.close()
            raise
        self._open: dict[ClipKey, OpenPartial] = {}
        self._unanswered: set[ClipKey] = set()
        self._finishing: dict[ClipKey, tuple[PartialRow, Future[bool | None]]] = {}
        self._workers = ThreadPoolExecutor(FINISHERS, "finish") if self.depot.finishes_slowly else None
        self._figures: tuple[int, dict[str, int]] | None = None

    def close(self) -> None:
        """Close everything; what was not flushed was not acknowledged and is sent again."""
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)
        self.depot.close()
        self.catalogue.close()

    @property
    def flush_bytes(self) -> int:
        """Chunks are flushed when this much has come."""
        return self.depot.flush_bytes

    @property
    def flush_after_ns(self) -> int:
        """Chunks are flushed when the oldest has waited this long."""
        return self.depot.flush_after_ms * 1_000_000

    @property
    def has_unanswered(self) -> bool:
        """True while chunks wait for `flush`."""
        return bool(self._unanswered)

    @property
    def is_finishing(self) -> bool:
        """True while `finished` has something to tell, now or soon."""
        return bool(self._finishing)

    def figures(self, wall_ns: int) -> dict[str, int]:
        """Counts for the status file; asked of a shared catalogue now and then only, where they cost most."""
        known = self._figures
        if known is None or not self.catalogue.database.is_shared or wall_ns - known[0] >= FIGURES_PERIOD_NS:
            known = self._figures = (wall_ns, self.catalogue.figures())
        return known[1]

    # -- taking in ----------------------------------------------------------------------------------------------

    def is_stored(self, key: ClipKey) -> bool:
        """True when the clip need not come. Of a clip that is open here `flush` finds out."""
        return key not in self._open and self.catalogue.has(key)

    def offer(self, row: PartialRow, wall_ns: int) -> RangeSet | None:
        """Make room for a clip, or go on with one. Ranges held durably; None when it need not come.

        Raises RefusedError, and OSError when bytes or rows cannot be stored now.
        """
        free = self.depot.free_bytes()
        known = self._open.get(row.key) or self.catalogue.partial(row.key)
        if known is None and free is not None and free < row.size_bytes + self.limits.disk_reserve_bytes:
            if self.catalogue.has(row.key):
                return None
            raise RefusedError("receiver_full", "the receiver's disk is full")
        admission = self.catalogue.admit(row, self.limits, wall_ns)
        for gone in admission.gave_way:
            self._forget(gone)
        if admission.gave_way:
            self._delete_soon(wall_ns)
        if admission.partial is None:
            self._forget_key(row.key)
            return None
        if not admission.partial.ranges:
            self._begin(admission.partial, wall_ns)
        return self._take(admission.partial).durable

    def _begin(self, row: PartialRow, wall_ns: int) -> None:
        if self.depot.holds(row) and row.key in self._open:
            return
        try:
            self.depot.begin(row)
        except OSError:
            self._drop_row(row, wall_ns)
            raise

    def write(self, key: ClipKey, offset: int, data: bytes | memoryview) -> None:
        """Write a chunk; it counts only after `flush`. Raises RefusedError, and OSError after dropping the partial."""
        partial = self._opened(key)
        end = offset + len(data)
        if end > partial.row.size_bytes:
            raise RefusedError("malformed", f"chunk ends at {end}, the clip has {partial.row.size_bytes} bytes")
        self._unanswered.add(key)
        if partial.durable.covers(offset, end) or partial.written.covers(offset, end):
            return
        grown = partial.with_written()
        grown.add(offset, end)
        if len(grown) > MAX_RANGES:
            raise RefusedError("too_fragmented", f"more than {MAX_RANGES} ranges: fill the gaps first")
        try:
            self.depot.write(partial.row, offset, data)
        except OSError:
            self.drop(key)
            raise
        partial.written.add(offset, end)
        self.dirty_bytes += len(data)

    def flush(self, wall_ns: int) -> tuple[list[tuple[ClipKey, RangeSet]], list[tuple[ClipKey, OSError]]]:
        """Make everything written durable. What may be acknowledged now, and which partials were lost doing so."""
        waiting = {self._open[key].row.id: self._open[key] for key in self._unanswered}
        self.dirty_bytes = 0
        if not waiting:
            return [], []
        outcome = self.depot.sync([partial.row for partial in waiting.values()])
        failures: list[tuple[ClipKey, OSError]] = []
        durable: list[tuple[int, RangeSet, Sequence[Segment]]] = []
        for ident, synced in outcome.items():
            if isinstance(synced, OSError):
                failures.append((waiting[ident].row.key, synced))
                self._drop_failed(waiting[ident], wall_ns)
            else:
                durable.append((ident, waiting[ident].with_written(), synced))
        try:
            held = self.catalogue.save_ranges(durable, wall_ns)
        except OSError as error:  # durable, but nobody would know: forget it, it was not acknowledged
            lost = [waiting[ident].row for ident, _, _ in durable]
            for row in lost:
                self._forget(row)
            return [], [*failures, *((row.key, error) for row in lost)]
        answers: list[tuple[ClipKey, RangeSet]] = []
        for ident, _, synced in durable:
            partial = waiting[ident]
            if ident in held:
                partial.durable, partial.written = held[ident], RangeSet()
                self._unanswered.discard(partial.row.key)
                answers.append((partial.row.key, held[ident]))
            else:
                self._forget(partial.row)
                self._discard([segment.name for segment in synced])
                if self.catalogue.has(partial.row.key):  # another receiver has stored it: all of it is held
                    answers.append((partial.row.key, RangeSet([(0, partial.row.size_bytes)])))
                else:
                    failures.append((partial.row.key, PartialGoneError("it was removed meanwhile: offer it again")))
        return answers, failures

    def _drop_failed(self, partial: OpenPartial, wall_ns: int) -> None:
        """After a failed fdatasync nothing in a file can be trusted; a failed PUT harms no earlier segment."""
        if self.depot.is_exclusive:
            self._drop_row(partial.row, wall_ns)
        else:
            self._forget(partial.row)

    # -- storing ------------------------------------------------------------------------------------------------

    def missing(self, key: ClipKey) -> RangeSet | None:
        """Durable ranges of a clip that is not complete; None when it is. Raises RefusedError."""
        row = self.catalogue.partial(key)
        if row is None:
            if self.catalogue.has(key):
                return None
            raise RefusedError("unknown_clip", "offer it first")
        held = RangeSet(row.ranges)
        return None if held.covers(0, row.size_bytes) else held

    def commit(self, key: ClipKey, wall_ns: int) -> bool | None:
        """Check and store a clip all of whose bytes are durable.

        False when its hash is wrong; it is dropped then. None when that is under way: `finished` will tell.
        """
        if key in self._finishing:
            return None
        row = self.catalogue.partial(key)
        if row is None:
            if self.catalogue.has(key):
                return True
            raise RefusedError("unknown_clip", "offer it first")
        if self._workers is None:
            stored = self.finish(row, wall_ns)
            self._forget_key(key)
            return outcome_of(stored)
        if len(self._finishing) >= MAX_FINISHING:
            raise RefusedError("storage", f"{MAX_FINISHING} clips are being stored: later")
        self._finishing[key] = (row, self._workers.submit(self.finish, row, wall_ns))
        return None

    def finished(self) -> list[tuple[ClipKey, bool | OSError | RefusedError]]:
        """What became of commits that were under way: as `commit` returns and raises it."""
        told: list[tuple[ClipKey, bool | OSError | RefusedError]] = []
        for key in [key for key, (_, future) in self._finishing.items() if future.done()]:
            try:
                told.append((key, outcome_of(self._finishing.pop(key)[1].result())))
            except (OSError, RefusedError) as error:
                told.append((key, error))
            self._forget_key(key)
        return told

    def finishing_bytes(self, key: ClipKey) -> int:
        """The size of a clip whose commit is under way."""
        return self._finishing[key][0].size_bytes

    def finish(self, row: PartialRow, wall_ns: int) -> bool | None:
        """Store a complete partial: True; False when its hash is wrong; None when it was removed meanwhile.

        Safe at several receivers at once, in any thread, and again after having been cut short anywhere.
        """
        name = self.catalogue.plan_final_path(row.id, final_name(row, wall_ns))
        if name is None:
            return True if self.catalogue.has(row.key) else None
        try:
            is_right = self.depot.finish(row, self.catalogue.segments(row.id), name)
        except FileNotFoundError:  # somebody finished or dropped it while we read
            return True if self.catalogue.has(row.key) else None
        except OSError:
            if self.depot.is_exclusive:  # a file whose fsync failed cannot be trusted
                self.catalogue.drop_partial(row, wall_ns)
                self._delete_soon(wall_ns)
            raise
        if is_right:
            stored = self.catalogue.store(row, name, wall_ns)
            self._delete_soon(wall_ns)
            return True if stored else None
        if self.catalogue.has(row.key):
            return True
        self.catalogue.drop_partial(row, wall_ns)
        self._delete_soon(wall_ns)
        return False

    def drop(self, key: ClipKey, wall_ns: int = 0) -> None:
        """Throw a partial away."""
        row = self.catalogue.partial(key)
        if row is not None:
            self._drop_row(row, wall_ns)
        self._forget_key(key)

    def _drop_row(self, row: PartialRow, wall_ns: int) -> None:
        self._forget(row)
        self.catalogue.drop_partial(row, wall_ns)
        self._delete_soon(wall_ns)

    def entomb(self, vehicle: str, n: int, reason: str, wall_ns: int) -> None:
        """Record that a number will never come, and drop what there is of it."""
        self.catalogue.record_tombstone(vehicle, n, reason, wall_ns)
        for row in self.catalogue.partials(vehicle):
            if row.key.n == n:
                self._drop_row(row, wall_ns)

    # -- start-up and housekeeping --------------------------------------------------------------------------------

    def recover(self, wall_ns: int) -> int:
        """Agree with the depot after a crash; returns how many clips were completed by that.

        Beside other receivers there is nothing to do at a start: whatever was under way goes on with the next message.
        """
        completed = 0
        if self.depot.is_exclusive:
            self.catalogue.release_verifying()
            for row in self.catalogue.partials():
                completed += self._recovered(row, wall_ns)
            completed += self.finish_abandoned(wall_ns)
            self._discard(self.depot.strays(self.catalogue.partials(), (), 2**63 - 1))
        self._delete_soon(wall_ns)
        return completed

    def _recovered(self, row: PartialRow, wall_ns: int) -> bool:
        if row.final_path is not None and self.depot.is_finished(row, row.final_path):
            return self.catalogue.store(row, row.final_path, wall_ns)
        if not self.depot.holds(row):
            self.catalogue.drop_partial(row, wall_ns)
        elif row.final_path is not None:
            self.catalogue.plan_final_path(row.id, None)
        return False

    def finish_abandoned(self, wall_ns: int) -> int:
        """Store clips that are complete but were never committed: their vehicle may not come back. How many."""
        rows = self.catalogue.untouched_since(wall_ns - ABANDONED_NS)
        complete = [row for row in rows if RangeSet(row.ranges).covers(0, row.size_bytes)]
        return sum(self.finish(row, wall_ns) is True for row in complete)

    def _delete_soon(self, wall_ns: int) -> None:
        """Delete what is left for deletion: at once in a folder, beside the loop (`storage.housekeeping`) elsewhere."""
        if not self.depot.finishes_slowly:
            empty_deletions(self.catalogue.database, self.depot, wall_ns)

    def _discard(self, names: Sequence[str]) -> None:
        if names:
            self.depot.delete(names)

    # -- open partials --------------------------------------------------------------------------------------------

    def _opened(self, key: ClipKey) -> OpenPartial:
        """The open partial of a clip. Raises RefusedError when it was never offered, or dropped since."""
        if key in self._open:
            return self._open[key]
        row = self.catalogue.partial(key)
        if row is None or not self.depot.holds(row):
            raise RefusedError("unknown_clip", "offer it first")
        return self._take(row)

    def _take(self, row: PartialRow) -> OpenPartial:
        """Know a partial as the catalogue has it now; bytes of an earlier attempt are forgotten."""
        known = self._open.get(row.key)
        if known is not None and known.row.id == row.id:
            known.durable.update(row.ranges)
            return known
        if known is not None:
            self._forget(known.row)
        idle = [partial.row for key, partial in self._open.items() if key not in self._unanswered]
        for oldest in idle[: max(0, len(self._open) + 1 - MAX_OPEN)]:
            self._forget(oldest)
        self._open[row.key] = OpenPartial(row, RangeSet(row.ranges))
        return self._open[row.key]

    def _forget(self, row: PartialRow) -> None:
        """Keep nothing of this attempt in this process."""
        self.depot.release(row)
        known = self._open.get(row.key)
        if known is not None and known.row.id == row.id:
            del self._open[row.key]
            self._unanswered.discard(row.key)

    def _forget_key(self, key: ClipKey) -> None:
        if key in self._open:
            self._forget(self._open[key].row)


def outcome_of(stored: bool | None) -> bool:
    """What `commit` returns for what `finish` did. Raises RefusedError."""
    if stored is None:
        raise RefusedError("unknown_clip", "it was removed meanwhile: offer it again")
    return stored


def final_name(row: PartialRow, wall_ns: int) -> str:
    """Where a clip's bytes lie in the end. The partial's id makes it a name that no other attempt ever has."""
    day = datetime.fromtimestamp(wall_ns // NANOSECONDS_PER_SECOND, tz=timezone.utc).strftime("%Y-%m-%d")
    return f"clips/{row.key.vehicle}/{day}/{row.key.n:012d}-{row.key.sha256[:16]}-{row.id}.mcap"
