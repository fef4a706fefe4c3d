"""What a receiver does now and then beside its loop: delete what is left, let clips expire, find strays.

Any number of receivers may do it at once: every step is a transaction that finds its work done, or does it. Each step
stands alone: one that fails, because a catalogue or depot does not answer or a single clip cannot be finished, is
trouble, counted, logged and published, keeps no other step from its work, and is tried again the next time. What was
erased goes first.

A receiver with a folder looks here, before anything else, whether it still has its catalogue to itself
(`Database.raise_if_not_alone`). When it has not, nothing more is done, and the loop is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from runtime.clock import Clock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.beside import BesideThread
from runtime.uplink.storage.database import NotAloneError
from runtime.uplink.storage.removal import RetentionPolicy, empty_deletions, expire
from runtime.uplink.storage.retention_clock import RetentionClock
from runtime.uplink.store import ClipStore
from runtime.uplink.troubles import Troubles

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
        self.troubles = Troubles()
        self._store = store
        self._policy = policy
        self._clock = clock
        self._retention_clock = RetentionClock(store.catalogue.database)
        self._tidy_at_wall_ns = 0
        self._not_alone: NotAloneError | None = None
        self._beside = BesideThread("housekeeping", self._run)

    def __enter__(self) -> HousekeepingThread:
        self._beside.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._beside.end()  # one step at most

    def raise_if_dead(self) -> None:
        """Raise NotAloneError when the receiver has to start over, ThreadDeathError when nothing is tidied any more."""
        if self._not_alone is not None:
            raise self._not_alone
        self._beside.raise_if_dead()

    @property
    def figures(self) -> dict[str, Any]:
        """For the status file. `troubles` are its own and those of clips that no vehicle asks for any more."""
        sources = (self.troubles, self._store.finisher.troubles)
        counts = {name: getattr(self, name) for name in ("deleted", "expired", "strays")}
        last = next((source.last for source in sources if source.last), "")
        return {**counts, "troubles": sum(source.count for source in sources), "last_trouble": last}

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set() and self._not_alone is None:
            self.turn(self._clock.wall_ns(), stop)
            stop.wait(DELETE_PERIOD_S)

    def turn(self, wall_ns: int, stop: threading.Event | None = None) -> None:
        """Do what is due. What fails is trouble, and due again."""
        self._try(self._look_whether_alone, wall_ns)
        if self._not_alone is not None:
            return
        self._try(lambda: self._empty_deletions(wall_ns, stop), wall_ns)
        if 0 <= self._tidy_at_wall_ns - wall_ns < TIDY_PERIOD_NS:
            return
        self._tidy_at_wall_ns = wall_ns + TIDY_PERIOD_NS - 1
        steps: list[Callable[[], None]] = [lambda: self._expire(wall_ns)]
        if not self._store.depot.is_exclusive:  # a receiver alone does both when it starts
            steps += [lambda: self._finish_abandoned(wall_ns), lambda: self._delete_strays(wall_ns)]
        for step in steps:
            if not (stop and stop.is_set()):
                self._try(step, wall_ns)
        self._try(lambda: self._empty_deletions(wall_ns, stop), wall_ns)

    def _try(self, step: Callable[[], None], wall_ns: int) -> None:
        try:
            step()
        except OSError as error:
            self.troubles.note(error, wall_ns)

    def _look_whether_alone(self) -> None:
        try:
            self._store.catalogue.database.raise_if_not_alone()
        except NotAloneError as error:
            self._not_alone = error

    def _empty_deletions(self, wall_ns: int, stop: threading.Event | None) -> None:
        database, depot = self._store.catalogue.database, self._store.depot
        while (count := empty_deletions(database, depot, wall_ns)) and not (stop and stop.is_set()):
            self.deleted += count

    def _expire(self, wall_ns: int) -> None:
        self._retention_clock.check(wall_ns)
        self.expired += expire(self._store.catalogue.database, self._policy, WHO, wall_ns)

    def _finish_abandoned(self, wall_ns: int) -> None:
        self._store.finisher.finish_abandoned(wall_ns)

    def _delete_strays(self, wall_ns: int) -> None:
        for found in self._store.depot.strays((), wall_ns - STRAY_AGE_NS):
            # Asked after the listing: a segment that is listed and wanted has its row by now, or is too young.
            wanted = self._store.catalogue.wanted_segments(found)
            strays = [name for name in found if name not in wanted]
            if strays:
                self._store.depot.delete(strays)
                self.strays += len(strays)
