"""Files that survive a power cut: the few steps that make a write, a rename or a ledger durable.

A file's bytes are durable after `sync_file`; its name is durable only after `sync_directory` on the folder that
holds it. `rename_durably` and `write_durably` keep that order. An fsync error means that the kernel may already have
dropped the dirty pages: the same file must never be synced again and trusted, so these functions never retry and
callers throw the file away.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

HASH_BLOCK_BYTES = 1 << 20


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


def free_disk_bytes(directory: Path) -> int:
    """Bytes that an ordinary user may still write to the disk of `directory`."""
    return shutil.disk_usage(directory).free
