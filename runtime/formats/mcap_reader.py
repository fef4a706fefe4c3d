"""Reads our topics out of an MCAP file, whole or unfinished.

Messages come in order of capture time. A chunked file is read chunk by chunk (memory: the chunks that overlap one
instant, `MAX_WAITING_BYTES` of them; where more overlap, that is damage, and some messages come out of order); an
unchunked or unfinished one through an index of offsets made when it is opened. `strict` readers raise `McapFileError`
at the first damage; others skip the damaged chunk, go on, and list it in `damage`.

A reader may be shared by threads: each iterator keeps its own place.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf.message import DecodeError
from mcap.opcode import Opcode

from runtime.formats import foxglove_messages, json_messages, topics
from runtime.formats.json_schemas import SIGNALS_SCHEMA
from runtime.formats.mcap_index import ChunkPlace, FileIndex, index_file
from runtime.formats.mcap_records import (
    END_OF_TIME_NS,
    MAX_CHUNK_BYTES,
    MAX_LISTED_DAMAGE,
    MESSAGE_HEADER,
    PARSE_ERRORS,
    McapFileError,
    RecordFile,
    chunk_data,
    data_section_damage,
    read_attachment,
    read_metadata,
    records_within,
    unpacked_limit_bytes,
)
from runtime.formats.tick_records import RecordedTick, decode_tick
from runtime.formats.topics import TICK, ChannelSpec
from runtime.messages import Packet, SignalSample

#: Twice the largest chunk: writers overlap by one at most.
MAX_WAITING_BYTES = 2 * MAX_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One message as it lies in the file."""

    channel: ChannelSpec
    time_ns: int
    wall_ns: int
    sequence: int
    data: bytes

    @property
    def topic(self) -> str:
        """The channel's topic."""
        return self.channel.topic

    def packet(self) -> Packet:
        """The camera packet of a video message or a thumbnail; McapFileError when it holds something else."""
        camera = self.channel.metadata.get("camera") or topics.camera_of(self.topic) or self.topic
        transcoded = self.channel.metadata.get("transcoded") == "true"
        try:
            if self.channel.schema_name == topics.THUMBNAIL_SCHEMA:
                return foxglove_messages.decode_thumbnail(self.data, camera, self.time_ns, self.wall_ns, self.sequence)
            return foxglove_messages.decode_video(
                self.data, camera, self.time_ns, self.wall_ns, self.sequence, transcoded
            )
        except DecodeError as error:
            raise McapFileError(f"{self.topic}: the message at {self.time_ns} ns is no video: {error}") from error

    def json(self) -> dict[str, Any]:
        """The fields of a JSON message; McapFileError when it holds something else."""
        try:
            fields = json.loads(self.data)
        except (ValueError, RecursionError) as error:
            raise McapFileError(f"{self.topic}: the message at {self.time_ns} ns is no JSON: {error}") from error
        if not isinstance(fields, dict):
            raise McapFileError(f"{self.topic}: the message at {self.time_ns} ns is no JSON object")
        return fields

    def signals(self) -> list[SignalSample]:
        """The samples of a signals message; McapFileError when it holds something else."""
        try:
            return json_messages.decode_signals(self.data, self.topic.lstrip("/"), self.time_ns)
        except (ValueError, AttributeError, RecursionError) as error:
            raise McapFileError(f"{self.topic}: the message at {self.time_ns} ns is no signals: {error}") from error


