"""What can be seen of a locked clip without its key: whether it is whole, and how much of it can be opened.

For the receiver, which has no key, and for the vehicle after a power cut, which has forgotten it.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from runtime.privacy.envelope import (
    LENGTH_BYTES,
    MAX_CHUNKS,
    TAG_BYTES,
    UNMEASURED_VERSION,
    EnvelopeError,
    EnvelopeHeader,
    length_of,
    read_header,
)

SECTOR_BYTES = 512


def envelope_problems(path: Path) -> list[str]:
    """What is wrong with a locked clip as far as one can see without its key. OSError when it cannot be read."""
    with path.open("rb") as stream:
        try:
            header = read_header(stream)
        except EnvelopeError as error:
            return [f"locked clip {error}"]
        size_bytes = path.stat().st_size
        if _end_of_chunks(stream, header, size_bytes) == size_bytes:
            return []
    return ["locked clip is cut short: its last chunk is not whole, or has no room for a tag"]


def openable_bytes(path: Path) -> int | None:
    """How much of a file holds a locked clip whose writer died; None: nothing of it. OSError when it cannot be read.

    Behind its end lie room that was reserved and pages that a power cut took: zeros, which ciphertext never holds in
    such numbers.
    """
    with path.open("rb") as stream:
        try:
            header = read_header(stream)
        except EnvelopeError:
            return None
        end = _end_of_data(stream)
        if header.version != UNMEASURED_VERSION:  # its last chunk may end in zeros of its own
            end = min(path.stat().st_size, end + SECTOR_BYTES - 1)
        return _end_of_chunks(stream, header, end)


def _end_of_chunks(stream: IO[bytes], header: EnvelopeHeader, size_bytes: int) -> int | None:
    """How far chunks reach in a file of `size_bytes`, of version 1 the last begun one included; None: there is none."""
    at = len(header.raw)
    if header.version == UNMEASURED_VERSION:
        last = (size_bytes - at) % (header.chunk_bytes + TAG_BYTES)
        at = size_bytes - (last if last < TAG_BYTES else 0)
        return at if at >= len(header.raw) + TAG_BYTES else None
    for _ in range(MAX_CHUNKS):
        stream.seek(at)
        length = length_of(stream.read(LENGTH_BYTES), header)
        if length == 0 or at + LENGTH_BYTES + length > size_bytes:
            break
        at += LENGTH_BYTES + length
    return at if at > len(header.raw) else None


def _end_of_data(stream: IO[bytes]) -> int:
    """Where zeros begin that go on for a sector, or to the end of the file."""
    at = stream.seek(0)
    held = b""
    while block := stream.read(1 << 20):
        held += block
        if (found := held.find(bytes(SECTOR_BYTES))) >= 0:
            return at + found
        at, held = at + max(0, len(held) - SECTOR_BYTES), held[-SECTOR_BYTES:]
    return at + len(held.rstrip(b"\0"))
