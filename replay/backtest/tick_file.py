"""Recorded ticks as a file: written once, front to back; read block by block.

    magic "SRTICKS\\n", version u32
    records:  kind u8 ('B' block, 'E' end), length u64, BLAKE2b-128 of the data, data = zstd(msgpack)
    offset of the end record u64

The end record holds the drive's facts (`DriveFacts`). A file without it, or with a record whose digest is wrong, is
damaged: readers raise `TickFileError`, and whoever holds the drive records it anew. The file appears under its name
only when it is whole (written beside it, synced, renamed). Memory: one block. Bounds: `MAX_TICKS`, `MAX_RECORD_BYTES`.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgpack
import zstandard

from replay.backtest.recorded_ticks import FORMAT_VERSION, Block
from runtime.formats.durable_files import rename_durably, sync_file
from triggers.rules.applicability import Capabilities

MAGIC = b"SRTICKS\n"
HEAD = struct.Struct("<8sI")
RECORD = struct.Struct("<cQ16s")
TAIL = struct.Struct("<Q")
BLOCK, END = b"B", b"E"
#: A day of ticks at 36 Hz.
MAX_TICKS = 3_200_000
#: A block of 2000 ticks with 512 tracks each has about 10^6 rows of 30 columns.
MAX_RECORD_BYTES = 1 << 30


class TickFileError(ValueError):
    """The file is damaged, unfinished or of another version."""


@dataclass(frozen=True, slots=True)
class CameraRate:
    """What one camera recorded."""

    codec: str | None  # None: not one packet
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class DriveFacts:
    """What a backtest wants to know of a drive besides its ticks."""

    name: str
    start_ns: int
    duration_s: float
    ticks: int
    cameras: Mapping[str, CameraRate]
    #: What rules can count on with this model, rig and drive; `signals` are those that were known at least once.
    capabilities: Capabilities
    image_sizes: Mapping[str, tuple[int, int]]
    model: Mapping[str, str] | None
    notes: tuple[str, ...] = ()  # what was wrong with the drive: damage, dead cameras, frames missing

    @property
    def bytes_per_s(self) -> dict[str, float]:
        """What each camera recorded a second."""
        return {camera: rate.bytes_per_s for camera, rate in self.cameras.items()}

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> DriveFacts:
        """The inverse of `dataclasses.asdict`. Raises TickFileError."""
        try:
            cameras = {name: CameraRate(**rate) for name, rate in fields["cameras"].items()}
            capabilities = _capabilities_from_dict(fields["capabilities"])
            sizes = {name: (int(width), int(height)) for name, (width, height) in fields["image_sizes"].items()}
            made = {"cameras": cameras, "capabilities": capabilities, "image_sizes": sizes}
            return DriveFacts(**{**fields, **made, "notes": tuple(fields["notes"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TickFileError(f"its facts are damaged ({type(error).__name__}: {error})") from error


def facts_to_dict(facts: DriveFacts) -> dict[str, Any]:
    """As msgpack can hold it: sets as sorted lists."""
    fields = asdict(facts)
    said = fields["capabilities"]
    fields["capabilities"] = {
        name: sorted(value) if isinstance(value, frozenset) else value for name, value in said.items()
    }
    return fields


def _capabilities_from_dict(fields: Mapping[str, Any]) -> Capabilities:
    made: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Capabilities(**made)


class TickFileWriter:
    """Writes one file; `finish` puts it in its place, leaving without it removes what was written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        self._stream: BinaryIO = self._temporary.open("wb")
        self._stream.write(HEAD.pack(MAGIC, FORMAT_VERSION))
        self._compressor = zstandard.ZstdCompressor(level=3)

    def __enter__(self) -> TickFileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, block: Block) -> None:
        """Append a block."""
        self._record(BLOCK, block)

    def finish(self, facts: DriveFacts) -> None:
        """Write the end and let the file appear."""
        offset = self._stream.tell()
        self._record(END, facts_to_dict(facts))
        self._stream.write(TAIL.pack(offset))
        self._stream.close()
        sync_file(self._temporary)
        rename_durably(self._temporary, self._path)

    def _record(self, kind: bytes, content: Mapping[str, Any]) -> None:
        data = self._compressor.compress(msgpack.packb(content))
        self._stream.write(RECORD.pack(kind, len(data), _digest(data)))
        self._stream.write(data)


@dataclass(slots=True)
class TickFile:
    """A whole file, its end checked; blocks are checked as they are read."""

    path: Path
    facts: DriveFacts
    _end: int = field(repr=False)

    @staticmethod
    def open(path: Path) -> TickFile:
        """Raises TickFileError, OSError."""
        with path.open("rb") as stream:
            head = stream.read(HEAD.size)
            if len(head) < HEAD.size or HEAD.unpack(head) != (MAGIC, FORMAT_VERSION):
                raise TickFileError("is no file of recorded ticks of this version")
            size = stream.seek(0, os.SEEK_END)
            if size < HEAD.size + RECORD.size + TAIL.size:
                raise TickFileError("is cut off")
            stream.seek(size - TAIL.size)
            (end,) = TAIL.unpack(stream.read(TAIL.size))
            if not HEAD.size <= end <= size - TAIL.size - RECORD.size:
                raise TickFileError("is cut off")
            stream.seek(end)
            kind, content = _read_record(stream)
            if kind != END:
                raise TickFileError("has no end")
            return TickFile(path, DriveFacts.from_dict(content), end)

    def of(self, name: str) -> TickFile:
        """The same ticks for a drive that goes by another name now."""
        return TickFile(self.path, replace(self.facts, name=name), self._end)

    def verify(self) -> None:
        """Read every record once, without unpacking it. Raises TickFileError at the first damaged one."""
        with self.path.open("rb") as stream:
            stream.seek(HEAD.size)
            while stream.tell() < self._end:
                _read_data(stream)

    def blocks(self) -> Iterator[Block]:
        """Every block, in order. Raises TickFileError at the first damaged one."""
        with self.path.open("rb") as stream:
            stream.seek(HEAD.size)
            while stream.tell() < self._end:
                kind, content = _read_record(stream)
                if kind != BLOCK:
                    raise TickFileError("holds a record that is no block")
                yield content


def _read_record(stream: BinaryIO) -> tuple[bytes, dict[str, Any]]:
    kind, data = _read_data(stream)
    return kind, _unpacked(data)


def _read_data(stream: BinaryIO) -> tuple[bytes, bytes]:
    head = stream.read(RECORD.size)
    if len(head) < RECORD.size:
        raise TickFileError("is cut off")
    kind, length, digest = RECORD.unpack(head)
    if length > MAX_RECORD_BYTES:
        raise TickFileError("has a record beyond all bounds")
    data = stream.read(length)
    if len(data) < length or _digest(data) != digest:
        raise TickFileError("is damaged: a checksum is wrong")
    return kind, data


def _unpacked(data: bytes) -> dict[str, Any]:
    try:
        # One frame says how large it is; a frame that says too much is refused before memory is asked for.
        if not 0 <= zstandard.frame_content_size(data) <= MAX_RECORD_BYTES:
            raise TickFileError("has a record beyond all bounds")
        content = msgpack.unpackb(zstandard.ZstdDecompressor().decompress(data), strict_map_key=True)
    except (zstandard.ZstdError, msgpack.UnpackException, ValueError) as error:
        raise TickFileError(f"is damaged ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict):
        raise TickFileError("is damaged: a record is no map")
    return content


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
