"""Where the bytes of clips lie: the seam between the receiver and a folder or a bucket.

Names are relative, made of our own enrolled vehicles' names, integers and hexadecimal digits only: nothing that a
header says can name a place. Every failure is an OSError; `DepotError` where the store itself gives none.

What each step promises when it returns:

| step | a folder | object storage |
|---|---|---|
| `write` | in the page cache | in this process's memory |
| `sync` | fdatasync has succeeded | PUT was answered with success, SHA-256 checked by the store |
| `finish` | hash read back; file and both folders fsynced | hash of what was streamed, then of what is read back |
| `delete` | folder fsynced | DELETE was answered with success |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

from runtime.uplink.storage.limits import SetupError
from runtime.uplink.storage.rows import PartialRow, Segment

#: The file or object that says which catalogue these bytes belong to (`storage.belonging`).
IDENTITY_NAME = "depot-identity"
#: The segments that now hold a partial's new bytes (none where they lie in the partial's own file), or what failed.
Synced: TypeAlias = "Sequence[Segment] | OSError"


class DepotError(OSError):
    """The store of bytes could not do what was asked."""


class DepotSetupError(DepotError, SetupError):
    """It never will, configured as it is."""


class Depot(Protocol):
    """Bytes of clips under way and of stored clips."""

    #: True when one receiver alone may use it; what is not accounted for at its start is nobody's then.
    is_exclusive: bool
    #: Where it is, for people.
    label: str
    #: `finish` of clips of this size and more takes long enough to be done beside the receiver's loop, in any thread.
    slow_from_bytes: int
    #: Chunks are made durable together: when this much has come, or when the oldest has waited this long.
    flush_bytes: int
    flush_after_ms: int

    def close(self) -> None:
        """Let go of everything; what was not synced is lost."""

    def check(self) -> None:
        """Try whether it works at all. Raises DepotSetupError when it never will, OSError when it does not now."""

    def identity(self) -> str | None:
        """The name that it was given; None when it has none yet."""

    def take_identity(self, identity: str) -> None:
        """Carry this name from now on, durably."""

    def free_bytes(self) -> int | None:
        """What still fits; None where there is no end."""

    def begin(self, row: PartialRow) -> None:
        """Make a place for a clip under way."""

    def holds(self, row: PartialRow) -> bool:
        """True while that place is there."""

    def write(self, row: PartialRow, offset: int, data: bytes | memoryview) -> None:
        """Take bytes in; they count only after `sync`."""

    def sync(self, rows: Sequence[PartialRow]) -> Mapping[int, Synced]:
        """Make what was written durable, by the id of the partial. After an error its bytes must not be trusted."""

    def release(self, row: PartialRow) -> None:
        """Forget what was written and not synced, and keep nothing open."""

    def finish(self, row: PartialRow, segments: Sequence[Segment], name: str) -> bool:
        """Put the whole clip durably at `name`. False when its hash is wrong: nothing is there then."""

    def is_finished(self, row: PartialRow, name: str) -> bool:
        """True when the whole clip, with the right hash, is durably at `name`: a `finish` that was cut short."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete durably; what is not there is deleted already."""

    def strays(self, partials: Sequence[PartialRow], before_wall_ns: int) -> Iterator[list[str]]:
        """Names of bytes under way that were written before then, a bounded number at a time.

        Those of `partials` are left out where a partial's name tells; segments are for the caller to ask for.
        """

    def local_copy(self, name: str) -> AbstractContextManager[Path]:
        """A file to read a stored clip from, as long as the context lasts. FileNotFoundError when it is gone."""
