"""What a clip is cut from: history, or a clip that is already sealed and holds the range that the fleet asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Protocol

from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.formats.topics import CALIBRATION_SCHEMA


class RecordSource(Protocol):
    """Records by capture time."""

    def cameras(self, start_ns: int, end_ns: int) -> tuple[str, ...]:
        """Cameras that have video somewhere around the window."""

    def key_frames(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, list[int]]:
        """Capture times of the key frames with start <= time <= end, by camera, ascending."""

    def key_frame_starts(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, int]:
        """For each camera the last key frame at or before `start_ns`, else the first one up to `end_ns`."""

    def messages(self, start_ns: int, end_ns: int) -> Iterator[RawMessage]:
        """Everything with start <= capture time <= end, in order of capture time."""

    def bytes_between(self, start_ns: int, end_ns: int) -> int:
        """About what the window weighs."""


class ClipSource:
    """A sealed clip as a source of another. The reader stays the caller's to close."""

    def __init__(self, reader: McapTopicReader) -> None:
        self._reader = reader

    def cameras(self, start_ns: int, end_ns: int) -> tuple[str, ...]:
        """Every camera with video."""
        return self._reader.cameras

    def key_frames(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, list[int]]:
        """Found by reading the video: a clip has no index of them."""
        found: dict[str, list[int]] = {}
        for message in self._reader.messages({topics.video_topic(name) for name in cameras}, start_ns, end_ns + 1):
            packet = message.packet()
            if packet.is_key:
                found.setdefault(packet.camera, []).append(packet.time_ns)
        return found

    def key_frame_starts(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, int]:
        """See `RecordSource`."""
        starts: dict[str, int] = {}
        for camera, times_ns in self.key_frames(cameras, 0, end_ns).items():
            earlier = [time_ns for time_ns in times_ns if time_ns <= start_ns]
            starts[camera] = earlier[-1] if earlier else times_ns[0]
        return starts

    def messages(self, start_ns: int, end_ns: int) -> Iterator[RawMessage]:
        """See `RecordSource`. Calibrations hold for all of a clip that has each once: they come at the start."""
        calibrations = {spec.topic for spec in self._reader.channels.values() if spec.schema_name == CALIBRATION_SCHEMA}
        for message in self._reader.messages(calibrations):
            yield replace(message, time_ns=start_ns)
        others = set(self._reader.topics) - calibrations
        yield from self._reader.messages(others, start_ns, end_ns + 1)

    def bytes_between(self, start_ns: int, end_ns: int) -> int:
        """The whole clip: an upper bound."""
        return self._reader.path.stat().st_size
