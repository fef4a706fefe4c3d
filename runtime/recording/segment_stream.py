"""The file under a history segment: every write is whole or undone.

History lies on tmpfs, which can be full. A write that does not fit asks `make_room` (which unlinks the oldest closed
second) and tries again as long as that helps; when it no longer does, the file is cut back to where the record began
and `HistoryFullError` is raised, so the segment always ends with a whole record. Nothing is mapped: a full tmpfs gives
an error, never a bus error. Any other error undoes the write as well; where even that fails, nothing is appended any
more, so that no record can come to lie behind a torn one.

Others write there, too: the runtime a firing's file, the recorder its intents and answers. They have nothing to give
up, so every write leaves them `SMALL_FILES_BYTES` (a quarter of a file system that is small), as long as there are
older seconds to give up for it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

SMALL_FILES_BYTES = 1 << 20


def is_full(error: OSError) -> bool:
    """True when the file system or the quota has no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class HistoryFullError(OSError):
    """The file system of the history is full and there is no older second left to give up."""


class SegmentStream:
    """What `mcap.Writer` needs of a file: write, tell, flush. Unbuffered."""

    def __init__(self, path: Path, make_room: Callable[[], bool]) -> None:
        self._path = path
        self._make_room = make_room
        self._descriptor = self._open()
        self._size = 0
        self._is_torn = False

    def write(self, data: bytes) -> int:
        """Append all of `data`, or nothing: HistoryFullError, or OSError where the file system fails otherwise."""
        if self._is_torn:
            raise OSError(errno.EIO, "the segment ends with a torn record: nothing may follow", str(self._path))
        while self._would_crowd_out(len(data)) and self._make_room():
            continue
        view = memoryview(data)
        written = 0
        while written < len(view):
            try:
                written += os.write(self._descriptor, view[written:])
            except OSError as error:
                if is_full(error) and self._make_room():
                    continue
                self._undo()
                if is_full(error):
                    raise HistoryFullError(
                        error.errno, "history is full: enlarge its tmpfs", str(self._path)
                    ) from error
                raise
        self._size += written
        return written

    def tell(self) -> int:
        """Bytes in the file."""
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(self._path, flags, 0o640)
        except OSError as error:
            if is_full(error) and self._make_room():
                return self._open()
            raise

    def _would_crowd_out(self, size_bytes: int) -> bool:
        state = os.fstatvfs(self._descriptor)
        reserve_bytes = min(SMALL_FILES_BYTES, state.f_blocks * state.f_frsize // 4)
        return state.f_bavail * state.f_frsize < size_bytes + reserve_bytes

    def _undo(self) -> None:
        self._is_torn = True
        os.ftruncate(self._descriptor, self._size)
        self._is_torn = False
