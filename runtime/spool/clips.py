"""What the spool hands out: drafts, sealed clips, tombstones, counts, and its errors."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from runtime.formats.offer_limits import MAX_METADATA_BYTES, MAX_METADATA_LEVELS, is_deeper_than, metadata_text
from runtime.formats.synced_stream import SyncedStream
from runtime.messages import Priority
from runtime.spool.age import Age
from runtime.spool.shape import ClipShape

#: Metadata may name the Unix time (ns) after which nobody wants the clip any more: it expires then.
EXPIRES_KEY = "expires_wall_ns"

#: A file occupies whole blocks of the disk, and the quota counts those.
BLOCK_BYTES = 4096

#: What recovery or a delivery moved out of `clips/` for people to look at: of no use to anybody else.
DAMAGED_PREFIX, STRAY_PREFIX = "damaged-", "stray-"
#: States of a draft, in the ledger's column `abandoned`: has a writer; partial; on its way to a tombstone.
BEING_WRITTEN, ABANDONED, CONDEMNED = 0, 1, 2

CLIP_NAME = re.compile(r"(\d{12})-([0-9a-f]{16})\.mcap")


class SpoolError(OSError):
    """The spool on disk cannot do what was asked."""


class QuotaExceededError(SpoolError):
    """There is no room, and nothing of lower priority to evict. `available_bytes` is what could be had at most."""

    def __init__(self, message: str, available_bytes: int) -> None:
        super().__init__(message)
        self.available_bytes = available_bytes


class ShrinkRequiredError(QuotaExceededError):
    """Only clips of the highest priority are left: come again with a clip of `shape` at most.

    `begin` with a shape that cannot shrink any more replaces the oldest clips of the highest priority.
    """

    def __init__(self, message: str, available_bytes: int, shape: ClipShape) -> None:
        super().__init__(message, available_bytes)
        self.shape = shape


class LedgerError(SpoolError):
    """SQLite could not read or write the ledger (disk full, I/O error, locked for too long). Nothing was changed."""


class SealError(SpoolError):
    """A draft could not be made durable (fsync or rename failed). It holds no number; whoever began it discards it."""


class UnknownClipError(LookupError):
    """No clip has this number."""


class ClipState(str, Enum):
    """What became of a number."""

    PENDING = "pending"
    DELIVERED = "delivered"
    TOMBSTONED = "tombstoned"


@dataclass(frozen=True, slots=True)
class SpooledClip:
    """One sealed clip. The file at `path` is there as long as the clip is pending."""

    n: int
    path: Path
    sha256: str
    size_bytes: int
    priority: Priority
    metadata: Mapping[str, Any]
    sealed_wall_ns: int
    state: ClipState = ClipState.PENDING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A number that will never be delivered."""

    n: int
    reason: str


@dataclass(slots=True)
class ClipDraft:
    """A clip being written. The lock on its file tells every process that its writer lives."""

    draft_id: int
    path: Path
    reserved_bytes: int
    priority: Priority
    lock_descriptor: int = field(repr=False, default=-1)
    shape: ClipShape | None = None
    stream: SyncedStream | None = field(repr=False, default=None)
    may_be_sealed: bool = True

    def release(self) -> None:
        """Let go of the file; recovery may treat what is left of it as partial from now on."""
        if self.stream is not None:
            self.stream.close()
        if self.lock_descriptor >= 0:
            os.close(self.lock_descriptor)
            self.lock_descriptor = -1


@dataclass(frozen=True, slots=True)
class PartialClip:
    """A draft whose writer died, or a file found damaged."""

    draft_id: int
    path: Path
    size_bytes: int
    priority: Priority
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what `begin` was told
    boot_id: str | None = None  # of the run of the machine that wrote it; None for a file nobody knows
    begun_ns: int | None = None  # on the monotonic clock of that run
    as_old_as: Age | None = None  # where it is made of something older


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person has to know, and when it was raised by the wall clock."""

    wall_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """The ledger in numbers: `sealed == pending + delivered + tombstoned` always."""

    sealed: int
    pending: int
    delivered: int
    tombstoned: int
    evicted: int
    refused: int
    partial: int
    bytes_used: int
    quota_bytes: int
    alarms: int
    shrunk: int
    ledger_bytes: int

    @property
    def is_gapless(self) -> bool:
        """True as long as every number is accounted for."""
        return self.sealed == self.pending + self.delivered + self.tombstoned


def occupied_bytes(size_bytes: int) -> int:
    """What a file of `size_bytes` takes from the disk."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def clip_file_name(n: int, sha256: str) -> str:
    """`<n:012d>-<sha256[:16]>.mcap`."""
    return f"{n:012d}-{sha256[:16]}.mcap"


def is_evidence(file_name: str) -> bool:
    """True for a file that was set aside to be looked at."""
    return file_name.startswith((DAMAGED_PREFIX, STRAY_PREFIX))


def encode_metadata(metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON text. Raises ValueError when it is no JSON, or longer or deeper than a receiver takes."""
    expires_wall_ns = metadata.get(EXPIRES_KEY)
    if expires_wall_ns is not None and (isinstance(expires_wall_ns, bool) or not isinstance(expires_wall_ns, int)):
        raise ValueError(f"clip metadata {EXPIRES_KEY} is {expires_wall_ns!r}: give Unix time in nanoseconds")
    if is_deeper_than(dict(metadata), MAX_METADATA_LEVELS):
        raise ValueError(f"clip metadata nests deeper than {MAX_METADATA_LEVELS} levels: keep the rest in the clip")
    text = metadata_text(metadata)
    length = len(text.encode())
    if length > MAX_METADATA_BYTES:
        raise ValueError(f"clip metadata is {length} bytes, at most {MAX_METADATA_BYTES}: keep the rest in the clip")
    return text


def current_boot_id() -> str:
    """What the kernel calls this run of the machine; it changes with every start."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def create_locked(path: Path) -> int:
    """Create an empty file and hold its lock until the returned descriptor is closed, or its process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o660)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def try_lock(path: Path) -> int | None:
    """Take the lock of a draft whose writer is gone; None while somebody holds it."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
