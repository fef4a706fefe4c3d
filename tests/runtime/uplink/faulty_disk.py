"""A disk that fails, and a process that dies, between any two system calls that make something durable.

The calls go through `os`, so this reaches them wherever they are made; SQLite makes its own and is not touched. What
dies is everything but the files: the kernel still has them, as after kill -9.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

CALLS = ("fsync", "fdatasync", "rename", "unlink", "pwrite")
FAILING_CALLS = ("fsync", "fdatasync", "pwrite")


class SimulatedKill(BaseException):
    """The process is gone at this instant: nobody may handle it."""


class FaultyDisk:
    """Patches `os` while it is installed; does harm only inside `troubled`."""

    def __init__(self, rng: random.Random, monkeypatch) -> None:
        self.kills = 0
        self.errors = 0
        self._rng = rng
        self._left: int | None = None
        self._error_probability = 0.0
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    @contextmanager
    def troubled(self, kill_after: int | None = None, error_probability: float = 0.0) -> Iterator[None]:
        """Die before the call number `kill_after`; let writes and syncs fail now and then."""
        self._left, self._error_probability = kill_after, error_probability
        try:
            yield
        finally:
            self._left, self._error_probability = None, 0.0

    def _wrapped(self, name: str, call):
        def wrapped(*arguments, **options):
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    self._left = None
                    self.kills += 1
                    raise SimulatedKill(name)
            if name in FAILING_CALLS and self._error_probability and self._rng.random() < self._error_probability:
                self.errors += 1
                raise OSError(self._rng.choice([errno.EIO, errno.ENOSPC]), "simulated", name)
            return call(*arguments, **options)

        return wrapped
