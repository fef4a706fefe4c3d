"""What a clip is cut from: history, or a clip that is already sealed and holds the range that the fleet asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.formats.topics import CALIBRATION_SCHEMA
from runtime.messages import SignalSample
from runtime.recording.sealing_policy import SealedBefore


def samples_of(messages: Iterable[RawMessage], namespace: str) -> Iterator[SignalSample | tuple[str, int]]:
    """The samples in one namespace's messages; name and time where a signal became unknown."""
    for message in messages:
        for column, value in message.json().items():
            name = f"{namespace}.{column}"
            yield (name, message.time_ns) if value is None else SignalSample(name, message.time_ns, value)


def calibrations_in(reader: McapTopicReader) -> tuple[RawMessage, ...]:
    """The first of each calibrated camera."""
    wanted = {spec.topic for spec in reader.channels.values() if spec.schema_name == CALIBRATION_SCHEMA}
    found: dict[str, RawMessage] = {}
    for message in reader.messages(wanted) if wanted else ():
        found.setdefault(message.topic, message)
    return tuple(found.values())


class RecordSource(Protocol):
    """Records by capture time."""

    @property
    def sealed_before(self) -> SealedBefore | None:
        """See `SignalHistory.sealed_before`."""

    def cameras(self, start_ns: int, end_ns: int) -> tuple[str, ...]:
        """Cameras that have video somewhere around the window."""

    def key_frames(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, list[int]]:
        """Capture times of the key frames with start <= time <= end, by camera, ascending."""

    def key_frame_starts(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, int]:
        """For each camera the last key frame at or before `start_ns`, else the first one up to `end_ns`."""

    def messages(self, start_ns: int, end_ns: int, wanted: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages of the topics `wanted` (None: all) with start <= capture time <= end, in order of capture time."""

    def calibrations(self, at_ns: int) -> tuple[RawMessage, ...]:
        """Of each calibrated camera the one that holds at this instant, with the times at which it was recorded."""

    def first_time_ns(self, start_ns: int, end_ns: int) -> int:
        """See `SignalHistory.first_time_ns`."""

    def last_time_ns(self, start_ns: int, end_ns: int) -> int:
        """Capture time of the last record up to `end_ns`, or `end_ns` where that is not known to be earlier."""

    def signal_samples(self, namespace: str, start_ns: int, end_ns: int) -> Iterator[SignalSample | tuple[str, int]]:
        """See `SignalHistory.signal_samples`."""

    def bytes_between(self, start_ns: int, end_ns: int) -> int:
        """About what the window weighs."""


class ClipSource:
    """A sealed clip as a source of another. The reader stays the caller's to close."""

    def __init__(self, reader: McapTopicReader, sealed: SealedBefore) -> None:
        self._reader = reader
        self._sealed = sealed

    @property
    def sealed_before(self) -> SealedBefore | None:
        """What the clip's manifest says."""
        return self._sealed

    def cameras(self, start_ns: int, end_ns: int) -> tuple[str, ...]:
        """Every camera with video."""
        return self._reader.cameras

    def key_frames(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, list[int]]:
        """Found by reading the video: a clip has no index of them."""
        return self._reader.key_frames(cameras, start_ns, end_ns + 1)

    def key_frame_starts(self, cameras: Collection[str], start_ns: int, end_ns: int) -> dict[str, int]:
        """See `RecordSource`."""
        starts: dict[str, int] = {}
        for camera, times_ns in self.key_frames(cameras, 0, end_ns).items():
            earlier = [time_ns for time_ns in times_ns if time_ns <= start_ns]
            starts[camera] = earlier[-1] if earlier else times_ns[0]
        return starts

    def messages(self, start_ns: int, end_ns: int, wanted: Collection[str] | None = None) -> Iterator[RawMessage]:
        """See `RecordSource`."""
        return self._reader.messages(wanted, start_ns, end_ns + 1)

    def calibrations(self, at_ns: int) -> tuple[RawMessage, ...]:
        """See `RecordSource`: a clip has each once."""
        return calibrations_in(self._reader)

    def first_time_ns(self, start_ns: int, end_ns: int) -> int:
        """See `RecordSource`."""
        times_ns = self._reader.time_range_ns
        return start_ns if times_ns is None else max(times_ns[0], start_ns)

    def last_time_ns(self, start_ns: int, end_ns: int) -> int:
        """See `RecordSource`."""
        times_ns = self._reader.time_range_ns
        return end_ns if times_ns is None else min(times_ns[1], end_ns)

    def signal_samples(self, namespace: str, start_ns: int, end_ns: int) -> Iterator[SignalSample | tuple[str, int]]:
        """See `SignalHistory.signal_samples`."""
        return samples_of(self.messages(start_ns, end_ns, {topics.signal_topic(namespace)}), namespace)

    def bytes_between(self, start_ns: int, end_ns: int) -> int:
        """The whole clip: an upper bound."""
        return self._reader.path.stat().st_size
