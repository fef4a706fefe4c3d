"""Where sealed clips go. The recorder knows this protocol; behind it is the vehicle's spool, or in replay a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runtime.clock import SystemClock
from runtime.formats.durable_files import rename_durably, sync_file, write_durably
from runtime.formats.synced_stream import SyncedStream
from runtime.messages import Priority
from runtime.recording.shrinking import ClipExtent

#: A folder without a quota: the disk itself is the limit.
UNBOUNDED_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class SealedClip:
    """A clip that will survive a power cut."""

    path: Path
    size_bytes: int
    metadata: Mapping[str, Any]
    number: int = 0  # its place in the sink's count, from 1 on


class ClipOutput(Protocol):
    """Where a clip's bytes go on their way to the disk. They do not stay in danger for long: see `SyncedStream`."""

    @property
    def sync_is_due(self) -> bool:
        """True once bytes have waited too long for the disk: give what is still buffered, then `sync`."""

    def write(self, data: bytes, /) -> int:
        """Take all of `data`. OSError from the disk, ShrinkToError when the clip has outgrown its room."""

    def tell(self) -> int:
        """Bytes so far."""

    def flush(self) -> None:
        """Nothing is held back."""

    def sync(self) -> None:
        """Make what was written durable. OSError, never to be tried again on this file."""


class OpenClip(Protocol):
    """A clip being written."""

    @property
    def path(self) -> Path:
        """Its file."""

    def open(self) -> ClipOutput:
        """What to write it through, once. OSError when the disk has not what was reserved."""

    def seal(self, metadata: Mapping[str, Any]) -> SealedClip:
        """Make it durable under its final name; OSError when that cannot be promised."""

    def discard(self) -> None:
        """Throw it away."""


class ClipSink(Protocol):
    """Takes clips."""

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        """Reserve room; OSError when there is none, ShrinkToError when there is some for less than `extent`."""

    def holds(self, clip_id: str) -> bool:
        """True when a clip with this `clip_id` in its metadata was ever sealed here."""

    def find(self, clip_id: str) -> SealedClip | None:
        """The clip with this `clip_id`, perhaps without its file by now; None when it is not known."""

    def kept(self) -> list[SealedClip]:
        """Clips whose files are here now, oldest first."""


class FolderClipSink:
    """Sealed clips as files `<clip_id>.mcap` with their metadata in `<clip_id>.json` beside them."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._drafts = 0

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        """OSError (ENOSPC) when the disk has not `expected_bytes` left."""
        self._drafts += 1
        draft = self.directory / f".draft-{os.getpid()}-{self._drafts}.mcap"
        with draft.open("wb") as stream:
            if expected_bytes > 0:
                os.posix_fallocate(stream.fileno(), 0, expected_bytes)
                stream.truncate(0)
        return _FolderClip(self.directory, draft)

    def holds(self, clip_id: str) -> bool:
        """True when its metadata file is there: it is written last."""
        return (self.directory / f"{clip_id}.json").exists()

    def find(self, clip_id: str) -> SealedClip | None:
        """By its metadata file."""
        return next((clip for clip in self.kept() if clip.metadata["clip_id"] == clip_id), None)

    def kept(self) -> list[SealedClip]:
        """Numbered in the order in which they were sealed."""
        described = sorted((path.stat().st_mtime_ns, path) for path in self.directory.glob("*.json"))
        files = [(path.with_suffix(".mcap"), json.loads(path.read_bytes())) for _, path in described]
        return [
            SealedClip(path, path.stat().st_size, metadata, number)
            for number, (path, metadata) in enumerate(files, 1)
            if path.exists()
        ]


class _FolderClip:
    def __init__(self, directory: Path, draft: Path) -> None:
        self._directory = directory
        self.path = draft

    def open(self) -> ClipOutput:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return SyncedStream(descriptor, 0, lambda total_bytes: UNBOUNDED_BYTES, SystemClock().now_ns)
        finally:
            os.close(descriptor)  # the stream has its own

    def seal(self, metadata: Mapping[str, Any]) -> SealedClip:
        final = self._directory / f"{metadata['clip_id']}.mcap"
        sync_file(self.path)
        rename_durably(self.path, final)
        write_durably(final.with_suffix(".json"), json.dumps(metadata, indent=1).encode())
        number = len(list(self._directory.glob("*.json")))
        return SealedClip(final, final.stat().st_size, metadata, number)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
