"""A file being written whose bytes never stay in danger for long: fdatasync at least every two seconds of writing.

The room is taken from the disk before the first byte (posix_fallocate), so that a disk that others fill cannot stop a
file half-way; `finish` cuts off what was not needed. A power cut costs what was written since the last sync: two
seconds at most. Writing beyond the reserved size first asks for more, and stops when there is none.

A write or sync that failed is never repeated: the kernel may have dropped the pages and call the next sync a success
(https://wiki.postgresql.org/wiki/Fsync_Errors). The stream refuses everything from then on; the file is thrown away.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable

SYNC_INTERVAL_NS = 2_000_000_000
#: A sync in between keeps the sync at the end short.
SYNC_BYTES = 8 << 20


class SyncedStream(io.BufferedIOBase):
    """Appends to an open, empty file. It closes its own copy of the descriptor, not the caller's.

    `now_ns` is a monotonic clock; `reserve` is asked before the file grows beyond `reserved_bytes` and raises OSError
    when it may not.
    """

    def __init__(
        self, descriptor: int, reserved_bytes: int, reserve: Callable[[int], int], now_ns: Callable[[], int]
    ) -> None:
        """Raises OSError (ENOSPC) when the disk has not `reserved_bytes`."""
        super().__init__()
        self._descriptor = os.dup(descriptor)
        self._reserved_bytes = reserved_bytes
        self._reserve = reserve
        self._now_ns = now_ns
        self._written_bytes = 0
        self._synced_bytes = 0
        self._synced_at_ns = now_ns()
        self._failure: OSError | None = None
        try:
            if reserved_bytes:
                os.posix_fallocate(self._descriptor, 0, reserved_bytes)
        except OSError:
            self.close()
            raise

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def tell(self) -> int:
        return self._written_bytes

    @property
    def sync_is_due(self) -> bool:
        """True once bytes have waited too long, or too many wait: give what you still buffer, then `sync`."""
        waited_ns = self._now_ns() - self._synced_at_ns
        return waited_ns >= SYNC_INTERVAL_NS or self._written_bytes - self._synced_bytes >= SYNC_BYTES

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Append all of `data`. Raises OSError, and from then on always."""
        self._raise_failure()
        view = memoryview(data).cast("B")
        end = self._written_bytes + len(view)
        if end > self._reserved_bytes:
            self._reserved_bytes = self._reserve(end)
        try:
            while view:
                view = view[self._write_some(view) :]
        except OSError as error:
            self._failure = error
            raise
        if self.sync_is_due:
            self.sync()
        return len(data) if not isinstance(data, memoryview) else data.nbytes

    def _write_some(self, view: memoryview) -> int:
        written = os.pwrite(self._descriptor, view, self._written_bytes)
        self._written_bytes += written
        return written

    def sync(self) -> None:
        """Make everything written durable. Raises OSError, and from then on always."""
        self._raise_failure()
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._failure = error
            raise
        self._synced_bytes = self._written_bytes
        self._synced_at_ns = self._now_ns()

    def finish(self) -> int:
        """Cut off the room that was not needed; the file's size. It is not yet durable."""
        self._raise_failure()
        os.ftruncate(self._descriptor, self._written_bytes)
        return self._written_bytes

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise OSError(
                self._failure.errno or errno.EIO,
                f"writing failed before ({self._failure}): throw this file away and write another one",
            )
