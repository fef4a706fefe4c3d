"""Where the receiver puts clips: partial files while they come in, then one final file each.

    <directory>/
      catalogue.sqlite
      partial/<vehicle>-<n:012d>-<sha256>.part
      clips/<vehicle>/<yyyy-mm-dd>/<n:012d>-<sha256[:16]>.mcap     day of arrival, UTC

Path parts come from our own enrolled names, integers and hexadecimal digests only: nothing that a header says can
name a path. Storing: hash read back from disk, planned path committed, fsync, rename, fsync of the folders, row
committed. `recover` completes or takes back a rename that was cut short. A partial whose write or fdatasync failed
is thrown away: its bytes cannot be trusted, and the vehicle still has them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from runtime.formats.durable_files import (
    make_directory_durably,
    remove_durably,
    rename_durably,
    sha256_of,
    sync_directory,
    sync_file,
)
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.catalogue import Catalogue, ClipKey, PartialRow
from runtime.uplink.ranges import RangeSet
from runtime.uplink.wire import MAX_RANGES

MAX_OPEN_FILES = 128


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What one vehicle, and all of them, may occupy."""

    max_clip_bytes: int = 4 << 30
    vehicle_quota_bytes: int = 256 << 30
    vehicle_partials: int = 16
    disk_reserve_bytes: int = 64 << 20


