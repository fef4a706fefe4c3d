"""The runtime's side of campaigns: watches the switch off the tick, and hands the tick rules that are ready to run.

The thread looks at `active.json` a few times a second, and at the dates. When the lineup changes it does all the work
(files hashed, rules compiled, networks and classifiers opened) and leaves one change in a slot; the tick takes it
between two ticks with `take`, which never waits. The next change is prepared only after that, because it builds on
what runs. The thread is not niced: it holds the interpreter at times, and the tick would wait for it the longer.

A model that cannot be used here costs its campaign, and the lineup is composed again without it. Any other lineup that
cannot be prepared is refused as a whole, named in the status and tried again at the next look; what runs goes on.
Should the thread die all the same, the status says so: what runs goes on, and campaigns still end by their terms.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from runtime.campaigns.running import CampaignModel, Lineup, Lineups
from runtime.campaigns.shelf import Shelf
from runtime.clock import Clock
from runtime.formats.documents import DocumentError
from runtime.messages import NANOSECONDS_PER_SECOND

log = logging.getLogger("shadowrig")

Change = TypeVar("Change")
POLL_S = 0.25
#: A look at the dates at least so often, whatever the switch does.
LOOK_AGAIN_S = 30.0
#: Models that one look may refuse: each campaign has at most two versions on the shelf.
MOST_MODELS = 64
#: What a disk that fails and a library that refuses come up as, beside the problems of documents.
PREPARING_ERRORS = (DocumentError, ValueError, MemoryError, OSError, RuntimeError)


class ModelRefusedError(Exception):
    """The bundle that a lineup brings cannot be used here; the text says why."""

    def __init__(self, model: CampaignModel, detail: str) -> None:
        super().__init__(detail)
        self.model = model


@dataclass(frozen=True, slots=True)
class Takeover(Generic[Change]):
    """A change that is ready, and the lineup that it brings."""

    change: Change
    lineup: Lineup


class CampaignWatch(Generic[Change]):
    """One runtime's watch. `prepare` runs on its thread; `take` belongs to the tick."""

    def __init__(
        self,
        shelf: Shelf,
        lineups: Lineups,
        running: Lineup,
        prepare: Callable[[Lineup, Lineup], Change],
        clock: Clock,
    ) -> None:
        self._shelf = shelf
        self._lineups = lineups
        self._prepare = prepare
        self._clock = clock
        self._retired: deque[Callable[[], None]] = deque()
        self._ready: deque[Takeover[Change]] = deque(maxlen=1)
        self._lineup = self._running = running
        self._since_wall_ns = clock.wall_ns()
        self._swaps = 0
        self._problem = ""
        self._seen: tuple[int, int, int] | None = None
        self._next_look_ns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="campaigns", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is ready and was not taken is dropped: the next start composes anew."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(5.0)

    # The tick

    def take(self) -> Takeover[Change] | None:
        """What is ready, once. Never waits."""
        return self._ready.popleft() if self._ready else None

    def taken(self, takeover: Takeover[Change], retire: Callable[[], None] | None = None) -> None:
        """It runs from this tick on. `retire` lets go of what it replaced, which the tick has no time for."""
        if retire is not None:
            self._retired.append(retire)
        self._running = takeover.lineup
        self._since_wall_ns = self._clock.wall_ns()
        self._swaps += 1

    # The thread

    def _watch(self) -> None:
        try:
            while not self._stop.wait(POLL_S):
                self.look()
        except BaseException as error:  # told and not raised: the tick must go on, and nobody else can handle it
            self._problem = f"the watch has died, restart the runtime: {error!r}"[:600]
            log.exception("the thread that watches campaigns has died")

    def look(self) -> None:
        """Look once, and prepare what has changed; nothing while the tick has not taken the last change."""
        while self._retired:
            self._retired.popleft()()
        if self._ready or self._lineup is not self._running or not self._is_due():
            return
        for _ in range(MOST_MODELS):
            try:
                self._prepare_next()
                return
            except ModelRefusedError as error:
                self._lineups.refuse_model(error.model, str(error))

    def _prepare_next(self) -> None:
        now_ns = self._clock.now_ns()
        longest_ns = round(LOOK_AGAIN_S * NANOSECONDS_PER_SECOND)
        self._next_look_ns = now_ns + longest_ns
        try:
            lineup = self._lineups.compose(self._clock.wall_ns(), now_ns)
        except PREPARING_ERRORS as error:
            self._problem = f"campaigns cannot be read: {type(error).__name__}: {error}"[:600]
            return
        self._next_look_ns = now_ns + min(lineup.changes_in_ns or longest_ns, longest_ns)
        if lineup.key == self._running.key:
            self._lineup = self._running = lineup  # other reasons or dates, the same rules
            self._problem = ""
            return
        try:
            change = self._prepare(lineup, self._running)
        except PREPARING_ERRORS as error:
            self._problem = f"{', '.join(lineup.campaigns)}: {type(error).__name__}: {error}"[:600]
            return
        self._problem = ""
        self._lineup = lineup
        self._ready.append(Takeover(change, lineup))

    def _is_due(self) -> bool:
        seen, self._seen = self._seen, _stamp(self._shelf.active_path)
        return seen != self._seen or self._clock.now_ns() >= self._next_look_ns

    # To look at

    @property
    def facts(self) -> Mapping[str, Any]:
        """For the runtime's status, and by the uploader for the fleet."""
        running = self._running
        return {
            "running": list(running.campaigns),
            "since_wall_ns": self._since_wall_ns,
            "swaps": self._swaps,
            "rules_sha256": running.rules.fingerprint,
            "refused": {label: {"reason": why[0], "detail": why[1]} for label, why in running.refused.items()},
            "waiting": dict(running.waiting),
            "problem": self._problem,
        }


def _stamp(path: os.PathLike[str]) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced; None while there is none or it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
