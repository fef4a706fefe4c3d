"""The bytes of a sealed clip on the vehicle, and what it means when they do not come.

A clip that is gone, short or altered is given up for ever: what is left of it is set aside for people to look at. One
that cannot be read just now is not: to take a lack of descriptors for damage would give up what is whole.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.formats.durable_files import sha256_of


class ClipReadError(OSError):
    """A clip's bytes did not come from the disk."""


class DamagedClipError(ClipReadError):
    """The clip's file is gone, shorter than it was when it was sealed, or does not have its hash: it will not mend."""


class UnreadableClipError(ClipReadError):
    """The file cannot be read now (no descriptors, no memory, a disk that fails). Its bytes may well be whole."""


def read_bytes(path: Path, offset: int, length: int) -> bytes:
    """Exactly `length` bytes of a clip. Raises DamagedClipError, UnreadableClipError."""
    with reading(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            data = os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)
    if len(data) != length:
        raise DamagedClipError(f"{path} ends at {offset + len(data)}, {offset + length} bytes were sealed")
    return data


def check_intact(path: Path, sha256: str) -> None:
    """Raises DamagedClipError unless the file still has the hash it was sealed with, or UnreadableClipError."""
    with reading(path):
        found = sha256_of(path)
    if found != sha256:
        raise DamagedClipError(f"the content of {path} no longer has the hash that was sealed")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell a file that is gone from one that cannot be read now: only the first is given up for ever."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedClipError(f"{path} is gone") from error
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        raise UnreadableClipError(f"cannot read {path} now: {name} ({error.strerror})") from error
