"""Writes an MCAP file without chunks: the same bytes as `mcap.Writer`, at a small part of its cost for a message.

History is such a file. A message is one `struct` and its data, put into a list; `send` hands all that is in the list to
the stream in one write. Between two sends nothing reaches the file: whoever writes decides how much that may be
(`held_bytes`). Everything that is rare (header, schemas, channels, metadata, summary) is made of the `mcap` package's
own records. A send that fails takes what it held with it: the file ends with the record before it.

MCAP specification: https://mcap.dev/spec.
"""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import IO

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from runtime.formats.mcap_records import MAGIC, MESSAGE_HEADER, RECORD_HEADER

#: Both headers of a message: opcode, length; channel id, sequence, log time, publish time.
_MESSAGE = struct.Struct(RECORD_HEADER.format + MESSAGE_HEADER.format.removeprefix("<"))
_FOOTER_START = struct.Struct("<BQQQ")
_FOOTER_BYTES = 20


class LooseMcapWriter:
    """One file; `stream` needs `write` and `tell`."""

    def __init__(self, stream: IO[bytes], library: str) -> None:
        self._stream = stream
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._metadata: list[MetadataIndex] = []
        self._attachments: list[AttachmentIndex] = []
        self._counts: dict[int, int] = defaultdict(int)  # of messages, by channel
        self._first_ns: int | None = None
        self._last_ns = 0
        #: Bytes of records that no `send` has written yet.
        self.held_bytes = 0
        self._held: list[bytes] = []
        self._hold(MAGIC)
        self._hold(_bytes_of([Header("", library)]))
        self.send()

    def register_schema(self, name: str, encoding: str, data: bytes) -> int:
        """A new schema's number."""
        self._schemas.append(Schema(id=len(self._schemas) + 1, data=data, encoding=encoding, name=name))
        self._hold(_bytes_of(self._schemas[-1:]))
        return len(self._schemas)

    def register_channel(self, topic: str, encoding: str, schema_id: int, metadata: Mapping[str, str]) -> int:
        """A new channel's number."""
        number = len(self._channels) + 1
        self._channels.append(Channel(number, topic, encoding, dict(metadata), schema_id))
        self._hold(_bytes_of(self._channels[-1:]))
        return number

    def add_message(self, channel_id: int, time_ns: int, data: bytes, publish_ns: int, sequence: int) -> None:
        """A message, which the next `send` writes."""
        length = MESSAGE_HEADER.size + len(data)
        self._hold(_MESSAGE.pack(Opcode.MESSAGE, length, channel_id, sequence, time_ns, publish_ns))
        self._hold(data)
        self._counts[channel_id] += 1
        self._first_ns = time_ns if self._first_ns is None else min(self._first_ns, time_ns)
        self._last_ns = max(self._last_ns, time_ns)

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """A metadata record, written at once with all before it."""
        record = _bytes_of([Metadata(name=name, metadata=dict(values))])
        self._metadata.append(
            MetadataIndex(offset=self._stream.tell() + self.held_bytes, length=len(record), name=name)
        )
        self._hold(record)
        self.send()

    def add_attachment(self, name: str, media_type: str, data: bytes, time_ns: int) -> None:
        """An attachment, written at once with all before it."""
        attachment = Attachment(create_time=time_ns, log_time=time_ns, name=name, media_type=media_type, data=data)
        record, offset = _bytes_of([attachment]), self._stream.tell() + self.held_bytes
        index = AttachmentIndex(offset, len(record), time_ns, time_ns, len(data), name, media_type)
        self._attachments.append(index)
        self._hold(record)
        self.send()

    def send(self) -> None:
        """Write what is held. OSError: none of it is in the file, if the stream undoes what it cannot write whole."""
        if not self._held:
            return
        data = b"".join(self._held)
        self._held.clear()
        self.held_bytes = 0
        self._stream.write(data)

    def finish(self) -> None:
        """Write the summary and the footer."""
        self._hold(_bytes_of([DataEnd(0)]))
        self.send()
        start = self._stream.tell()
        groups: list[tuple[Opcode, list[McapRecord]]] = [
            (Opcode.SCHEMA, [*self._schemas]),
            (Opcode.CHANNEL, [*self._channels]),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, []),
            (Opcode.ATTACHMENT_INDEX, [*self._attachments]),
            (Opcode.METADATA_INDEX, [*self._metadata]),
        ]
        offsets: list[McapRecord] = []
        end = start
        for opcode, records in groups:
            group = _bytes_of(records)
            offsets.append(SummaryOffset(group_opcode=opcode, group_start=end, group_length=len(group)))
            self._hold(group)
            end += len(group)
        self._hold(_bytes_of(offsets))
        crc = zlib.crc32(_FOOTER_START.pack(Opcode.FOOTER, _FOOTER_BYTES, start, end), zlib.crc32(b"".join(self._held)))
        self._hold(_bytes_of([Footer(summary_start=start, summary_offset_start=end, summary_crc=crc)]))
        self._hold(MAGIC)
        self.send()

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=0,
            message_count=sum(self._counts.values()),
            metadata_count=len(self._metadata),
            message_start_time=self._first_ns or 0,
            message_end_time=self._last_ns,
            schema_count=len(self._schemas),
        )

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self.held_bytes += len(data)


def _bytes_of(records: Iterable[McapRecord]) -> bytes:
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    return bytes(builder.end())  # type: ignore[no-untyped-call]
