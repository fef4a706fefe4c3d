"""One camera of a drive folder: video files in order, with recorded capture times or the container's own.

Three ways of timing, chosen by `drive.yaml`:
- `timestamps`: frame f of file s was taken at row (s, f) of a table. Frames beyond the table are not on the drive's
  clock; they are left out and reported.
- neither: container times, counted from the drive's start. One file follows the other.
- `loop` / `offset_s`: a filler. The video runs through again and again on the drive's clock; it begins at the key frame
  at or before `offset_s`, because nothing before a key frame can be decoded.

A file that is missing, torn or short costs the frames that are not there and nothing else: what is readable of this
and the following files is played in its right place, and `DriveVideoError` with every fault comes at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from runtime.drives.drive import DriveVideoError
from runtime.formats.bitstream import AnnexBConverter, StreamInfo, is_key_access_unit, stream_info
from runtime.messages import NANOSECONDS_PER_SECOND, Packet

DEFAULT_PERIOD_NS = NANOSECONDS_PER_SECOND // 20


@dataclass(frozen=True, slots=True)
class FilePacket:
    """One packet of one file; its time counts from the file's first picture."""

    time_ns: int
    is_key: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class FileExtent:
    """How long one file plays, and where in it decoding can begin."""

    duration_ns: int
    key_times_ns: tuple[int, ...]


