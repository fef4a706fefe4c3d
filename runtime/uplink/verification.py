"""Looking into clips after they are stored: slow work (every frame is decoded) beside the receiver's loop.

The backlog is the catalogue itself (`verified IS NULL`), so it is neither lost by a crash nor held in memory, and
several receivers share it: each clip is one verifier's for a time. A verifier that raises has found a bad clip: its
error is the clip's problem. A catalogue or a depot that does not answer is waited for, and counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.clock import Clock
from runtime.uplink.beside import BesideThread
from runtime.uplink.store import ClipStore

#: Takes a clip's path, returns what is wrong with it, nothing when it keeps every promise.
Verify = Callable[[Path], Sequence[str]]

IDLE_WAIT_S = 0.2
SHARED_IDLE_WAIT_S = 2.0  # many receivers ask one catalogue
TROUBLE_WAIT_S = 5.0
MAX_PROBLEM_LENGTH = 2000


class VerifierThread:
    """A context in which stored clips are verified one after the other, oldest first."""

    def __init__(self, store: ClipStore, clock: Clock, verify: Verify | None) -> None:
        self.troubles = 0
        self.last_trouble = ""
        self._store = store
        self._clock = clock
        self._verify = verify
        self._beside = BesideThread("verifier", self._run)

    def __enter__(self) -> VerifierThread:
        if self._verify is not None:
            self._beside.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._beside.end()  # one clip at most

    def raise_if_dead(self) -> None:
        """Raise ThreadDeathError when nothing is verified any more."""
        self._beside.raise_if_dead()

    def _run(self, stop: threading.Event) -> None:
        idle_wait_s = SHARED_IDLE_WAIT_S if self._store.catalogue.database.is_shared else IDLE_WAIT_S
        while not stop.is_set():
            try:
                if not self._verify_next():
                    stop.wait(idle_wait_s)
            except OSError as error:
                self.troubles += 1
                self.last_trouble = str(error)
                stop.wait(TROUBLE_WAIT_S)

    def _verify_next(self) -> bool:
        catalogue = self._store.catalogue
        clip = catalogue.next_unverified(self._store.directory, self._clock.wall_ns())
        if clip is None:
            return False
        try:
            with self._store.depot.local_copy(clip.name) as path:
                problems = self._problems_of(path)
        except FileNotFoundError:
            if not catalogue.has_clip(clip.key):  # erased while we looked
                return True
            problems = [f"its bytes are gone: {clip.name} is not there"]
        catalogue.record_verification(clip.key, problems)
        return True

    def _problems_of(self, path: Path) -> Sequence[str]:
        if self._verify is None:
            return ()
        try:
            problems = self._verify(path)
        except Exception as error:  # whatever a hostile file provokes is that file's problem
            problems = [f"{type(error).__name__}: {error}"]
        return [problem[:MAX_PROBLEM_LENGTH] for problem in problems]
