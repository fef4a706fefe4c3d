"""The records of an MCAP file, found either by its summary or, where there is none, by reading it from the start.

A writer that died leaves a file without summary and footer whose last record may be torn. `index_file` reads such
a file to its last whole record and says where it stopped. Lengths are checked against the file's size before anything
is read, and chunks against `MAX_CHUNK_BYTES` before they are decompressed: damage cannot exhaust memory. A summary that
lists a byte twice is not believed: a small file could be read for hours by it. Reads use
`pread`: any number of threads may read through one descriptor, and nothing is mapped (a truncated mapping would be a
bus error).

MCAP specification: https://mcap.dev/spec (record = opcode u8, length u64, content).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import TypeAlias

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import FOOTER_SIZE
from mcap.records import Attachment, Channel, Chunk, ChunkIndex, Footer, Metadata, Schema
from mcap.stream_reader import get_chunk_data_stream

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEADER = struct.Struct("<BQ")
MESSAGE_HEADER = struct.Struct("<HIQQ")  # channel id, sequence, log time, publish time
_CHUNK_TIMES = struct.Struct("<QQ")
_CRC_BLOCK_BYTES = 1 << 20
#: Writers make chunks of a megabyte or a few; a damaged or hostile size must not exhaust memory.
MAX_CHUNK_BYTES = 256 * 1024 * 1024
_LZ4_MAX_RATIO = 255
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


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """A chunk record: where it starts, and the log times inside."""

    offset: int
    start_ns: int
    end_ns: int
    channel_ids: frozenset[int] | None  # None: not known before it is read


@dataclass(slots=True)
class FileIndex:
    """What is known of a file without having read its messages."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkPlace] = field(default_factory=list)
    #: Messages outside chunks: log time, offset of the record, channel id.
    loose: list[tuple[int, int, int]] = field(default_factory=list)
    metadata_offsets: list[int] = field(default_factory=list)
    attachment_offsets: list[int] = field(default_factory=list)
    is_finished: bool = False  # the footer is there
    damage: list[str] = field(default_factory=list)


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


def index_file(file: RecordFile) -> FileIndex:
    """Index by the summary where there is a good one, else by reading the file from its start."""
    if file.read(0, len(MAGIC)) != MAGIC:
        raise McapFileError(f"{file.name}: not an MCAP file: it does not start with MCAP's magic bytes")
    try:
        index = _index_by_summary(file)
    except PARSE_ERRORS as error:
        index = _index_by_scan(file)
        index.damage.insert(0, f"the summary cannot be read: {_why(error)}")
        return index
    return index if index is not None else _index_by_scan(file)


def _index_by_summary(file: RecordFile) -> FileIndex | None:
    """None when there is no footer, no summary, or nothing in it that leads to the messages."""
    footer_offset = file.size - len(MAGIC) - FOOTER_SIZE
    header = file.header(footer_offset) if footer_offset > 0 else None
    if header is None or header[0] != Opcode.FOOTER or file.read(file.size - len(MAGIC), len(MAGIC)) != MAGIC:
        return None
    footer = Footer.read(stream_of(file.content(footer_offset)))
    if footer.summary_start == 0:
        return None
    raw = file.read(footer.summary_start, footer_offset + RECORD_HEADER.size + 16 - footer.summary_start)
    if footer.summary_crc and zlib.crc32(raw) != footer.summary_crc:
        raise McapFileError("its checksum is wrong")
    index = FileIndex(is_finished=True)
    for offset, opcode in whole_records(file, footer.summary_start):
        _add_summary_record(index, opcode, file.content(offset))
    _check_places(file, index)
    return index if index.chunks else None


def _check_places(file: RecordFile, index: FileIndex) -> None:
    """McapFileError where records that the summary lists overlap, or are one and the same."""
    end = 0
    for offset in sorted(
        [*(chunk.offset for chunk in index.chunks), *index.metadata_offsets, *index.attachment_offsets]
    ):
        if offset < end:
            raise McapFileError(f"it lists a record at byte {offset}, inside another one that ends at byte {end}")
        header = file.header(offset)
        end = offset + 1 if header is None else offset + RECORD_HEADER.size + header[1]


