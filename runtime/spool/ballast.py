"""Room on the disk that is kept for the ledger, as a file of real blocks: `ballast`.

A reserve that is only arithmetic is gone when others fill the disk: then SQLite can neither open its write-ahead log
nor note that a clip was delivered or evicted, so that the spool could not give back the bytes that it holds itself.
When the disk is nearly full the ballast is cut by a slice, for others may take what is given up before the ledger does;
when there is room again it is made whole. It is charged to the ledger's share of the quota, beside what the ledger may
grow by, whether it lies there or was given up.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from runtime.formats.durable_files import free_disk_bytes, remove_durably, sync_directory

BALLAST_BYTES = 2 << 20
#: Given up at once.
SLICE_BYTES = 512 << 10
#: With less than this free, the ledger's next write may fail.
LOW_BYTES = 256 << 10

log = logging.getLogger(__name__)


class Ballast:
    """One spool's ballast; any of its processes may cut it or make it whole."""

    def __init__(self, path: Path, disk_free: Callable[[Path], int] = free_disk_bytes) -> None:
        self.path = path
        self.failures = 0  # of making it whole
        self._disk_free = disk_free

    @property
    def held_bytes(self) -> int:
        """What it really occupies."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0
        return min(found.st_size, found.st_blocks * 512)

    @property
    def is_disk_low(self) -> bool:
        """True when a write of the ledger may find no room."""
        return self._disk_free(self.path.parent) < LOW_BYTES

    def make_room(self) -> None:
        """Before a write of the ledger: give up a slice where it may find no room without. Raises OSError."""
        if self.is_disk_low:
            self.give_up()

    def give_up(self) -> None:
        """Cut it by one slice; harmless when there is nothing left. Raises OSError."""
        left_bytes = self.held_bytes - SLICE_BYTES
        if left_bytes > 0:
            os.truncate(self.path, left_bytes)
        else:
            self.path.unlink(missing_ok=True)

    def restore(self) -> None:
        """Make it whole, where that leaves as much again for the ledger. A disk that refuses is noted, and told once.

        Synced when it is new: blocks that are only promised are none.
        """
        missing_bytes = BALLAST_BYTES - self.held_bytes
        if missing_bytes <= 0 or self._disk_free(self.path.parent) < missing_bytes + BALLAST_BYTES:
            return
        try:
            self._allocate()
        except OSError as error:
            self.failures += 1
            if self.failures == 1:
                log.warning("%s: no room can be kept for the ledger: %s", self.path, error)

    def _allocate(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
            os.fsync(descriptor)
        except OSError:
            remove_durably(self.path)
            raise
        finally:
            os.close(descriptor)
        sync_directory(self.path.parent)
