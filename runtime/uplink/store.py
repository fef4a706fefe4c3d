"""What the receiver does with clips: takes them in piece by piece, stores them whole, and never says more than is so.

`ClipStore` composes a depot (bytes) and a catalogue (rows); see `runtime.uplink.storage` for what that promises.
`ClipStore(directory, limits)` is the embedded default, a folder and SQLite; `storage.opening` makes the others.
Used by one thread, the receiver's loop. Where finishing a clip takes long (object storage, or hashing a large file), it
happens in workers: `commit` returns None then, and `finished` tells the outcome later.
"""

from __future__ import annotations

from pathlib import Path

from runtime.uplink.catalogue import Catalogue, ClipKey, PartialRow
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.belonging import agree
from runtime.uplink.storage.depot import Depot
from runtime.uplink.storage.disk_room import DiskRoom
from runtime.uplink.storage.figures import Figures
from runtime.uplink.storage.finishing import Finisher, outcome_of
from runtime.uplink.storage.flushing import Flushed, Flusher
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.limits import RefusedError, StoreLimits, most_segments
from runtime.uplink.storage.open_partials import OpenPartial, OpenPartials, PartialGoneError

__all__ = ["ClipStore", "PartialGoneError", "RefusedError", "StoreLimits"]


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
            self.catalogue = catalogue or Catalogue(directory / "catalogue.sqlite", upgrades=True)
        except BaseException:
            self.depot.close()
            raise
        self._open = OpenPartials(self.depot)
        self.finisher = Finisher(self.depot, self.catalogue)
        self._room = DiskRoom(self.depot, self.catalogue, limits)
        self._flusher = Flusher(self.depot, self.catalogue, self._open, self._room, self._drop_row)
        self._figures = Figures(self.catalogue.database)

    def close(self) -> None:
        """Close everything; what was not flushed was not acknowledged and is sent again."""
        self.finisher.close()
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
        return self._open.has_unanswered

    @property
    def is_finishing(self) -> bool:
        """True while `finished` has something to tell, now or soon."""
        return self.finisher.is_busy

    def figures(self, wall_ns: int) -> dict[str, int]:
        """Counts for the status file; asked for again and again beside the messages. Raises CatalogueError."""
        self._room.refresh(wall_ns)
        return self._figures.at(wall_ns)

    # -- taking in ----------------------------------------------------------------------------------------------

    def is_stored(self, key: ClipKey) -> bool:
        """True when the clip need not come. Of a clip that is open here `flush` finds out."""
        return key not in self._open and self.catalogue.has(key)

    def offer(self, row: PartialRow, wall_ns: int) -> RangeSet | None:
        """Make room for a clip, or go on with one. Ranges held durably; None when it need not come.

        Raises RefusedError, and OSError when bytes or rows cannot be stored now.
        """
        self.finisher.distrusted.drop_waiting(wall_ns)
        known = self._open.get(row.key) or self.catalogue.partial(row.key)
        if known is None and not self._room.has_room_for_clip(row.size_bytes, wall_ns):
            if self.catalogue.has(row.key):
                return None
            raise RefusedError("receiver_full", "the receiver's disk is full")
        admission = self.catalogue.admit(row, self.limits, wall_ns)
        for gone in admission.gave_way:
            self._open.forget(gone)
            self._room.forget(gone.id)
        if admission.gave_way:
            self.finisher.delete_soon(wall_ns)
        if admission.partial is None:
            self._open.forget_key(row.key)
            return None
        if not admission.partial.ranges:
            self._begin(admission.partial, wall_ns)
        elif admission.partial.final_path is None and not self.depot.holds(admission.partial):
            # Its file is gone, and finishing has not moved it: all of it has to come again.
            self._drop_row(admission.partial, wall_ns)
            return self.offer(row, wall_ns)
        return self._open.take(admission.partial).durable

    def _begin(self, row: PartialRow, wall_ns: int) -> None:
        if self.depot.holds(row) and row.key in self._open:
            return
        try:
            self.depot.begin(row)
        except OSError:
            self._drop_row(row, wall_ns)
            raise
        self._room.expect(row.id, row.size_bytes)

    def write(self, key: ClipKey, offset: int, data: bytes | memoryview, wall_ns: int) -> int:
        """Write what is new of a chunk; it counts only after `flush`. How many bytes that was.

        What is here already is not written again: in a bucket it would be kept twice, beyond what the clip is charged.
        Raises RefusedError, and OSError after dropping the partial.
        """
        partial = self._opened(key)
        end = offset + len(data)
        if end > partial.row.size_bytes:
            raise RefusedError("malformed", f"chunk ends at {end}, the clip has {partial.row.size_bytes} bytes")
        if partial.segment_count >= most_segments(partial.row.size_bytes):
            self.drop(key, wall_ns)
            raise RefusedError("too_fragmented", f"{partial.segment_count} pieces: begin again, with larger chunks")
        new = partial.with_written().missing_of(offset, end)
        if not new:
            self._open.must_answer(partial)
            return 0
        new_bytes = sum(stop - start for start, stop in new)
        if not self._room.has_room_now(new_bytes):  # others were let in as well
            raise RefusedError("receiver_full", "the receiver's disk is full")
        self._open.must_answer(partial)
        partial.check_place(offset, end, makes_objects=not self.depot.is_exclusive)
        try:
            for start, stop in new:
                self.depot.write(partial.row, start, memoryview(data)[start - offset : stop - offset])
        except OSError:
            self.drop(key, wall_ns)
            raise
        partial.written.update(new)
        self.dirty_bytes += new_bytes
        return new_bytes

    def flush(self, wall_ns: int, only: ClipKey | None = None) -> Flushed:
        """Make what was written durable (of `only` one clip): what may be acknowledged, which partials were lost."""
        flushed = self._flusher.flush(wall_ns, only)
        self.dirty_bytes = sum(partial.written.total for partial in self._open.unanswered)
        return flushed

    # -- storing ------------------------------------------------------------------------------------------------

    def missing(self, key: ClipKey) -> RangeSet | None:
        """Durable ranges of a clip that is not complete; None when it is. Raises RefusedError."""
        row = self._row(key)
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
        if self.finisher.is_finishing(key):
            return None
        row = self._row(key)
        if row is None:
            if self.catalogue.has(key):
                return True
            raise RefusedError("unknown_clip", "offer it first")
        self._room.forget(row.id)  # complete: it is stored now, or dropped
        if row.size_bytes >= self.depot.slow_from_bytes:
            self.depot.release(row)  # its open file is this thread's
            self.finisher.begin(row, wall_ns)
            return None
        stored = self.finisher.finish(row, wall_ns)
        self._open.forget_key(key)
        return outcome_of(stored)

    def finished(self) -> list[tuple[ClipKey, bool | OSError | RefusedError]]:
        """What became of commits that were under way: as `commit` returns and raises it."""
        told = self.finisher.finished()
        for key, _ in told:
            self._open.forget_key(key)
        return told

    def finishing_bytes(self, key: ClipKey) -> int:
        """The size of a clip whose commit is under way."""
        return self.finisher.row_of(key).size_bytes

    def drop(self, key: ClipKey, wall_ns: int) -> None:
        """Throw a partial away."""
        known = self._open.get(key)
        self._open.forget_key(key)
        row = known.row if known is not None else self.catalogue.partial(key)
        if row is not None:
            self._drop_row(row, wall_ns)

    def _drop_row(self, row: PartialRow, wall_ns: int) -> None:
        self._open.forget(row)
        self._room.forget(row.id)
        self.finisher.distrusted.drop(row, wall_ns)
        self.finisher.delete_soon(wall_ns)

    def entomb(self, vehicle: str, n: int, reason: str, wall_ns: int) -> None:
        """Record that a number will never come, and drop what there is of it."""
        self.catalogue.record_tombstone(vehicle, n, reason, self.limits, wall_ns)
        for row in self.catalogue.partials(vehicle):
            if row.key.n == n:
                self._drop_row(row, wall_ns)

    # -- start-up and housekeeping --------------------------------------------------------------------------------

    def recover(self, wall_ns: int) -> int:
        """Agree with the depot after a crash; returns how many clips were completed by that.

        Beside other receivers there is nothing to do at a start: whatever was under way goes on with the next message.
        """
        agree(self.catalogue.database, self.depot)
        completed = self.finisher.recover(wall_ns) if self.depot.is_exclusive else 0
        self.finisher.delete_soon(wall_ns)
        self._room.refresh(wall_ns)
        return completed

    def _opened(self, key: ClipKey) -> OpenPartial:
        """The open partial of a clip. Raises RefusedError when it was never offered, or dropped since."""
        known = self._open.get(key)
        if known is not None:
            return known
        row = self._row(key)
        if row is None or not self.depot.holds(row):
            raise RefusedError("unknown_clip", "offer it first")
        return self._open.take(row)

    def _row(self, key: ClipKey) -> PartialRow | None:
        """What the catalogue knows of a clip under way, unless its bytes are not to be trusted."""
        row = self.catalogue.partial(key)
        return None if row is None or row.id in self.finisher.distrusted else row
