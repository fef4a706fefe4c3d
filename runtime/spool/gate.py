"""`spool.lock`: every use of the ledger holds it shared, whoever recovers or replaces the ledger holds it alone.

Without it another process could commit into a ledger file that has just been replaced, and its row would be lost.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Gate:
    """One process's hold on the lock. The ledger's own lock makes its threads take turns here."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        self._is_exclusive = False
        self._depth = 0

    def close(self) -> None:
        """Let go, once and for all."""
        os.close(self._descriptor)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Wait until nobody recovers; nobody will while this is held."""
        if self._depth == 0 and not self._is_exclusive:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and not self._is_exclusive:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait for everybody else; `shared` inside it is free."""
        if self._is_exclusive:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._is_exclusive = True
        try:
            yield
        finally:
            self._is_exclusive = False
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """`exclusive`, and let go for good when that fails: whoever tries again and again must not run out of files."""
        try:
            with self.exclusive():
                yield
        except BaseException:
            self.close()
            raise
