"""A disk and a database that fail, and a process that dies, between any two steps that make something durable.

The disk's calls go through `os`, so this reaches them wherever they are made; SQLite makes its own, so its
transactions fail as a whole, before they begin or as they commit (`Database.writing`). What dies is everything but the
files: the kernel still has them, as after kill -9.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.uplink.storage.database import Database

CALLS = ("fsync", "fdatasync", "rename", "unlink", "pwrite")
FAILING_CALLS = ("fsync", "fdatasync", "pwrite", "unlink")


class SimulatedKill(BaseException):
    """The process is gone at this instant: nobody may handle it."""


class FaultyDisk:
    """Patches `os` and `Database` while it is installed; does harm only inside `troubled`."""

    def __init__(self, rng: random.Random, monkeypatch) -> None:
        self.kills = 0
        self.errors = 0
        self.database_errors = 0
        self.errors_at_rename: dict[str, int] = {}
        self._rng = rng
        self._left: int | None = None
        self._error_probability = 0.0
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        monkeypatch.setattr(Database, "writing", self._wrapped_writing(Database.writing))

    @contextmanager
    def troubled(self, kill_after: int | None = None, error_probability: float = 0.0) -> Iterator[None]:
        """Die before the call number `kill_after`; let writes, syncs and transactions fail now and then."""
        self._left, self._error_probability = kill_after, error_probability
        try:
            yield
        finally:
            self._left, self._error_probability = None, 0.0

    def _maybe_killed(self, name: str) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self._left = None
                self.kills += 1
                raise SimulatedKill(name)

    def _fails(self) -> bool:
        return self._error_probability > 0 and self._rng.random() < self._error_probability

    def _wrapped(self, name: str, call):
        def wrapped(*arguments, **options):
            self._maybe_killed(name)
            if name in FAILING_CALLS and self._fails():
                self.errors += 1
                raise OSError(self._rng.choice([errno.EIO, errno.ENOSPC]), "simulated", name)
            result = call(*arguments, **options)
            if name == "rename":
                self.errors_at_rename[os.fspath(arguments[1])] = self.errors
            return result

        return wrapped

    def _wrapped_writing(self, writing):
        @contextmanager
        def wrapped(database: Database):
            self._maybe_killed("begin")
            with writing(database) as connection:
                self._maybe_fail("database is locked")
                yield connection
                self._maybe_killed("commit")
                self._maybe_fail("disk I/O error")
            self._maybe_killed("after the commit")

        return wrapped

    def _maybe_fail(self, text: str) -> None:
        if self._fails():
            self.database_errors += 1
            raise sqlite3.OperationalError(f"simulated: {text}")
