"""The records of an MCAP file, one by one; `mcap_index` says where they lie.

Lengths are checked against the file's size before anything is read, and chunks against `MAX_CHUNK_BYTES` before they
are decompressed: damage cannot exhaust memory, nor time (`unpacked_limit_bytes`). Reads use `pread`: any number of
threads may read through one descriptor, and nothing is mapped (a truncated mapping would be a bus error).

MCAP specification: https://mcap.dev/spec (record = opcode u8, length u64, content).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import TypeAlias

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Chunk, Metadata
from mcap.stream_reader import get_chunk_data_stream

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEADER = struct.Struct("<BQ")
MESSAGE_HEADER = struct.Struct("<HIQQ")  # channel id, sequence, log time, publish time
_CRC_BLOCK_BYTES = 1 << 20
#: Writers make chunks of a megabyte or a few; a damaged or hostile size must not exhaust memory.
MAX_CHUNK_BYTES = 256 * 1024 * 1024
_LZ4_MAX_RATIO = 255
#: All chunks of a file together unpack to so many times its size at most: recordings of signals alone come to 20.
MAX_UNPACKED_RATIO = 200
#: A file of nothing but damage has millions; so many are told.
MAX_LISTED_DAMAGE = 1000
#: No clock comes this far (146 years); MCAP's own times go to 2**64, which no signed integer holds.
END_OF_TIME_NS = 1 << 62

#: All that parsing damaged bytes may raise.
PARSE_ERRORS = (McapError, struct.error, ValueError, KeyError, OverflowError, zstandard.ZstdError, RuntimeError)

#: Where one message lies in a buffer: channel id, sequence, log time, publish time, start and end of its data.
MessagePlace: TypeAlias = "tuple[int, int, int, int, int, int]"


class McapFileError(ValueError):
    """An MCAP file that cannot be read as asked. Names the file, what is wrong and where."""


class RecordFile:
    """Records by offset, from one open file whose size is fixed when it is opened."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    def header(self, offset: int) -> tuple[int, int] | None:
        """Opcode and content length of the record at `offset`, or None when it is not whole."""
        raw = self.read(offset, RECORD_HEADER.size)
        if len(raw) < RECORD_HEADER.size:
            return None
        opcode, length = RECORD_HEADER.unpack(raw)
        return (opcode, length) if offset + RECORD_HEADER.size + length <= self.size else None

    def content(self, offset: int) -> bytes:
        """The content of the record at `offset`; McapFileError when it is torn."""
        header = self.header(offset)
        if header is None:
            raise McapFileError(f"{self.name}: the record at byte {offset} is cut off at the end of the file")
        return self.read(offset + RECORD_HEADER.size, header[1])

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, fewer at its end, none beyond it."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        return os.pread(self._descriptor, length, offset)


def whole_records(file: RecordFile, start: int) -> Iterator[tuple[int, int]]:
    """(offset, opcode) of every whole record from `start` to the end of the file or the first torn one."""
    offset = start
    header = file.header(offset)
    while header is not None:
        yield offset, header[0]
        if header[0] == Opcode.FOOTER:
            return
        offset += RECORD_HEADER.size + header[1]
        header = file.header(offset)


def data_section_damage(file: RecordFile) -> str | None:
    """What is wrong with the checksum over everything before the summary; None when it is right or was not written."""
    for offset, opcode in whole_records(file, len(MAGIC)):
        if opcode == Opcode.DATA_END:
            expected = int.from_bytes(file.content(offset), "little")
            if expected not in (0, _crc_until(file, offset)):
                return f"the checksum over bytes 0 to {offset} is wrong: something in there changed"
            return None
    return "the end of the data section is missing"


def _crc_until(file: RecordFile, end: int) -> int:
    crc = 0
    for offset in range(0, end, _CRC_BLOCK_BYTES):
        crc = zlib.crc32(file.read(offset, min(_CRC_BLOCK_BYTES, end - offset)), crc)
    return crc


def chunk_data(content: bytes) -> bytes:
    """The records inside a chunk record, decompressed and checked against its CRC."""
    chunk = Chunk.read(stream_of(content))
    claimed_bytes = chunk.uncompressed_size
    if chunk.compression == "zstd":
        claimed_bytes = max(claimed_bytes, zstandard.frame_content_size(chunk.data))
    elif chunk.compression == "lz4":
        claimed_bytes = max(claimed_bytes, len(chunk.data) * _LZ4_MAX_RATIO)
    if claimed_bytes > MAX_CHUNK_BYTES:
        raise McapFileError(f"it may decompress to {claimed_bytes} bytes, at most {MAX_CHUNK_BYTES} are read")
    stream, length = get_chunk_data_stream(chunk, validate_crc=True)
    return bytes(stream.read(length))


def unpacked_limit_bytes(file: RecordFile) -> int:
    """What one reading of a file may decompress: a small one could keep a reader busy for hours."""
    return MAX_CHUNK_BYTES + MAX_UNPACKED_RATIO * file.size


def records_within(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(opcode, start, end) of the content of every record in a chunk's data."""
    position = 0
    while position < len(data):
        opcode, length = RECORD_HEADER.unpack_from(data, position)
        start = position + RECORD_HEADER.size
        position = start + length
        if position > len(data):
            raise McapFileError("a record in it is longer than the chunk")
        if opcode == Opcode.MESSAGE and length < MESSAGE_HEADER.size:
            raise McapFileError("a message in it is shorter than its header")
        yield opcode, start, position


def stream_of(content: bytes) -> ReadDataStream:
    """The `mcap` package's own reader over the content of one record."""
    return ReadDataStream(BytesIO(content))


def read_metadata(file: RecordFile, offset: int) -> Metadata:
    """The metadata record at `offset`."""
    try:
        metadata: Metadata = Metadata.read(stream_of(file.content(offset)))
    except PARSE_ERRORS as error:
        raise McapFileError(f"{file.name}: the metadata at byte {offset} cannot be read: {why(error)}") from error
    return metadata


def read_attachment(file: RecordFile, offset: int) -> Attachment:
    """The attachment record at `offset`."""
    try:
        attachment: Attachment = Attachment.read(stream_of(file.content(offset)))
    except PARSE_ERRORS as error:
        raise McapFileError(f"{file.name}: the attachment at byte {offset} cannot be read: {why(error)}") from error
    return attachment


def why(error: Exception) -> str:
    """Some of the parser's errors have no text of their own."""
    return str(error) or type(error).__name__
