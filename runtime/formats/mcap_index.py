"""Where the records of an MCAP file lie: by its summary or, where there is none, by reading it from the start.

A writer that died leaves a file without summary and footer whose last record may be torn. `index_file` reads such
a file to its last whole record and says where it stopped. A summary that lists a byte twice is not believed: a small
file could be read for hours by it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from mcap.opcode import Opcode
from mcap.reader import FOOTER_SIZE
from mcap.records import Channel, ChunkIndex, Footer, Schema

from runtime.formats.mcap_records import (
    END_OF_TIME_NS,
    MAGIC,
    MAX_LISTED_DAMAGE,
    MESSAGE_HEADER,
    PARSE_ERRORS,
    RECORD_HEADER,
    McapFileError,
    RecordFile,
    chunk_data,
    records_within,
    stream_of,
    unpacked_limit_bytes,
    whole_records,
    why,
)

_CHUNK_TIMES = struct.Struct("<QQ")


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
    unpacked_bytes: int = 0  # of chunks that were decompressed to find out


def index_file(file: RecordFile) -> FileIndex:
    """Index by the summary where there is a good one, else by reading the file from its start."""
    if file.read(0, len(MAGIC)) != MAGIC:
        raise McapFileError(f"{file.name}: not an MCAP file: it does not start with MCAP's magic bytes")
    try:
        index = _index_by_summary(file)
    except PARSE_ERRORS as error:
        index = _index_by_scan(file)
        index.damage.insert(0, f"the summary cannot be read: {why(error)}")
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
                    index.damage.append(f"the {_record_name(opcode)} at byte {offset} cannot be read: {why(error)}")
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
    if index.unpacked_bytes > unpacked_limit_bytes(file):
        raise McapFileError(f"the chunks before it unpack to {index.unpacked_bytes} bytes, too many for this file")
    records = chunk_data(content)
    index.unpacked_bytes += len(records)
    for opcode, start, end in records_within(records):
        _add_definition(index, opcode, records[start:end])
    index.chunks.append(ChunkPlace(offset, start_ns, end_ns, None))


def _record_name(opcode: int) -> str:
    try:
        return Opcode(opcode).name.lower().replace("_", " ")
    except ValueError:
        return f"record of unknown kind {opcode}"
