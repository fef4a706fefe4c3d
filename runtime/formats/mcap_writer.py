"""Writes our topics into an MCAP file.

Two shapes, one class:
- *chunked* (clips, drives): messages gathered in compressed chunks with CRCs and indexes, so that a reader can seek;
- *unchunked* (history): messages reach the file as whole records in one write: one for each `write`, or all since the
  last `send` where `holds` is set. Whatever happens to this process, the file reads to its last whole record.

A channel (and its schema) is registered when its first message arrives. `finish` writes the summary and the footer; a
file without them is readable by `McapTopicReader`, which then knows that it is unfinished.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mcap.writer import CompressionType, Writer

from runtime.formats import foxglove_messages, json_messages, tick_records, topics
from runtime.formats.mcap_loose import LooseMcapWriter
from runtime.formats.topics import ChannelSpec
from runtime.messages import (
    Comparison,
    Firing,
    Packet,
    Prediction,
    SecondLook,
    SignalSample,
    SignalValue,
    TickReport,
    Track,
)

LIBRARY = "shadowrig"
CHUNK_BYTES = 1024 * 1024
#: MCAP's sequence is 32 bits; a source's count goes on beyond it.
_SEQUENCE_MODULUS = 2**32


class McapTopicWriter:
    """One MCAP file being written. Not thread-safe: one thread owns it."""

    def __init__(self, output: Path | str | IO[bytes], *, chunked: bool = True, wall_offset_ns: int = 0) -> None:
        """`wall_offset_ns` is wall time minus capture time, for messages that carry no wall time of their own."""
        self.wall_offset_ns = wall_offset_ns
        self._owns_stream = isinstance(output, (Path, str))
        self._stream: IO[bytes] = open(output, "wb") if isinstance(output, (Path, str)) else output  # noqa: SIM115
        self._channels: dict[str, list[tuple[ChannelSpec, int]]] = {}
        self._schemas: dict[str, int] = {}
        self._finished = False
        #: Unchunked: messages wait for `send`.
        self.holds = False
        self._loose = None if chunked else LooseMcapWriter(self._stream, LIBRARY)
        self._writer = Writer(
            self._stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD, enable_data_crcs=True
        )
        if chunked:
            self._writer.start(profile="", library=LIBRARY)

    def __enter__(self) -> McapTopicWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif self._owns_stream:
            self._stream.close()

    # Any message

    def write(
        self, channel: ChannelSpec, data: bytes, time_ns: int, wall_ns: int | None = None, sequence: int = 0
    ) -> None:
        """Append one encoded message; wall time defaults to `time_ns + wall_offset_ns`."""
        publish_ns = time_ns + self.wall_offset_ns if wall_ns is None else wall_ns
        number = sequence % _SEQUENCE_MODULUS
        channel_id = self._channel_id(channel)
        if self._loose is None:
            self._writer.add_message(channel_id, time_ns, data, publish_time=publish_ns, sequence=number)
            return
        self._loose.add_message(channel_id, time_ns, data, publish_ns, number)
        if not self.holds:
            self._loose.send()

    @property
    def held_bytes(self) -> int:
        """Unchunked: bytes that wait for `send`."""
        return 0 if self._loose is None else self._loose.held_bytes

    def send(self) -> None:
        """Unchunked: write what is held, in one write."""
        if self._loose is not None:
            self._loose.send()

    def metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Append a metadata record."""
        if self._loose is None:
            self._writer.add_metadata(name, dict(values))
        else:
            self._loose.add_metadata(name, values)

    def attachment(self, name: str, media_type: str, data: bytes, time_ns: int = 0) -> None:
        """Append an attachment."""
        if self._loose is not None:
            self._loose.add_attachment(name, media_type, data, time_ns)
            return
        self._writer.add_attachment(create_time=time_ns, log_time=time_ns, name=name, media_type=media_type, data=data)

    def flush(self) -> None:
        """Close the chunk in progress, so that what was written so far is on its way to the file."""
        if self._loose is not None:
            self._loose.send()
            return
        self._writer.flush()  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """Write indexes and footer; close the file if this writer opened it. Calling it again does nothing."""
        if self._finished:
            return
        self._finished = True
        if self._loose is None:
            self._writer.finish()  # type: ignore[no-untyped-call]
        else:
            self._loose.finish()
        self._stream.flush()
        if self._owns_stream:
            self._stream.close()

    def _channel_id(self, channel: ChannelSpec) -> int:
        known = self._channels.setdefault(channel.topic, [])
        for spec, channel_id in known:
            if spec is channel or spec == channel:
                return channel_id
        writer = self._writer if self._loose is None else self._loose
        channel_id = writer.register_channel(
            channel.topic, channel.message_encoding, self._schema_id(channel), dict(channel.metadata)
        )
        known.append((channel, channel_id))
        return channel_id

    def _schema_id(self, channel: ChannelSpec) -> int:
        if channel.schema_name not in self._schemas:
            writer = self._writer if self._loose is None else self._loose
            self._schemas[channel.schema_name] = writer.register_schema(
                channel.schema_name, channel.schema_encoding, channel.schema_data
            )
        return self._schemas[channel.schema_name]

    # Our vocabulary

    def packet(self, packet: Packet) -> None:
        """One access unit of a camera; ValueError for a codec that a recording cannot hold."""
        channel = topics.video_channel(packet.camera, packet.codec, packet.transcoded)
        self.write(channel, foxglove_messages.encode_video(packet), packet.time_ns, packet.wall_ns, packet.sequence)

    def annotations(self, camera: str, tracks: Iterable[Track], frame_time_ns: int, sequence: int = 0) -> None:
        """The boxes over one frame of one camera."""
        data = foxglove_messages.encode_annotations(tracks, frame_time_ns)
        self.write(topics.annotations_channel(camera), data, frame_time_ns, sequence=sequence)

    def calibration(
        self,
        camera: str,
        width: int,
        height: int,
        intrinsic: Sequence[float],
        distortion: Sequence[float] = (),
        distortion_model: str = "plumb_bob",
        time_ns: int = 0,
    ) -> None:
        """A camera's size in pixels, row-major 3x3 K, and distortion coefficients."""
        data = foxglove_messages.encode_calibration(
            camera, width, height, intrinsic, distortion, distortion_model, time_ns
        )
        self.write(topics.calibration_channel(camera), data, time_ns)

    def signals(self, namespace: str, values: Mapping[str, SignalValue | None], time_ns: int) -> None:
        """The columns of one namespace at one sample time."""
        self.write(topics.signals_channel(namespace), json_messages.encode_signals(values), time_ns)

    def signal_samples(self, samples: Iterable[SignalSample]) -> None:
        """Samples of any names and times: those of one namespace and time share a message."""
        grouped: dict[tuple[int, str], dict[str, SignalValue | None]] = {}
        for sample in samples:
            namespace, column = topics.split_signal(sample.name)
            grouped.setdefault((sample.time_ns, namespace), {})[column] = sample.value
        for (time_ns, namespace), values in grouped.items():
            self.signals(namespace, values, time_ns)

    def prediction(self, prediction: Prediction, cameras: Sequence[str], sequence: int = 0) -> None:
        """What the network said; `cameras` in the order of the frameset's rows."""
        data = json_messages.encode_prediction(prediction, cameras)
        self.write(topics.own_channel(topics.PREDICTION), data, prediction.time_ns, sequence=sequence)

    def comparison(self, comparison: Comparison, sequence: int = 0) -> None:
        """Shadow against controller on one tick."""
        data = json_messages.encode_comparison(comparison)
        self.write(topics.own_channel(topics.COMPARISON), data, comparison.time_ns, sequence=sequence)

    def firing(self, firing: Firing) -> None:
        """A rule that went off."""
        data = json_messages.encode_firing(firing)
        self.write(topics.own_channel(topics.FIRING), data, firing.time_ns, firing.wall_ns, firing.sequence)

    def tick(self, report: TickReport) -> None:
        """All that one tick says: bookkeeping, prediction, comparison, and the boxes of every present camera."""
        self.write(
            topics.own_channel(topics.TICK), tick_records.encode_tick(report), report.time_ns, sequence=report.sequence
        )
        if report.comparison:
            self.comparison(report.comparison, report.sequence)
        if report.frameset is not None and report.second is not None:
            self._second(report.second, report.frameset.cameras, report.sequence)
        if report.frameset is None or report.prediction is None:
            return
        self.prediction(report.prediction, report.frameset.cameras, report.sequence)
        tracks: dict[str, list[Track]] = {camera: [] for camera in report.frameset.cameras}
        for track in report.tracks or ():
            tracks.setdefault(track.camera, []).append(track)
        times_ns = report.frameset.frame_time_ns.tolist()
        for row, camera in enumerate(report.frameset.cameras):
            if report.frameset.present[row]:
                self.annotations(camera, tracks[camera], times_ns[row], report.sequence)

    def _second(self, second: SecondLook, cameras: Sequence[str], sequence: int) -> None:
        """What a second candidate said; no boxes are drawn for it."""
        time_ns = second.prediction.time_ns
        data = json_messages.encode_prediction(second.prediction, cameras)
        self.write(topics.own_channel(topics.PREDICTION_B), data, time_ns, sequence=sequence)
        data = json_messages.encode_comparison(second.comparison)
        self.write(topics.own_channel(topics.COMPARISON_B), data, time_ns, sequence=sequence)

    def truth_event(self, event: str, detail: str, time_ns: int, until_ns: int | None = None) -> None:
        """Something that a rule is meant to find."""
        data = json_messages.encode_json({"event": event, "detail": detail, "until_ns": until_ns})
        self.write(topics.own_channel(topics.TRUTH_EVENTS), data, time_ns)

    def truth_objects(self, camera: str, objects: Sequence[Mapping[str, Any]], time_ns: int, sequence: int = 0) -> None:
        """The true objects in one frame of a synthetic drive."""
        data = json_messages.encode_json({"objects": [dict(item) for item in objects]})
        self.write(topics.truth_objects_channel(camera), data, time_ns, sequence=sequence)

    def log(self, level: str, name: str, message: str, time_ns: int) -> None:
        """A log line; `level` is one of debug, info, warning, error, fatal."""
        self.write(topics.log_channel(), foxglove_messages.encode_log(time_ns, level, name, message), time_ns)
