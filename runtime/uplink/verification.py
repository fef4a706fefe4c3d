"""Looking into clips after they are stored: slow work (every frame is decoded) beside the receiver's loop.

Whose turn it is, is the catalogue's to say (`storage.backlog`). A clip comes from a vehicle that may be anybody's by
now, and decoders have had holes: whoever looks at it is a `Verifier`, which may well die of it. One that has died of
the same clip `MAX_ATTEMPTS` times has judged it. What is not the clip's fault (a catalogue, a depot or a verifier's
start that fails, a receiver told to stop) is no attempt: it is counted as trouble, waited for, and tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from runtime.clock import Clock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.beside import BesideThread
from runtime.uplink.storage.rows import StoredClip
from runtime.uplink.store import ClipStore

IDLE_WAIT_S = 0.2
SHARED_IDLE_WAIT_S = 2.0  # many receivers ask one catalogue
TROUBLE_WAIT_S = 5.0
#: A clip whose bytes could not be had is asked for again after this time: it may be this one alone.
TROUBLE_PAUSE_NS = 60 * NANOSECONDS_PER_SECOND
MAX_ATTEMPTS = 2


class VerifierDiedError(RuntimeError):
    """Looking at a clip has ended the verifier, or took more than it may have; the text says which and how much."""


class VerifierTooSlowError(VerifierDiedError):
    """It was not done in the time that a clip of that size gets: too long to check, which is no sign of damage."""


class VerifierStoppedError(RuntimeError):
    """The receiver is to stop: nobody has looked at the clip to its end."""


class Verifier(Protocol):
    """Looks at clips, one at a time, in bounded time and memory. Used by one thread."""

    def problems_of(self, path: Path, stop: threading.Event) -> Sequence[str]:
        """What is wrong with a clip; nothing when it keeps every promise.

        Raises VerifierDiedError, VerifierStoppedError soon after `stop` is set, and OSError when no look could begin
        (FileNotFoundError: there is no such file).
        """

    def rest(self) -> None:
        """There is nothing to verify just now; said again and again."""

    def close(self) -> None:
        """End, for good."""


class VerifierThread:
    """A context in which stored clips are verified one after the other, vehicle by vehicle."""

    def __init__(self, store: ClipStore, clock: Clock, verifier: Verifier | None) -> None:
        self.troubles = 0
        self.last_trouble = ""
        self.deaths = 0
        self._store = store
        self._clock = clock
        self._verifier = verifier
        self._last_vehicle = ""
        self._to_record: Callable[[], None] | None = None  # what came of a clip, until the catalogue has it
        self._beside = BesideThread("verifier", self._run)

    def __enter__(self) -> VerifierThread:
        if self._verifier is not None:
            self._beside.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._beside.end()

    def raise_if_dead(self) -> None:
        """Raise ThreadDeathError when nothing is verified any more."""
        self._beside.raise_if_dead()

    def _run(self, stop: threading.Event) -> None:
        assert self._verifier is not None, "started without one"
        idle_wait_s = SHARED_IDLE_WAIT_S if self._store.catalogue.database.is_shared else IDLE_WAIT_S
        try:
            while not stop.is_set():
                try:
                    if not self.turn(self._verifier, stop):
                        self._verifier.rest()
                        stop.wait(idle_wait_s)
                except OSError as error:
                    self.troubles += 1
                    self.last_trouble = str(error)
                    stop.wait(TROUBLE_WAIT_S)
        finally:
            self._verifier.close()

    def turn(self, verifier: Verifier, stop: threading.Event) -> bool:
        """False when nothing waits. Raises OSError; what had been found by then is recorded the next time."""
        self._record_waiting()
        catalogue = self._store.catalogue
        clip = catalogue.backlog.next(self._store.directory, self._clock.wall_ns(), self._last_vehicle)
        if clip is None:
            return False
        self._last_vehicle = clip.key.vehicle
        # Whatever breaks now, a look that did not take place is not held against the clip; others come first, though.
        later_ns = self._clock.wall_ns() + TROUBLE_PAUSE_NS
        self._to_record = partial(catalogue.backlog.put_back, clip, counts=False, not_before_wall_ns=later_ns)
        problems = self._look(verifier, clip, stop)
        if problems is not None:
            self._to_record = partial(catalogue.backlog.record, clip.key, problems)
        self._record_waiting()
        return True

    def _look(self, verifier: Verifier, clip: StoredClip, stop: threading.Event) -> Sequence[str] | None:
        """What is wrong with it; None when that is not known, and what is to be recorded of the attempt is set."""
        if clip.verify_attempts > MAX_ATTEMPTS:
            return [f"[verifier] {MAX_ATTEMPTS} verifiers began to look at it, and none came back"]
        try:
            with self._store.depot.local_copy(clip.name) as path:
                return verifier.problems_of(path, stop)
        except FileNotFoundError:  # erased while we looked, or lost
            is_there = self._store.catalogue.has_clip(clip.key)
            return [f"its bytes are gone: {clip.name} is not there"] if is_there else None
        except VerifierStoppedError:
            self._to_record = partial(self._store.catalogue.backlog.put_back, clip, counts=False)
            return None
        except VerifierDiedError as error:
            self.deaths += 1
            if clip.verify_attempts >= MAX_ATTEMPTS:
                return [verdict_of_death(error)]
            self._to_record = partial(self._store.catalogue.backlog.put_back, clip, counts=True)
            return None

    def _record_waiting(self) -> None:
        if self._to_record is not None:
            self._to_record()
            self._to_record = None


def verdict_of_death(error: VerifierDiedError) -> str:
    """What is recorded of a clip at the last attempt: nobody has seen its end, for one reason or the other."""
    if isinstance(error, VerifierTooSlowError):
        return f"[unchecked] too long to check, which is no sign of damage: {error}"
    return f"[verifier] the verifier died of it {MAX_ATTEMPTS} times: {error}"
