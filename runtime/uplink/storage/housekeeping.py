"""What a receiver does now and then beside its loop: delete what is left, let clips expire, find strays.

Any number of receivers may do it at once: every step is a transaction that finds its work done, or does it. A
catalogue or depot that does not answer is trouble, counted and published, and tried again the next time.
"""

from __future__ import annotations

import threading
from typing import Any

from runtime.clock import Clock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.beside import BesideThread
from runtime.uplink.storage.removal import RetentionPolicy, empty_deletions, expire
from runtime.uplink.store import ClipStore

DELETE_PERIOD_S = 2.0
TIDY_PERIOD_NS = 600 * NANOSECONDS_PER_SECOND
#: Bytes without a row are taken for a dead receiver's when they are this old: no upload lasts so long.
STRAY_AGE_NS = 24 * 3600 * NANOSECONDS_PER_SECOND
WHO = "receiver: retention"


class HousekeepingThread:
    """A context in which a store is kept tidy."""

    def __init__(self, store: ClipStore, policy: RetentionPolicy, clock: Clock) -> None:
        self.deleted = 0
        self.expired = 0
        self.strays = 0
        self.troubles = 0
        self.last_trouble = ""
        self._store = store
        self._policy = policy
        self._clock = clock
        self._tidy_at_wall_ns = 0
        self._beside = BesideThread("housekeeping", self._run)

    def __enter__(self) -> HousekeepingThread:
        self._beside.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._beside.end()  # one step at most

    def raise_if_dead(self) -> None:
        """Raise ThreadDeathError when nothing is tidied any more."""
        self._beside.raise_if_dead()

    @property
    def figures(self) -> dict[str, Any]:
        """For the status file."""
        names = ("deleted", "expired", "strays", "troubles", "last_trouble")
        return {name: getattr(self, name) for name in names}

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.turn(self._clock.wall_ns(), stop)
            except OSError as error:
                self.troubles += 1
                self.last_trouble = str(error)
            stop.wait(DELETE_PERIOD_S)

    def turn(self, wall_ns: int, stop: threading.Event | None = None) -> None:
        """Do what is due. Raises OSError; what was not done is due again."""
        database, depot = self._store.catalogue.database, self._store.depot
        if not 0 <= self._tidy_at_wall_ns - wall_ns < TIDY_PERIOD_NS:
            self.expired += expire(database, self._policy, WHO, wall_ns)
            if not depot.is_exclusive:  # a receiver alone does both when it starts
                self._store.finisher.finish_abandoned(wall_ns)
                self.strays += self._delete_strays(wall_ns)
            self._tidy_at_wall_ns = wall_ns + TIDY_PERIOD_NS - 1
        while (count := empty_deletions(database, depot, wall_ns)) and not (stop and stop.is_set()):
            self.deleted += count

    def _delete_strays(self, wall_ns: int) -> int:
        found = self._store.depot.strays((), (), wall_ns - STRAY_AGE_NS)
        if not found:
            return 0
        # Asked after the listing: a segment that is listed and wanted has its row by now, or is too young.
        wanted = self._store.catalogue.segment_names()
        strays = [name for name in found if name not in wanted]
        self._store.depot.delete(strays)
        return len(strays)
