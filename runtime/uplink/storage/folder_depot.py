"""Clips in a folder: partial files while they come in, then one final file each.

    <directory>/
      receiver.lock
      depot-identity                                                   which catalogue it belongs to
      partial/<vehicle>-<n:012d>-<sha256>-<id>.part
      clips/<vehicle>/<yyyy-mm-dd>/<n:012d>-<sha256[:16]>-<id>.mcap     day of arrival, UTC

One receiver has the folder to itself (a lock on `receiver.lock`, which the kernel lets go of when the process dies).
A partial whose write or fdatasync failed is thrown away: its bytes cannot be trusted, and the vehicle has them still.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from runtime.formats.durable_files import (
    free_disk_bytes,
    make_directory_durably,
    rename_durably,
    sha256_of,
    sync_directory,
    sync_file,
    write_durably,
)
from runtime.uplink.storage.depot import IDENTITY_NAME, DepotError, Synced
from runtime.uplink.storage.rows import PartialRow, Segment

MAX_OPEN_FILES = 128
LOCK_NAME = "receiver.lock"


class FolderDepot:
    """A `Depot` in one folder. A receiver takes it for itself; the command line may delete and read beside it."""

    is_exclusive = True
    slow_from_bytes = 16 << 20  # a few tens of milliseconds of hashing; 2 GB would hold up every vehicle for seconds
    flush_bytes = 2 << 20
    flush_after_ms = 30

    def __init__(
        self, directory: Path, disk_free: Callable[[Path], int] = free_disk_bytes, takes_lock: bool = True
    ) -> None:
        self.label = str(directory)
        self._directory = directory
        self._partials = directory / "partial"
        self._disk_free = disk_free
        self._open: dict[int, int] = {}
        self._unsynced: set[int] = set()
        make_directory_durably(self._partials)
        self._lock = take_lock(directory / LOCK_NAME) if takes_lock else None

    def close(self) -> None:
        """Close every file and let the folder go."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        self._unsynced.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def check(self) -> None:
        """Its folders were made, and the lock taken, when it was opened."""

    def identity(self) -> str | None:
        """What its file of that name says."""
        try:
            return (self._directory / IDENTITY_NAME).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None

    def take_identity(self, identity: str) -> None:
        """Write that file."""
        write_durably(self._directory / IDENTITY_NAME, identity.encode() + b"\n")

    def free_bytes(self) -> int | None:
        """What the disk has left."""
        return self._disk_free(self._directory)

    def begin(self, row: PartialRow) -> None:
        """An empty file, its name durable."""
        path = self._directory / row.file_name
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640))
        sync_directory(path.parent)

    def holds(self, row: PartialRow) -> bool:
        """True while the partial's file is there."""
        return (self._directory / row.file_name).exists()

    def write(self, row: PartialRow, offset: int, data: bytes | memoryview) -> None:
        """Write into the partial's file."""
        self._unsynced.add(row.id)
        write_fully(self._descriptor(row), data, offset)

    def sync(self, rows: Sequence[PartialRow]) -> dict[int, Synced]:
        """Fdatasync of every file that was written to."""
        outcome: dict[int, Synced] = {}
        for row in rows:
            outcome[row.id] = ()
            if row.id not in self._unsynced:
                continue
            try:
                os.fdatasync(self._descriptor(row))
            except OSError as error:
                outcome[row.id] = error
            self._unsynced.discard(row.id)
        return outcome

    def release(self, row: PartialRow) -> None:
        """Close the partial's file."""
        self._unsynced.discard(row.id)
        descriptor = self._open.pop(row.id, None)
        if descriptor is not None:
            os.close(descriptor)

    def finish(self, row: PartialRow, segments: Sequence[Segment], name: str) -> bool:
        """Hash what the disk gives back, then fsync and rename."""
        source, target = self._directory / row.file_name, self._directory / name
        self.release(row)
        if sha256_of(source) != row.key.sha256:
            return False
        make_directory_durably(target.parent)
        sync_file(source)
        rename_durably(source, target)
        return True

    def is_finished(self, row: PartialRow, name: str) -> bool:
        """True when the rename has happened; it is made durable before that is said."""
        target = self._directory / name
        if not target.exists() or sha256_of(target) != row.key.sha256:
            return False
        sync_directory(target.parent)
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Unlink, one fsync for each folder that lost something."""
        touched = set()
        for name in names:
            path = self._directory / name
            if path.exists():
                path.unlink(missing_ok=True)
                touched.add(path.parent)
        for folder in touched:
            sync_directory(folder)

    def strays(self, partials: Sequence[PartialRow], before_wall_ns: int) -> Iterator[list[str]]:
        """Partial files without a row."""
        expected = {row.file_name for row in partials}
        found = [path for path in self._partials.iterdir() if path.lstat().st_mtime_ns < before_wall_ns]
        names = [str(path.relative_to(self._directory)) for path in found]
        unknown = [name for name in names if name not in expected]
        if unknown:
            yield unknown

    def local_copy(self, name: str) -> AbstractContextManager[Path]:
        """The file itself."""
        path = self._directory / name
        path.stat()  # FileNotFoundError now, and not from whoever opens it
        return nullcontext(path)

    def _descriptor(self, row: PartialRow) -> int:
        if row.id not in self._open:
            idle = [ident for ident in self._open if ident not in self._unsynced]
            for oldest in idle[: max(0, len(self._open) + 1 - MAX_OPEN_FILES)]:
                os.close(self._open.pop(oldest))
            self._open[row.id] = os.open(self._directory / row.file_name, os.O_WRONLY)
        return self._open[row.id]


def take_lock(path: Path) -> int:
    """A descriptor that holds the folder for this process. Raises DepotError when another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        fix = "stop it, or give several receivers object storage and PostgreSQL (deploy/RECEIVER.md)"
        raise DepotError(f"{path.parent} is in use by another receiver (fix: {fix})") from error
    return descriptor


def write_fully(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """pwrite until everything is written."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
