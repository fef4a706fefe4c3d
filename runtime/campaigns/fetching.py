"""python-tuf's fetcher over the uplink: one file, part by part, with every bound that a hostile server must meet.

A server may answer with anything; what ends a fetch, and under which reason, is in `PullFetcher._parts`. One fetcher
serves one update and holds its whole allowance of bytes and time, so that an update ends however many files it has.
python-tuf itself refuses a file that grows beyond its signed (or, for the first metadata, its configured) length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from runtime.campaigns.reasons import FetchError

PART_BYTES = 128 * 1024
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a file and the length that the server gives for the whole."""

    size_bytes: int
    data: bytes


class Puller(Protocol):
    """Where files come from."""

    def pull(self, path: str, offset: int, length: int) -> Part | None:
        """At most `length` bytes from `offset`; None when there is no such file. Raises FetchError."""


@dataclass(frozen=True, slots=True)
class UpdateAllowance:
    """What one update may take altogether."""

    max_bytes: int = 600_000_000
    max_seconds: float = 3600.0


class PullFetcher(FetcherInterface):
    """See the module."""

    def __init__(self, puller: Puller, allowance: UpdateAllowance, now_s: Callable[[], float] = time.monotonic) -> None:
        self.received_bytes = 0
        self._puller = puller
        self._allowance = allowance
        self._now_s = now_s
        self._deadline_s = now_s() + allowance.max_seconds

    def _fetch(self, url: str) -> Iterator[bytes]:
        first = self._part(url, 0)
        if first is None:
            raise DownloadHTTPError(f"{url} is not there", NOT_FOUND)
        return self._parts(url, first)

    def _parts(self, url: str, part: Part) -> Iterator[bytes]:
        size_bytes, offset = part.size_bytes, 0
        while True:
            if part.size_bytes != size_bytes:
                raise FetchError("wrong_content", f"{url} changed its length from {size_bytes} to {part.size_bytes}")
            if len(part.data) > min(PART_BYTES, size_bytes - offset):
                raise FetchError("endless_data", f"{url}: more bytes than were asked for")
            offset += len(part.data)
            if len(part.data) == 0 and offset < size_bytes:
                raise FetchError("truncated", f"{url} ended after {offset} of {size_bytes} bytes")
            if len(part.data) < PART_BYTES and offset < size_bytes:
                raise FetchError("slow_data", f"{url} trickles: {len(part.data)} bytes where {PART_BYTES} were due")
            if part.data:
                yield part.data
            if offset == size_bytes:
                return
            following = self._part(url, offset)
            if following is None:
                raise FetchError("truncated", f"{url} vanished after {offset} of {size_bytes} bytes")
            part = following

    def _part(self, url: str, offset: int) -> Part | None:
        if self._now_s() > self._deadline_s:
            raise FetchError("slow_data", f"the update takes longer than {self._allowance.max_seconds:g} s")
        part = self._puller.pull(url, offset, PART_BYTES)
        if part is not None:
            self.received_bytes += len(part.data)
        if self.received_bytes > self._allowance.max_bytes:
            raise FetchError("endless_data", f"the update takes more than {self._allowance.max_bytes} bytes")
        return part
