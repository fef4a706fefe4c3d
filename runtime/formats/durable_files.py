"""Files that survive a power cut: the few steps that make a write, a rename or a ledger durable.

A file's bytes are durable after `sync_file`; its name is durable only after `sync_directory` on the folder that
holds it. `rename_durably` and `write_durably` keep that order. An fsync error means that the kernel may already have
dropped the dirty pages: the same file must never be synced again and trusted, so these functions never retry and
callers throw the file away.

`open_ledger` opens SQLite in the one mode that Shadowrig's ledgers use: write-ahead log, synchronous=FULL (a
committed row survives a power cut) and explicit transactions.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from pathlib import Path
from weakref import WeakSet

HASH_BLOCK_BYTES = 1 << 20
LEDGER_BUSY_TIMEOUT_S = 10.0


def sync_file(path: Path) -> None:
    """Make the bytes of `path` durable. Raises OSError; never retry on the same file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make the names inside `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory_durably(directory: Path, mode: int = 0o770) -> None:
    """Create `directory` and its missing parents, each durable in its own parent.

    A folder that is there already may have been made by a process that was killed before it could sync: a power cut
    would still take it away, with all that was made durable inside it. So every level of this file system is synced,
    as far up as we may read.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=mode, exist_ok=True)
    device = directory.stat().st_dev
    for parent in directory.absolute().parents:
        if parent not in missing and (parent.stat().st_dev != device or not os.access(parent, os.R_OK)):
            break  # a mount point, or a folder of somebody else: not ours to make durable
        sync_directory(parent)


def rename_durably(source: Path, target: Path) -> None:
    """Rename an already synced file; both folders know of it when this returns."""
    os.rename(source, target)
    sync_directory(target.parent)
    if source.parent != target.parent:
        sync_directory(source.parent)


def write_durably(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Write a small file so that a reader, now or after a power cut, sees the old bytes or the new, never a mix."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        rename_durably(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # another attempt writes another file
        raise


def remove_durably(path: Path) -> None:
    """Unlink `path`, which may be gone already, and make that durable."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, read in blocks of bounded size."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def copy_checked(source: Path, target: Path, sha256: str) -> None:
    """Copy a file whose hash is known; the copy is at `target` whole and durable, or not at all. Raises OSError."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reading, temporary.open("xb") as writing:
            while block := reading.read(HASH_BLOCK_BYTES):
                digest.update(block)
                writing.write(block)
            writing.flush()
            os.fsync(writing.fileno())
        if digest.hexdigest() != sha256:
            raise OSError(f"{source} has sha256 {digest.hexdigest()}, {sha256} was expected: nothing was written")
        rename_durably(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


class LedgerConnection(sqlite3.Connection):
    """A connection that this process counts until it is closed."""

    def close(self) -> None:
        """Close it; the last one of all processes empties the write-ahead log."""
        super().close()
        with _opening:
            for connections in _open_ledgers.values():
                connections.discard(self)


_opening = threading.RLock()  # a connection may be closed by the garbage collector, anywhere
_open_ledgers: dict[tuple[int, int], WeakSet[LedgerConnection]] = {}


def open_ledger(path: Path) -> sqlite3.Connection:
    """Open a SQLite ledger. The caller serialises use between threads and begins its own transactions.

    A process that has it open must not open and close the file by any other means: closing any descriptor drops all
    POSIX locks of the process on that file, SQLite's too, and whoever closes the ledger next in another process
    deletes the write-ahead log under us, with every commit that follows.
    """
    with _opening:
        connection = _connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def _connect(path: Path) -> LedgerConnection:
    for closed in [identity for identity, connections in _open_ledgers.items() if not connections]:
        del _open_ledgers[closed]
    if not path.exists() or _identity(path) not in _open_ledgers:
        _prepare_ledger(path)
    connection = sqlite3.connect(
        path, timeout=LEDGER_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, factory=LedgerConnection
    )
    _open_ledgers.setdefault(_identity(path), WeakSet()).add(connection)
    return connection


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _prepare_ledger(path: Path) -> None:
    """Before this process's first connection: create the file, make what others committed durable."""
    # SQLite would make it unwritable for the group; its side files take the mode of the ledger.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660))
    # A process killed between writing a commit and syncing it leaves one that we can read and a power cut can take
    # back: nobody may act on it before it is durable.
    for part in (path, path.with_name(path.name + "-wal")):
        if part.exists():
            sync_file(part)
