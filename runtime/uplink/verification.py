"""Looking into clips after they are stored: slow work (every frame is decoded) beside the receiver's loop.

The backlog is the catalogue itself (`verified IS NULL`), so it is neither lost by a crash nor held in memory. A
verifier that raises has found a bad clip: its error is the clip's problem.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.uplink.catalogue import Catalogue, StoredClip

#: Takes a clip's path, returns what is wrong with it, nothing when it keeps every promise.
Verify = Callable[[Path], Sequence[str]]

IDLE_WAIT_S = 0.2
MAX_PROBLEM_LENGTH = 2000


class VerifierThread:
    """A context in which stored clips are verified one after the other, oldest first."""

    def __init__(self, catalogue: Catalogue, directory: Path, verify: Verify | None) -> None:
        self._catalogue = catalogue
        self._directory = directory
        self._verify = verify
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="verifier", daemon=True)

    def __enter__(self) -> VerifierThread:
        if self._verify is not None:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()  # one clip at most

    def _run(self) -> None:
        while not self._stop.is_set():
            clip = self._catalogue.next_unverified(self._directory)
            if clip is None:
                self._stop.wait(IDLE_WAIT_S)
            else:
                self._catalogue.record_verification(clip.key, self._problems_of(clip))

    def _problems_of(self, clip: StoredClip) -> Sequence[str]:
        if self._verify is None:
            return ()
        try:
            problems = self._verify(clip.path)
        except Exception as error:  # whatever a hostile file provokes is that file's problem
            problems = [f"{type(error).__name__}: {error}"]
        return [problem[:MAX_PROBLEM_LENGTH] for problem in problems]
