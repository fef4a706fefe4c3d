"""What may go wrong between a vehicle and a receiver, drawn from one seed: messages that are lost, repeated, reordered,
damaged, invented, or come late, after any number of new connections; and the receiver's work beside its loop, which is
done in a drawn order at drawn moments, in the one thread that there is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext

from faulty_disk import FaultyDisk

MAX_LATE = 40

Frames = list[bytes]


class Fate:
    """Draws what happens. Without a disk that fails, or once all is calm, nothing does."""

    def __init__(self, rng: random.Random, disk: FaultyDisk | None) -> None:
        self.rng = rng
        self.disk = disk
        self.is_calm = disk is None

    def chance(self, probability: float) -> bool:
        return not self.is_calm and self.rng.random() < probability

    def trouble(self, is_receiver: bool = True) -> AbstractContextManager[None]:
        """The disk and the database fail now and then, and now and then the process is killed between two calls."""
        if self.disk is None or self.is_calm:
            return nullcontext()
        kill_after = self.rng.randint(0, 16) if self.chance(0.03) else None
        return self.disk.troubled(kill_after, 0.01 if is_receiver else 0.0)


class Network:
    """One direction of one vehicle's link: what was sent and has not arrived."""

    def __init__(self, fate: Fate, invents: bool) -> None:
        self.queue: list[Frames] = []
        self.late: list[Frames] = []
        self.came_late = 0
        self._fate = fate
        self._invents = invents

    def reset(self) -> None:
        """A new connection: what was under way is lost, or comes late."""
        for frames in self.queue:
            self._hold_up(frames, 0.5)
        self.queue.clear()

    def deliver_late(self) -> None:
        """Everything that was held up comes now."""
        self.came_late += len(self.late)
        self.queue += self.late
        self.late = []

    def arrived(self) -> list[Frames]:
        """What comes out at the other end now."""
        chance, rng = self._fate.chance, self._fate.rng
        arrived: list[Frames] = []
        for frames in self.queue:
            self._hold_up(frames, 0.05)
            if not chance(0.05):
                arrived += [self._maybe_damaged(frames)] * (2 if chance(0.1) else 1)
        self.queue.clear()
        if chance(0.2):
            rng.shuffle(arrived)
        if self.late and chance(0.1):
            self.came_late += 1
            arrived.insert(rng.randint(0, len(arrived)), self.late.pop(rng.randrange(len(self.late))))
        if self._invents and chance(0.02):
            arrived.append([rng.randbytes(rng.randint(0, 60)) for _ in range(rng.randint(1, 3))])
        return arrived

    def _hold_up(self, frames: Frames, probability: float) -> None:
        """It comes (once more), but after any time, connections and restarts."""
        if self._fate.chance(probability):
            if len(self.late) >= MAX_LATE:
                self.late.pop(self._fate.rng.randrange(MAX_LATE))
            self.late.append(frames)

    def _maybe_damaged(self, frames: Frames) -> Frames:
        """Bytes of a payload flipped or cut off: neither gets past CURVE, both must be harmless without it.

        A flipped byte of metadata may be another fact about the clip, which nobody could tell: those are cut off.
        """
        rng = self._fate.rng
        header, payload = frames
        if not payload or not self._fate.chance(0.03):
            return frames
        if payload.startswith(b"{") or self._fate.chance(0.5):
            return [header, payload[: rng.randrange(len(payload))]]
        damaged = bytearray(payload)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        return [header, bytes(damaged)]


class Workers:
    """An executor that works when it is told to."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Future, Callable[[], object]]] = []

    def submit(self, call: Callable[..., object], *arguments: object) -> Future:
        future: Future = Future()
        self._waiting.append((future, lambda: call(*arguments)))
        return future

    def work(self, fate: Fate) -> int:
        """Do some of what waits, in any order; everything when all is calm. How much that was."""
        done = 0
        while self._waiting and (fate.is_calm or fate.chance(0.5)):
            future, call = self._waiting.pop(fate.rng.randrange(len(self._waiting)))
            done += 1
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)
        return done

    def shutdown(self, cancel_futures: bool = False) -> None:
        self._waiting.clear()