class McapTopicReader:
    """One MCAP file, open for reading."""

    def __init__(self, path: Path | str, *, strict: bool = False) -> None:
        """McapFileError when it is no MCAP file; OSError when it cannot be opened."""
        self.path = Path(path)
        self._strict = strict
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._file = RecordFile(self._descriptor, str(self.path))
            self._index: FileIndex = index_file(self._file)
            self.damage: list[str] = list(self._index.damage)
            if strict and self.damage:
                raise McapFileError(f"{self.path}: {'; '.join(self.damage)}")
            self.channels = {number: self._spec(number) for number in self._index.channels}
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> McapTopicReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; iterators that are still open end with an error."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def is_finished(self) -> bool:
        """True when the writer finished the file; False when it stops at its last whole record."""
        return self._index.is_finished

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that has a channel, sorted."""
        return tuple(sorted({channel.topic for channel in self.channels.values()}))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that have a video channel, in the order in which their channels were made."""
        ordered = (self.channels[number] for number in sorted(self.channels))
        names = (topics.camera_of(spec.topic) for spec in ordered if spec.schema_name == topics.VIDEO_SCHEMA)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def key_frames(
        self, cameras: Collection[str], start_ns: int | None = None, end_ns: int | None = None
    ) -> dict[str, list[int]]:
        """Capture times of the key frames from `start_ns` up to before `end_ns`, by reading the video."""
        found: dict[str, list[int]] = {}
        for message in self.messages({topics.video_topic(camera) for camera in cameras}, start_ns, end_ns):
            packet = message.packet()
            if packet.is_key:
                found.setdefault(packet.camera, []).append(packet.time_ns)
        return found

    @property
    def time_range_ns(self) -> tuple[int, int] | None:
        """First and last capture time, or None without messages."""
        starts = [chunk.start_ns for chunk in self._index.chunks] + [time_ns for time_ns, _, _ in self._index.loose]
        ends = [chunk.end_ns for chunk in self._index.chunks] + [time_ns for time_ns, _, _ in self._index.loose]
        return (min(starts), max(ends)) if starts else None

    # Messages

    def messages(
        self, wanted: Collection[str] | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[RawMessage]:
        """Messages of the topics `wanted` (None: all) with start <= capture time < end, in order of capture time."""
        channel_ids = {number for number, spec in self.channels.items() if wanted is None or spec.topic in wanted}
        low = 0 if start_ns is None else start_ns
        high = 2**64 if end_ns is None else end_ns
        if self._index.chunks:
            yield from self._chunked_messages(channel_ids, low, high)
        else:
            yield from self._loose_messages(channel_ids, low, high)

    def _loose_messages(self, channel_ids: set[int], low: int, high: int) -> Iterator[RawMessage]:
        for time_ns, offset, channel_id in sorted(self._index.loose):
            if low <= time_ns < high and channel_id in channel_ids:
                content = self._file.content(offset)
                yield self._raw(content, 0, len(content))

    def _chunked_messages(self, channel_ids: set[int], low: int, high: int) -> Iterator[RawMessage]:
        """Chunks may overlap in time: hold back messages that a chunk yet to be read could precede."""
        waiting: list[tuple[int, int, int, RawMessage]] = []
        unpacked_bytes = waiting_bytes = 0
        for chunk in sorted(self._index.chunks, key=lambda chunk: (chunk.start_ns, chunk.offset)):
            if chunk.end_ns < low or chunk.start_ns >= high:
                continue
            if chunk.channel_ids is not None and channel_ids.isdisjoint(chunk.channel_ids):
                continue
            if waiting_bytes > MAX_WAITING_BYTES:
                self._report(f"more than {MAX_WAITING_BYTES} bytes of chunks overlap in time: their order is not kept")
            while waiting and (waiting[0][0] < chunk.start_ns or waiting_bytes > MAX_WAITING_BYTES):
                message = heapq.heappop(waiting)[3]
                waiting_bytes -= len(message.data)
                yield message
            data = self._chunk_data(chunk, unpacked_bytes)
            unpacked_bytes += len(data)
            for position, message in self._chunk_messages(chunk, data, channel_ids):
                if low <= message.time_ns < high:
                    heapq.heappush(waiting, (message.time_ns, chunk.offset, position, message))
                    waiting_bytes += len(message.data)
        while waiting:
            yield heapq.heappop(waiting)[3]

    def _chunk_data(self, chunk: ChunkPlace, unpacked_bytes: int) -> bytes:
        """Its records; none where it is damaged, or where so much was unpacked that the file must be a trap."""
        if unpacked_bytes > unpacked_limit_bytes(self._file):
            self._report(f"its chunks unpack to more than {unpacked_bytes} bytes: the others are not read")
            return b""
        try:
            return chunk_data(self._file.content(chunk.offset))
        except PARSE_ERRORS as error:
            self._report(f"the chunk at byte {chunk.offset} cannot be read: {error}")
            return b""

    def _chunk_messages(
        self, chunk: ChunkPlace, data: bytes, channel_ids: set[int]
    ) -> Iterator[tuple[int, RawMessage]]:  # fmt: skip
        try:
            places = [(start, end) for opcode, start, end in records_within(data) if opcode == Opcode.MESSAGE]
        except PARSE_ERRORS as error:
            self._report(f"the chunk at byte {chunk.offset} cannot be read: {error}")
            return
        for start, end in places:
            if int.from_bytes(data[start : start + 2], "little") not in channel_ids:
                continue
            message = self._raw(data, start, end)
            if message.time_ns < END_OF_TIME_NS:
                yield start, message
            else:
                self._report(f"{message.topic}: time {message.time_ns} ns of a message is none that a clock can tell")

    def _raw(self, data: bytes, start: int, end: int) -> RawMessage:
        channel_id, sequence, time_ns, wall_ns = MESSAGE_HEADER.unpack_from(data, start)
        payload = data[start + MESSAGE_HEADER.size : end]
        return RawMessage(self.channels[channel_id], time_ns, wall_ns, sequence, payload)

    def _report(self, damage: str) -> None:
        if self._strict:
            raise McapFileError(f"{self.path}: {damage}")
        if len(self.damage) < MAX_LISTED_DAMAGE and damage not in self.damage:
            self.damage.append(damage)

    def _spec(self, number: int) -> ChannelSpec:
        channel = self._index.channels[number]
        schema = self._index.schemas.get(channel.schema_id)
        name, encoding, data = (schema.name, schema.encoding, schema.data) if schema else ("", "", b"")
        return ChannelSpec(channel.topic, name, encoding, data, channel.message_encoding, dict(channel.metadata))

    def check_data_section(self) -> None:
        """Compare the checksum over the whole data section, attachments and indexes included; damage as ever."""
        wrong = data_section_damage(self._file)
        if wrong is not None:
            self._report(wrong)

    # Records beside the messages

    def metadata(self) -> dict[str, dict[str, str]]:
        """Metadata records by name; of several with one name the last counts."""
        records = (read_metadata(self._file, offset) for offset in self._index.metadata_offsets)
        return {record.name: dict(record.metadata) for record in records}

    def attachments(self) -> dict[str, bytes]:
        """Attachments by name."""
        records = (read_attachment(self._file, offset) for offset in self._index.attachment_offsets)
        return {record.name: record.data for record in records}

    # Our vocabulary

    def packets(self, camera: str, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Packet]:
        """The packets of one camera."""
        for message in self.messages({topics.video_topic(camera)}, start_ns, end_ns):
            yield message.packet()

    def thumbnails(self, camera: str, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[Packet]:
        """The thumbnails of one camera."""
        for message in self.messages({topics.thumbnail_topic(camera)}, start_ns, end_ns):
            yield message.packet()

    @property
    def signal_topics(self) -> tuple[str, ...]:
        """Topics that hold signals, whatever their namespace."""
        found = {spec.topic for spec in self.channels.values() if spec.schema_name == SIGNALS_SCHEMA}
        return tuple(sorted(found))

    def signal_samples(self, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[SignalSample]:
        """Every signal sample, in order of time."""
        for message in self.messages(self.signal_topics, start_ns, end_ns):
            yield from message.signals()

    def ticks(self, start_ns: int | None = None, end_ns: int | None = None) -> Iterator[RecordedTick]:
        """What every recorded tick says; McapFileError for one that cannot be read (of an older version, say)."""
        for message in self.messages({TICK}, start_ns, end_ns):
            try:
                yield decode_tick(message.data)
            except ValueError as error:
                raise McapFileError(f"{self.path}: the tick at {message.time_ns} ns: {error}") from error
