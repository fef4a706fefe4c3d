"""Clips as objects: S3-compatible, Google Cloud Storage or Azure, through obstore (the Rust crate object_store).

    <bucket>/<prefix>/
      depot-identity                                                        which catalogue it belongs to
      partial/<vehicle>/<n:012d>-<sha256[:16]>-<id>/<start:012d>-<end:012d>-<receiver>-<count>     segments, immutable
      clips/<vehicle>/<yyyy-mm-dd>/<n:012d>-<sha256[:16]>-<id>.mcap                                 day of arrival, UTC

A PUT that was answered with success is durable by the provider's word, and seen by every reader at once (S3 since
2020, GCS and Azure by their documentation). Uploads carry a SHA-256 that S3 checks (`checksum_algorithm`). The final
object is one atomic PUT: a multipart upload whose end is never reached leaves nothing to be seen. After it the whole
object is read back and hashed, because DONE makes the vehicle delete its own.

Any number of receivers use one bucket. A segment's name holds the receiver's own random name, so no two ever write
the same object; a final object may be written twice, with the same bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.storage.depot import IDENTITY_NAME, DepotError, DepotSetupError, Synced
from runtime.uplink.storage.object_access import open_object_store, translated
from runtime.uplink.storage.rows import PartialRow, Segment

UPLOADERS = 16
PART_BYTES = 8 << 20  # of a download, and of a multipart upload: 10,000 of them, S3's limit, are 80 GB
PARTS_AT_ONCE = 4
NAMES_AT_ONCE = 1000  # of a listing: what is asked of the catalogue in one question
#: Somewhat more than a request takes to fail; the receiver's progress timeout is 30 s.
SYNC_TIMEOUT_S = 12.0
CHECK_NAME = "receiver-check"


class HashMismatchError(Exception):
    """What was streamed is not what was offered: the upload is given up."""


class ObjectDepot:
    """A `Depot` in a bucket. `options` go to obstore's configuration of that kind of store."""

    is_exclusive = False
    slow_from_bytes = 0
    flush_bytes = 16 << 20
    flush_after_ms = 250

    def __init__(
        self, url: str, options: Mapping[str, Any], scratch: Path, receiver: str | None = None, reads_back: bool = True
    ) -> None:
        self.url = self.label = url
        self._store = open_object_store(url, options)
        self._scratch = scratch
        self._receiver = receiver or secrets.token_hex(6)
        self._reads_back = reads_back
        self._count = itertools.count()
        self._written: dict[int, list[tuple[int, bytes]]] = {}
        self._uploads = ThreadPoolExecutor(UPLOADERS, "segment")

    def close(self) -> None:
        """Wait for uploads under way."""
        self._uploads.shutdown()
        self._written.clear()

    def check(self) -> None:
        """PUT and DELETE of a small object: whether the bucket is there and our credentials may write."""
        import obstore

        try:
            with translated(f"PUT of {CHECK_NAME} in {self.url}"):
                obstore.put(self._store, CHECK_NAME, b"a receiver tried whether it may write here", use_multipart=False)
            self.delete([CHECK_NAME])
        except FileNotFoundError as error:
            fix = "make the bucket, or correct objects.url"
            raise DepotSetupError(f"{self.url}: there is no such bucket (fix: {fix}): {str(error)[:300]}") from error

    def identity(self) -> str | None:
        """What the object of that name says."""
        import obstore

        try:
            with translated(f"GET of {IDENTITY_NAME}"):
                return bytes(obstore.get(self._store, IDENTITY_NAME).bytes()).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None

    def take_identity(self, identity: str) -> None:
        """PUT that object."""
        import obstore

        with translated(f"PUT of {IDENTITY_NAME}"):
            obstore.put(self._store, IDENTITY_NAME, identity.encode(), use_multipart=False)

    def free_bytes(self) -> int | None:
        """Object storage has no end that we could ask for."""
        return None

    def begin(self, row: PartialRow) -> None:
        """Segments need no place of their own."""

    def holds(self, row: PartialRow) -> bool:
        """Its segments are in the catalogue."""
        return True

    def write(self, row: PartialRow, offset: int, data: bytes | memoryview) -> None:
        """Keep a copy until `sync`."""
        self._written.setdefault(row.id, []).append((offset, bytes(data)))

    def sync(self, rows: Sequence[PartialRow]) -> dict[int, Synced]:
        """PUT each contiguous run of bytes as a segment, all of them at once, in bounded time: the loop waits."""
        waiting = {
            row.id: [self._uploads.submit(self._put_segment, row, *run) for run in self._runs(row)] for row in rows
        }
        wait([future for futures in waiting.values() for future in futures], timeout=SYNC_TIMEOUT_S)
        return {ident: self._synced(futures) for ident, futures in waiting.items()}

    def _synced(self, futures: Sequence[Future[Segment]]) -> Synced:
        """What became of one partial; of a failure, what did get there or still does is a stray (`strays`)."""
        late = [future for future in futures if not future.done()]
        for future in late:
            future.cancel()
        if late:
            return DepotError(f"{len(late)} of {len(futures)} segments were not PUT in {SYNC_TIMEOUT_S:g} s")
        try:
            return [future.result() for future in futures]
        except OSError as error:
            return error

    def _runs(self, row: PartialRow) -> list[tuple[int, bytes]]:
        """Contiguous runs of what was written, by their start."""
        runs: list[list[tuple[int, bytes]]] = []
        for offset, data in sorted(self._written.pop(row.id, []), key=lambda piece: piece[0]):
            if runs and runs[-1][-1][0] + len(runs[-1][-1][1]) == offset:
                runs[-1].append((offset, data))
            else:
                runs.append([(offset, data)])
        return [(run[0][0], b"".join(data for _, data in run)) for run in runs]

    def _put_segment(self, row: PartialRow, start: int, data: bytes) -> Segment:
        import obstore

        end = start + len(data)
        name = f"{row.segment_prefix}{start:012d}-{end:012d}-{self._receiver}-{next(self._count)}"
        with translated(f"PUT of {name}"):
            obstore.put(self._store, name, data, use_multipart=False)
        return Segment(start, end, name)

    def release(self, row: PartialRow) -> None:
        """Forget what was not uploaded."""
        self._written.pop(row.id, None)

    def finish(self, row: PartialRow, segments: Sequence[Segment], name: str) -> bool:
        """Stream the segments into the final object, and read it back."""
        import obstore

        try:
            with translated(f"PUT of {name}"):
                # Not a `with`: leaving it by an error would end the upload as if it were whole.
                writer = obstore.open_writer(self._store, name, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
                for block in self._whole(row, segments):
                    writer.write(block)
                writer.close()
        except HashMismatchError:
            return False
        if self._reads_back and not self.is_finished(row, name):
            raise DepotError(f"{name} in {self.url} reads back with another hash than was written: check the store")
        return True

    def _whole(self, row: PartialRow, segments: Sequence[Segment]) -> Iterator[bytes]:
        """The clip's bytes in order; raises HashMismatchError before its end when they are not what was offered."""
        digest, position = hashlib.sha256(), 0
        for segment in sorted(segments, key=lambda each: (each.start, each.end)):
            if segment.end <= position:
                continue
            if segment.start > position:
                raise HashMismatchError(f"no segment holds byte {position}")
            for block in self._blocks(segment, position - segment.start):
                digest.update(block)
                position += len(block)
                if position == row.size_bytes and digest.hexdigest() != row.key.sha256:
                    raise HashMismatchError(row.key.sha256)
                yield block
        if position != row.size_bytes:
            raise HashMismatchError(f"{position} bytes of {row.size_bytes}")

    def _blocks(self, segment: Segment, skipped: int) -> Iterator[bytes]:
        return self._read(segment.name, skipped, segment.end - segment.start)

    def _read(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes `[start, end)` of an object, a bounded part at a time: no request lasts longer than its timeout."""
        import obstore

        for position in range(start, end, PART_BYTES):
            with translated(f"GET of {name}"):
                part = obstore.get_range(self._store, name, start=position, end=min(end, position + PART_BYTES))
            yield bytes(part)

    def _size(self, name: str) -> int:
        import obstore

        with translated(f"HEAD of {name}"):
            return int(obstore.head(self._store, name)["size"])

    def is_finished(self, row: PartialRow, name: str) -> bool:
        """True when the object's bytes have the clip's hash."""
        digest = hashlib.sha256()
        try:
            if self._size(name) != row.size_bytes:
                return False
            for block in self._read(name, 0, row.size_bytes):
                digest.update(block)
        except FileNotFoundError:
            return False
        return digest.hexdigest() == row.key.sha256

    def delete(self, names: Iterable[str]) -> None:
        """Delete all; those that are not there are deleted already."""
        import obstore

        waiting = list(names)
        try:
            with translated(f"DELETE of {len(waiting)} objects"):
                obstore.delete(self._store, waiting)  # one request for many, where the store has such a thing
        except FileNotFoundError:
            for name in waiting:
                with suppress(FileNotFoundError), translated(f"DELETE of {name}"):
                    obstore.delete(self._store, name)

    def strays(self, partials: Sequence[PartialRow], before_wall_ns: int) -> Iterator[list[str]]:
        """Old segments. One without a row: its receiver died between the PUT and the commit, or the PUT failed half."""
        import obstore

        pages = iter(obstore.list(self._store, "partial/", chunk_size=NAMES_AT_ONCE))
        while True:
            with translated("LIST of partial/"):
                page = next(pages, None)
            if page is None:
                return
            before_s = before_wall_ns / NANOSECONDS_PER_SECOND
            old = [entry["path"] for entry in page if entry["last_modified"].timestamp() < before_s]
            if old:
                yield old

    def local_copy(self, name: str) -> AbstractContextManager[Path]:
        """A download without a name of its own: nothing is left of it, however this process ends."""
        return self._downloaded(name)

    @contextmanager
    def _downloaded(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            for block in self._read(name, 0, self._size(name)):
                file.write(block)
            file.flush()
            yield Path(f"/proc/self/fd/{file.fileno()}")
