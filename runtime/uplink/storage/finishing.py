"""From a complete partial to a stored clip: plan the path, put the bytes there, turn the row.

Where that takes long it is done by workers beside the receiver's loop, a bounded number of clips at once; the loop
asks `finished` what became of them. Each step may be cut short, and be done by another receiver too.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.catalogue import Catalogue, ClipKey, PartialRow
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.storage.depot import Depot
from runtime.uplink.storage.distrusted import Distrusted
from runtime.uplink.storage.limits import RefusedError
from runtime.uplink.storage.removal import empty_deletions
from runtime.uplink.troubles import Troubles

WORKERS = 4
MAX_AT_ONCE = 64
#: A complete clip to which nothing came for so long will not be committed by its vehicle any more.
ABANDONED_NS = 3600 * NANOSECONDS_PER_SECOND
#: One that cannot be finished is tried again after this, twice as long each time, and a day at most.
RETRY_FIRST_NS = 1200 * NANOSECONDS_PER_SECOND
RETRY_LONGEST_NS = 86_400 * NANOSECONDS_PER_SECOND


class Finisher:
    """Stores complete partials. `begin` and `finished` belong to the receiver's loop, the rest to any thread."""

    def __init__(self, depot: Depot, catalogue: Catalogue) -> None:
        self.distrusted = Distrusted(catalogue)
        self.troubles = Troubles()  # what is tried again without a vehicle that could be told
        self._depot = depot
        self._catalogue = catalogue
        self._under_way: dict[ClipKey, tuple[PartialRow, Future[bool | None]]] = {}
        self._failed: dict[int, tuple[int, int]] = {}  # abandoned partials: how often, and not before
        self._workers = ThreadPoolExecutor(WORKERS, "finish")  # threads are made when there is work

    def close(self) -> None:
        """Wait for those that have begun; the others go on at their vehicle's next COMMIT."""
        self._workers.shutdown(cancel_futures=True)

    @property
    def is_busy(self) -> bool:
        """True while `finished` has something to tell, now or soon."""
        return bool(self._under_way)

    def is_finishing(self, key: ClipKey) -> bool:
        """True while this clip is under way."""
        return key in self._under_way

    def row_of(self, key: ClipKey) -> PartialRow:
        """A clip that is under way."""
        return self._under_way[key][0]

    def begin(self, row: PartialRow, wall_ns: int) -> None:
        """Store it beside the loop. Raises RefusedError when too many are under way."""
        if len(self._under_way) >= MAX_AT_ONCE:
            raise RefusedError("storage", f"{MAX_AT_ONCE} clips are being stored: later")
        self._under_way[row.key] = (row, self._workers.submit(self.finish, row, wall_ns))

    def finished(self) -> list[tuple[ClipKey, bool | OSError | RefusedError]]:
        """What became of those that are done since: True stored, False wrong hash, or what was in the way."""
        told: list[tuple[ClipKey, bool | OSError | RefusedError]] = []
        for key in [key for key, (_, future) in self._under_way.items() if future.done()]:
            try:
                told.append((key, outcome_of(self._under_way.pop(key)[1].result())))
            except (OSError, RefusedError) as error:
                told.append((key, error))
        return told

    def finish(self, row: PartialRow, wall_ns: int) -> bool | None:
        """Store a complete partial: True; False when its hash is wrong; None when it was removed meanwhile.

        Safe at several receivers at once, in any thread, and again after having been cut short anywhere.
        """
        name = self._catalogue.plan_final_path(row.id, final_name(row, wall_ns))
        if name is None:
            return True if self._catalogue.has(row.key) else None
        segments = self._catalogue.segments(row.id)  # not below: a busy catalogue says nothing of the file
        try:
            is_right = self._depot.finish(row, segments, name)
        except FileNotFoundError:  # another receiver stored it while we read, or its bytes are gone
            if self._catalogue.has(row.key):
                return True
            if not self._depot.is_finished(row, name):
                self._catalogue.drop_partial(row, wall_ns)
                return None
            is_right = True  # they are there already: the catalogue failed between bytes and row
        except OSError:
            if self._depot.is_exclusive:  # a file whose fsync failed cannot be trusted
                self.distrusted.drop(row, wall_ns)
                self.delete_soon(wall_ns)
            raise
        if is_right:
            stored = self._catalogue.store(row, name, wall_ns)
            self.delete_soon(wall_ns)
            return True if stored else None
        if self._catalogue.has(row.key):
            return True
        self._catalogue.drop_partial(row, wall_ns)
        self.delete_soon(wall_ns)
        return False

    def finish_abandoned(self, wall_ns: int) -> int:
        """Store clips that are complete but were never committed: their vehicle may not come back. How many."""
        rows = self._catalogue.untouched_since(wall_ns - ABANDONED_NS)
        complete = [row for row in rows if RangeSet(row.ranges).covers(0, row.size_bytes)]
        self._failed = {row.id: self._failed[row.id] for row in complete if row.id in self._failed}
        return sum(self._finish_abandoned(row, wall_ns) for row in complete)

    def _finish_abandoned(self, row: PartialRow, wall_ns: int) -> bool:
        """One that fails holds up no other, and is let alone for a while. Raises CatalogueError."""
        failures, not_before_ns = self._failed.get(row.id, (0, 0))
        if 0 < not_before_ns - wall_ns <= RETRY_LONGEST_NS:
            return False
        try:
            return self.finish(row, wall_ns) is True
        except CatalogueError:
            raise
        except OSError as error:
            pause_ns = min(RETRY_LONGEST_NS, RETRY_FIRST_NS << min(failures, 16))
            self._failed[row.id] = (failures + 1, wall_ns + pause_ns)
            self.troubles.note(error, wall_ns)
            return False

    def recover(self, wall_ns: int) -> int:
        """Agree with a depot that is ours alone after a crash; how many clips turn out to be stored.

        A file that cannot be read or deleted is trouble of one clip, and keeps nobody from receiving the others.
        """
        self._catalogue.backlog.release_all()
        completed = 0
        for row in self._catalogue.partials():
            try:
                completed += self._recovered(row, wall_ns)
            except CatalogueError:
                raise
            except OSError as error:
                self.troubles.note(error, wall_ns)
        completed += self.finish_abandoned(wall_ns)
        for strays in self._depot.strays(self._catalogue.partials(), 2**63 - 1):
            try:
                self._depot.delete(strays)
            except OSError as error:
                self.troubles.note(error, wall_ns)
        return completed

    def _recovered(self, row: PartialRow, wall_ns: int) -> bool:
        """Agree with a depot that is ours alone about one partial; True when it turns out to be stored."""
        if row.final_path is not None and self._depot.is_finished(row, row.final_path):
            return self._catalogue.store(row, row.final_path, wall_ns)
        if not self._depot.holds(row):
            self._catalogue.drop_partial(row, wall_ns)
        elif row.final_path is not None:
            self._catalogue.plan_final_path(row.id, None)
        return False

    def delete_soon(self, wall_ns: int) -> None:
        """Delete what is left for deletion: at once in a folder, beside the loop (`storage.housekeeping`) elsewhere.

        What cannot be deleted now waits for housekeeping: it changes nothing of what a vehicle is told.
        """
        if not self._depot.is_exclusive:
            return
        try:
            empty_deletions(self._catalogue.database, self._depot, wall_ns)
        except OSError as error:
            self.troubles.note(error, wall_ns)


def outcome_of(stored: bool | None) -> bool:
    """What `finish` came to. Raises RefusedError when the clip was removed meanwhile."""
    if stored is None:
        raise RefusedError("unknown_clip", "it was removed meanwhile: offer it again")
    return stored


def final_name(row: PartialRow, wall_ns: int) -> str:
    """Where a clip's bytes lie in the end. The partial's id makes it a name that no other attempt ever has."""
    day = datetime.fromtimestamp(wall_ns // NANOSECONDS_PER_SECOND, tz=timezone.utc).strftime("%Y-%m-%d")
    return f"clips/{row.key.vehicle}/{day}/{row.key.n:012d}-{row.key.sha256[:16]}-{row.id}.mcap"
