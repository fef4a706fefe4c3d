"""The spool, as the recorder knows it: where sealed clips go in the vehicle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.formats.synced_stream import SyncedStream
from runtime.messages import Priority
from runtime.processes.shell import log
from runtime.recording.clip_sink import ClipOutput, OpenClip, SealedClip
from runtime.recording.shrinking import ClipExtent, ShrinkToError
from runtime.spool import (
    Age,
    ClipDraft,
    ClipShape,
    ShrinkRequiredError,
    Spool,
    SpooledClip,
    SpoolError,
    UnknownClipError,
)


class SpoolClipSink:
    """The recorder's `ClipSink` over the spool; `progress` is called while clips are written: many take long."""

    def __init__(self, spool: Spool, progress: Callable[[], None] = lambda: None) -> None:
        self._spool = spool
        self._progress = progress

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        """Reserve quota; QuotaExceededError (an OSError) when there is none, ShrinkToError when there is some."""
        shape = None if extent is None else ClipShape(extent.cameras, extent.seconds)
        metadata = None if extent is None else extent.known_by
        with _told_to_shrink():
            draft = self._spool.begin(expected_bytes, priority, shape, metadata, self._age_of_source(extent))
        return _SpoolClip(self._spool, draft, self._progress)

    def _age_of_source(self, extent: ClipExtent | None) -> Age | None:
        if extent is None or extent.cut_from is None:
            return None
        try:
            return self._spool.age_of(extent.cut_from)
        except UnknownClipError as error:
            raise SpoolError(f"the clip that is to be cut went meanwhile: {error}") from error

    def holds(self, clip_id: str) -> bool:
        """True when the ledger has ever known this clip."""
        return self._spool.knows_clip(clip_id)

    def find(self, clip_id: str) -> SealedClip | None:
        """The newest clip of that name; None for one that the ledger has folded."""
        clip = self._spool.find(clip_id)
        return None if clip is None else _sealed(clip)

    def kept(self) -> list[SealedClip]:
        """All clips that wait for delivery."""
        return sorted(map(_sealed, self._spool.pending(limit=None)), key=lambda clip: clip.number)


@dataclass(frozen=True, slots=True)
class _SpoolClip:
    spool: Spool
    draft: ClipDraft
    progress: Callable[[], None]

    @property
    def path(self) -> Path:
        return self.draft.path

    def open(self) -> ClipOutput:
        return _SpoolOutput(self.spool.write_into(self.draft), self.progress)

    def seal(self, metadata: Mapping[str, Any]) -> SealedClip:
        with _told_to_shrink():
            clip = _sealed(self.spool.seal(self.draft, metadata))
        log.info("sealed %s: %s, %d bytes", clip.path, ", ".join(clip.metadata["rules"]), clip.size_bytes)
        self.progress()
        return clip

    def discard(self) -> None:
        self.spool.discard(self.draft)


@dataclass(frozen=True, slots=True)
class _SpoolOutput:
    """A draft's stream, which asks the spool for more room as it grows."""

    stream: SyncedStream
    progress: Callable[[], None]

    @property
    def sync_is_due(self) -> bool:
        return self.stream.sync_is_due

    def write(self, data: bytes, /) -> int:
        with _told_to_shrink():
            written = self.stream.write(data)
        self.progress()
        return written

    def tell(self) -> int:
        return self.stream.tell()

    def flush(self) -> None:
        self.stream.flush()

    def sync(self) -> None:
        self.stream.sync()


@contextmanager
def _told_to_shrink() -> Iterator[None]:
    """The spool's words in the recorder's."""
    try:
        yield
    except ShrinkRequiredError as error:
        raise ShrinkToError(str(error), ClipExtent(error.shape.cameras, error.shape.seconds)) from error


def _sealed(clip: SpooledClip) -> SealedClip:
    return SealedClip(clip.path, clip.size_bytes, clip.metadata, clip.n)