def _add_summary_record(index: FileIndex, opcode: int, content: bytes) -> None:
    if opcode == Opcode.CHUNK_INDEX:
        chunk = ChunkIndex.read(stream_of(content))
        channels = frozenset(chunk.message_index_offsets) or None
        place = ChunkPlace(chunk.chunk_start_offset, chunk.message_start_time, chunk.message_end_time, channels)
        index.chunks.append(place)
    elif opcode in (Opcode.METADATA_INDEX, Opcode.ATTACHMENT_INDEX):
        offsets = index.metadata_offsets if opcode == Opcode.METADATA_INDEX else index.attachment_offsets
        offsets.append(struct.unpack_from("<Q", content)[0])
    else:
        _add_definition(index, opcode, content)


def _add_definition(index: FileIndex, opcode: int, content: bytes) -> None:
    if opcode == Opcode.SCHEMA:
        schema = Schema.read(stream_of(content))
        index.schemas[schema.id] = schema
    elif opcode == Opcode.CHANNEL:
        channel = Channel.read(stream_of(content))
        index.channels[channel.id] = channel


def _index_by_scan(file: RecordFile) -> FileIndex:
    index = FileIndex()
    position = len(MAGIC)
    for offset, opcode in whole_records(file, position):
        position = offset
        if opcode in (Opcode.DATA_END, Opcode.FOOTER):
            index.is_finished = index.is_finished or opcode == Opcode.FOOTER
            continue
        if not index.is_finished:
            try:
                _add_scanned_record(index, file, offset, opcode)
            except PARSE_ERRORS as error:
                if len(index.damage) < MAX_LISTED_DAMAGE:
                    index.damage.append(f"the {_record_name(opcode)} at byte {offset} cannot be read: {_why(error)}")
    if index.is_finished and file.read(file.size - len(MAGIC), len(MAGIC)) != MAGIC:
        index.damage.append("the file does not end with MCAP's magic bytes")
    if not index.is_finished:
        header = file.header(position)
        end = position + RECORD_HEADER.size + header[1] if header else position
        index.damage.append(f"the file is unfinished: it reads to byte {end} of {file.size}")
    return index


def _add_scanned_record(index: FileIndex, file: RecordFile, offset: int, opcode: int) -> None:
    if opcode == Opcode.MESSAGE:
        raw = file.read(offset + RECORD_HEADER.size, MESSAGE_HEADER.size)
        header = file.header(offset)
        if header is None or header[1] < MESSAGE_HEADER.size:
            raise McapFileError("it is shorter than a message's header")
        channel_id, _, log_time_ns, _ = MESSAGE_HEADER.unpack(raw)
        if channel_id not in index.channels:
            raise McapFileError(f"its channel {channel_id} is not defined")
        if log_time_ns >= END_OF_TIME_NS:
            raise McapFileError(f"its time {log_time_ns} ns is none that a clock can tell")
        index.loose.append((log_time_ns, offset, channel_id))
    elif opcode == Opcode.METADATA:
        index.metadata_offsets.append(offset)
    elif opcode == Opcode.ATTACHMENT:
        index.attachment_offsets.append(offset)
    elif opcode == Opcode.CHUNK:
        _add_scanned_chunk(index, file, offset)
    else:
        _add_definition(index, opcode, file.content(offset))


def _add_scanned_chunk(index: FileIndex, file: RecordFile, offset: int) -> None:
    content = file.content(offset)
    start_ns, end_ns = _CHUNK_TIMES.unpack_from(content)
    records = chunk_data(content)
    for opcode, start, end in records_within(records):
        _add_definition(index, opcode, records[start:end])
    index.chunks.append(ChunkPlace(offset, start_ns, end_ns, None))


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
        raise McapFileError(f"{file.name}: the metadata at byte {offset} cannot be read: {_why(error)}") from error
    return metadata


def read_attachment(file: RecordFile, offset: int) -> Attachment:
    """The attachment record at `offset`."""
    try:
        attachment: Attachment = Attachment.read(stream_of(file.content(offset)))
    except PARSE_ERRORS as error:
        raise McapFileError(f"{file.name}: the attachment at byte {offset} cannot be read: {_why(error)}") from error
    return attachment


def _record_name(opcode: int) -> str:
    try:
        return Opcode(opcode).name.lower().replace("_", " ")
    except ValueError:
        return f"record of unknown kind {opcode}"


def _why(error: Exception) -> str:
    """Some of the parser's errors have no text of their own."""
    return str(error) or type(error).__name__