class VideoFile:
    """One video file, read from the beginning each time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stream(self) -> StreamInfo:
        """Codec, size and rate. Raises DriveVideoError."""
        with self._open() as container:
            return stream_info(container.streams.video[0])

    def packets(self) -> Iterator[FilePacket]:
        """Every packet in decoding order. Raises DriveVideoError after the last readable one."""
        count = 0
        with self._open() as container:
            stream = container.streams.video[0]
            try:
                for packet in self._timed_packets(container, stream):
                    count += 1
                    yield packet
            except av.error.FFmpegError as error:
                raise DriveVideoError(f"{self.path}: cannot be read beyond frame {count}: {error.strerror}") from error

    def _timed_packets(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[FilePacket]:
        converter = AnnexBConverter(stream)
        tick_ns = NANOSECONDS_PER_SECOND * (stream.time_base or Fraction(1, 1000))
        first = stream.start_time
        for packet in container.demux(stream):
            if packet.size == 0:
                continue  # the mark of the end
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None:
                raise av.error.InvalidDataError(0, "a packet has no time")
            first = time if first is None else first
            data = converter.convert(packet)
            is_key = packet.is_keyframe or is_key_access_unit(converter.codec, data)
            yield FilePacket(round((time - first) * tick_ns), is_key, data)

    def extent(self) -> FileExtent:
        """Duration and key frames; reads the file once and decodes nothing. Raises DriveVideoError when empty."""
        times: list[int] = []
        keys: list[int] = []
        try:
            for packet in self.packets():
                times.append(packet.time_ns)
                keys += [packet.time_ns] if packet.is_key else []
        except DriveVideoError:
            if not times:
                raise
        if not times:
            raise DriveVideoError(f"{self.path}: holds no pictures")
        times.sort()
        return FileExtent(times[-1] - times[0] + _usual_step(times), tuple(keys))

    def _open(self) -> av.container.InputContainer:
        if not self.path.exists():
            raise DriveVideoError(f"{self.path}: is missing")
        try:
            container = av.open(str(self.path), "r")
        except (av.error.FFmpegError, OSError) as error:
            raise DriveVideoError(f"{self.path}: is not a video: {error.strerror}") from error
        if not container.streams.video:
            container.close()
            raise DriveVideoError(f"{self.path}: holds no video stream")
        return container


def _usual_step(times: Sequence[int]) -> int:
    """The middle one of the steps between pictures: what the last picture lasts."""
    steps = sorted(later - earlier for earlier, later in itertools.pairwise(times) if later > earlier)
    return steps[len(steps) // 2] if steps else DEFAULT_PERIOD_NS


class _FileCamera:
    """What both kinds of file camera share."""

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self._name = name
        self._files = [VideoFile(path) for path in paths]

    @property
    def name(self) -> str:
        return self._name

    def _first_stream(self) -> StreamInfo:
        faults = []
        for file in self._files:
            try:
                return file.stream()
            except DriveVideoError as error:
                faults.append(str(error))
        raise DriveVideoError("; ".join(faults))

    def _packet(self, sequence: int, time_ns: int, codec: str, packet: FilePacket) -> Packet:
        return Packet(self._name, sequence, time_ns, time_ns, codec, packet.is_key, packet.data)


class TimedCamera(_FileCamera):
    """A camera whose frames have recorded capture times: one list of times for each file."""

    def __init__(self, name: str, paths: Sequence[Path], frame_times_ns: Sequence[Sequence[int]]) -> None:
        super().__init__(name, paths)
        self._frame_times_ns = frame_times_ns

    def stream(self) -> StreamInfo:
        info = self._first_stream()
        times = next((times for times in self._frame_times_ns if len(times) > 1), None)
        rate_hz = info.rate_hz if times is None else NANOSECONDS_PER_SECOND / _usual_step(times)
        return replace(info, rate_hz=rate_hz)

    def packets(self) -> Iterator[Packet]:
        codec = self._first_stream().codec
        first_of_file = 0
        faults: list[str] = []
        for file, times in zip(self._files, self._frame_times_ns, strict=True):
            played = 0
            try:
                for rank, packet in self._ranked(file):
                    played += 1
                    if rank < len(times):
                        yield self._packet(first_of_file + played - 1, times[rank], codec, packet)
                if played != len(times):
                    faults.append(f"{file.path}: holds {played} frames, but {len(times)} have capture times")
            except DriveVideoError as error:
                faults.append(f"{error} ({played} of {len(times)} frames)")
            first_of_file += len(times)
        if faults:
            raise DriveVideoError("; ".join(faults))

    @staticmethod
    def _ranked(file: VideoFile) -> Iterator[tuple[int, FilePacket]]:
        """Packets with their place in showing order, which is the order of the table."""
        if not file.stream().reorders:
            yield from enumerate(file.packets())
            return
        shown = {time_ns: rank for rank, time_ns in enumerate(sorted(packet.time_ns for packet in file.packets()))}
        for packet in file.packets():
            yield shown[packet.time_ns], packet


class ContainerTimedCamera(_FileCamera):
    """A camera on container times, played once or, as a filler, again and again until the drive ends."""

    def __init__(self, name: str, paths: Sequence[Path], *, loop: bool = False, offset_ns: int = 0) -> None:
        super().__init__(name, paths)
        self._loop = loop
        self._offset_ns = offset_ns
        self._start_ns = 0
        self._end_ns: int | None = None

    def place(self, start_ns: int, end_ns: int | None) -> None:
        """Put the camera on the drive's clock: its first picture, and the moment after its last (None: no limit)."""
        self._start_ns = start_ns
        self._end_ns = end_ns

    def stream(self) -> StreamInfo:
        return replace(self._first_stream(), free_running=True)

    def duration_ns(self) -> int:
        """How long the video plays once, after its offset. Raises DriveVideoError when no file can be read."""
        extents = self._extents()
        total_ns = sum(extent.duration_ns for extent in extents)
        return total_ns if self._loop else max(0, total_ns - _key_position(extents, self._offset_ns))

    def packets(self) -> Iterator[Packet]:
        codec = self._first_stream().codec
        skip_ns = 0
        if self._offset_ns:
            extents = self._extents()
            skip_ns = _key_position(extents, self._offset_ns % max(1, sum(extent.duration_ns for extent in extents)))
        origin_ns = self._start_ns - skip_ns
        sequence = 0
        while True:
            times: list[int] = []
            faults: list[str] = []
            for time_ns, packet in self._one_pass(origin_ns, times, faults):
                if self._end_ns is not None and time_ns > self._end_ns:
                    return
                if time_ns >= self._start_ns:
                    yield self._packet(sequence, time_ns, codec, packet)
                    sequence += 1
            if faults or not self._loop or not times:
                break
            origin_ns = times[-1]
        if faults:
            raise DriveVideoError("; ".join(faults))

    def _one_pass(self, origin_ns: int, ends: list[int], faults: list[str]) -> Iterator[tuple[int, FilePacket]]:
        """Every packet once, from `origin_ns` on; `ends` gets the time at which each file is over."""
        base_ns = origin_ns
        for file in self._files:
            times: list[int] = []
            try:
                for packet in file.packets():
                    times.append(packet.time_ns)
                    yield base_ns + packet.time_ns, packet
            except DriveVideoError as error:
                faults.append(str(error))
            if times:
                times.sort()
                base_ns += times[-1] - times[0] + _usual_step(times)
                ends.append(base_ns)

    def _extents(self) -> list[FileExtent]:
        extents, faults = [], []
        for file in self._files:
            try:
                extents.append(file.extent())
            except DriveVideoError as error:
                faults.append(str(error))
        if not extents:
            raise DriveVideoError("; ".join(faults))
        return extents


def _key_position(extents: Sequence[FileExtent], offset_ns: int) -> int:
    """Where the key frame at or before `offset_ns` lies, counted from the start of the first file."""
    base_ns = 0
    best_ns = 0
    for extent in extents:
        best_ns = max([best_ns, *(base_ns + key for key in extent.key_times_ns if base_ns + key <= offset_ns)])
        base_ns += extent.duration_ns
    return best_ns