class RefusedError(Exception):
    """The receiver will not take this now; `code` goes to the vehicle."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class OpenPartial:
    """A partial file in use: what is durable, and what is only written."""

    row: PartialRow
    descriptor: int
    durable: RangeSet
    written: RangeSet = field(default_factory=RangeSet)
    must_answer: bool = False

    def with_written(self) -> RangeSet:
        """Everything that was written, durable or not."""
        return RangeSet([*self.durable, *self.written])


def free_disk_bytes(directory: Path) -> int:
    """Bytes that may still be written to the disk of `directory`."""
    return shutil.disk_usage(directory).free


class ClipStore:
    """Partial and final files of all vehicles. Used by one thread."""

    def __init__(
        self, directory: Path, limits: StoreLimits, disk_free: Callable[[Path], int] = free_disk_bytes
    ) -> None:
        self.directory = directory
        self.limits = limits
        self.dirty_bytes = 0
        self._partial_directory = directory / "partial"
        make_directory_durably(self._partial_directory)
        self.catalogue = Catalogue(directory / "catalogue.sqlite")
        self._disk_free = disk_free
        self._open: dict[ClipKey, OpenPartial] = {}

    def close(self) -> None:
        """Close every file; what was not flushed was not acknowledged and is sent again."""
        for key in list(self._open):
            self._close(key)
        self.catalogue.close()

    @property
    def has_unanswered(self) -> bool:
        """True while chunks wait for `flush`."""
        return any(partial.must_answer for partial in self._open.values())

    # -- taking in ----------------------------------------------------------------------------------------------

    def offer(self, row: PartialRow, wall_ns: int) -> RangeSet | None:
        """Make room for a clip, or go on with one. Ranges held durably; None when it is stored already.

        Raises RefusedError.
        """
        if self.catalogue.has(row.key):
            return None
        known = self.catalogue.partial(row.key)
        if known is not None and known.size_bytes != row.size_bytes:
            self.drop(row.key)
            known = None
        if known is None:
            self._admit(row)
            self._create(row, wall_ns)
        return self._opened(row.key).durable

    def _admit(self, row: PartialRow) -> None:
        limits, size_bytes = self.limits, row.size_bytes
        if size_bytes > limits.max_clip_bytes:
            raise RefusedError("too_large", f"{size_bytes} bytes, at most {limits.max_clip_bytes} are taken")
        own = self.catalogue.partials(row.key.vehicle)
        for oldest in own[: max(0, len(own) + 1 - limits.vehicle_partials)]:
            self.drop(oldest.key)
        if self.catalogue.bytes_of(row.key.vehicle) + size_bytes > limits.vehicle_quota_bytes:
            raise RefusedError("vehicle_quota", f"this vehicle may store {limits.vehicle_quota_bytes} bytes")
        if self._disk_free(self.directory) < size_bytes + limits.disk_reserve_bytes:
            raise RefusedError("receiver_full", "the receiver's disk is full")

    def _create(self, row: PartialRow, wall_ns: int) -> None:
        path = self._partial_path(row.key)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640))
        sync_directory(path.parent)
        self.catalogue.add_partial(row, wall_ns)

    def write(self, key: ClipKey, offset: int, data: bytes | memoryview) -> None:
        """Write a chunk; it counts only after `flush`. Raises RefusedError, and OSError after dropping the partial."""
        partial = self._opened(key)
        end = offset + len(data)
        if end > partial.row.size_bytes:
            raise RefusedError("malformed", f"chunk ends at {end}, the clip has {partial.row.size_bytes} bytes")
        partial.must_answer = True
        if partial.durable.covers(offset, end) or partial.written.covers(offset, end):
            return
        grown = partial.with_written()
        grown.add(offset, end)
        if len(grown) > MAX_RANGES:
            raise RefusedError("too_fragmented", f"more than {MAX_RANGES} ranges: fill the gaps first")
        try:
            write_fully(partial.descriptor, data, offset)
        except OSError:
            self.drop(key)
            raise
        partial.written.add(offset, end)
        self.dirty_bytes += len(data)

    def flush(self, wall_ns: int) -> tuple[list[tuple[ClipKey, RangeSet]], list[tuple[ClipKey, OSError]]]:
        """Make everything written durable. What may be acknowledged now, and which partials were lost doing so."""
        answers, failures = [], []
        for key, partial in [(k, p) for k, p in self._open.items() if p.must_answer]:
            try:
                if len(partial.written):
                    os.fdatasync(partial.descriptor)
            except OSError as error:
                self.drop(key)
                failures.append((key, error))
                continue
            answers.append((key, partial.with_written()))
        self.catalogue.save_ranges([(key, ranges) for key, ranges in answers], wall_ns)
        for key, ranges in answers:
            self._open[key].durable = ranges
            self._open[key].written = RangeSet()
            self._open[key].must_answer = False
        self.dirty_bytes = 0
        return answers, failures

    # -- storing ------------------------------------------------------------------------------------------------

    def commit(self, key: ClipKey, wall_ns: int) -> bool:
        """Check and store a clip all of whose bytes are durable. False when its hash is wrong; it is dropped then."""
        partial = self._opened(key)
        source = self._partial_path(key)
        if sha256_of(source) != key.sha256:
            self.drop(key)
            return False
        final = self._final_path(key, wall_ns)
        self.catalogue.plan_final_path(key, final)
        target = self.directory / final
        make_directory_durably(target.parent)
        try:
            sync_file(source)
            rename_durably(source, target)
        except OSError:
            self.drop(key)
            target.unlink(missing_ok=True)
            raise
        self.catalogue.store(partial.row, final, wall_ns)
        self._close(key)
        return True

    def missing(self, key: ClipKey) -> RangeSet | None:
        """Durable ranges of a clip that is not complete; None when it is."""
        partial = self._opened(key)
        return None if partial.durable.covers(0, partial.row.size_bytes) else partial.durable

    def drop(self, key: ClipKey) -> None:
        """Throw a partial away."""
        self._close(key)
        remove_durably(self._partial_path(key))
        self.catalogue.drop_partial(key)

    def entomb(self, vehicle: str, n: int, reason: str, wall_ns: int) -> None:
        """Record that a number will never come, and drop what there is of it."""
        self.catalogue.record_tombstone(vehicle, n, reason, wall_ns)
        for row in self.catalogue.partials(vehicle):
            if row.key.n == n:
                self.drop(row.key)

    # -- start-up -----------------------------------------------------------------------------------------------

    def recover(self, wall_ns: int) -> int:
        """Agree with the disk after a crash; returns how many clips were completed by that."""
        completed = 0
        for row in self.catalogue.partials():
            target = self.directory / row.final_path if row.final_path else None
            if target is not None and target.exists() and sha256_of(target) == row.key.sha256:
                sync_directory(target.parent)
                self.catalogue.store(row, str(row.final_path), wall_ns)
                completed += 1
            elif not self._partial_path(row.key).exists():
                self.catalogue.drop_partial(row.key)
            elif target is not None:
                self.catalogue.plan_final_path(row.key, None)
        expected = {self._partial_path(row.key) for row in self.catalogue.partials()}
        for path in self._partial_directory.iterdir():
            if path not in expected:
                remove_durably(path)
        return completed

    # -- files --------------------------------------------------------------------------------------------------

    def _opened(self, key: ClipKey) -> OpenPartial:
        """The open partial of a clip. Raises RefusedError when it was never offered, or dropped since."""
        if key in self._open:
            return self._open[key]
        row = self.catalogue.partial(key)
        path = self._partial_path(key)
        if row is None or not path.exists():
            raise RefusedError("unknown_clip", "offer it first")
        idle = [k for k, partial in self._open.items() if not partial.must_answer]
        for oldest in idle[: max(0, len(self._open) + 1 - MAX_OPEN_FILES)]:
            self._close(oldest)
        self._open[key] = OpenPartial(row, os.open(path, os.O_WRONLY), RangeSet(row.ranges))
        return self._open[key]

    def _close(self, key: ClipKey) -> None:
        partial = self._open.pop(key, None)
        if partial is not None:
            os.close(partial.descriptor)

    def _partial_path(self, key: ClipKey) -> Path:
        return self._partial_directory / f"{key.vehicle}-{key.n:012d}-{key.sha256}.part"

    def _final_path(self, key: ClipKey, wall_ns: int) -> str:
        day = datetime.fromtimestamp(wall_ns // NANOSECONDS_PER_SECOND, tz=timezone.utc).strftime("%Y-%m-%d")
        return f"clips/{key.vehicle}/{day}/{key.n:012d}-{key.sha256[:16]}.mcap"


def write_fully(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """pwrite until everything is written."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
