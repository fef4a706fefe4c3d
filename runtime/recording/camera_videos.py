"""Each camera of a clip as a file that any player opens: its packets as they are in an MP4, or its thumbnails as JPEGs.

Nothing is decoded or encoded: `front.mp4` holds the same H.264 or H.265 access units as the clip. Times are capture
times from the clip's first frame of any camera on, in microseconds; so the files of one clip start together in a player
that honours edit lists, frames lie as far apart as they were captured, and a gap stays a gap.

A clip comes from a vehicle, which may be anybody's: no name in it leads out of the folder that was asked for.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from runtime.formats.bitstream import ffmpeg_codec_name
from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import NANOSECONDS_PER_SECOND, Packet
from runtime.recording.clip_file import ClipError

_TIME_BASE = Fraction(1, 1_000_000)
_NANOSECONDS_PER_TICK = NANOSECONDS_PER_SECOND // _TIME_BASE.denominator
#: Packets from which FFmpeg learns picture size and parameter sets; the first is a key frame that carries both.
_PROBED_PACKETS = 3
_LAST_FRAME_TICKS = 50_000
#: What FFmpeg says where the disk, not the clip, is at fault.
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EISDIR}
)


def file_inside(folder: Path, name: str) -> Path:
    """`folder / name`. ClipError when that is anywhere else, by the name or by a link that lies there."""
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise ClipError(
            f"{name!r:.80} leads out of {folder}: nothing was written there; take links away, or do not trust this clip"
        )
    return path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """ClipError where FFmpeg cannot make a film of what the clip holds; errors of the disk stay what they are."""
    try:
        yield
    except (FFmpegError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise ClipError(f"{path}: what the clip holds makes no film: {error}; see 'shadowrig clip verify'") from error


def write_camera_video(reader: McapTopicReader, camera: str, start_ns: int, path: Path) -> int:
    """Copy one camera's packets into an MP4; how many. ClipError when it has none, OSError from the disk."""
    packets = reader.packets(camera)
    first = list(islice(packets, _PROBED_PACKETS))
    if not first:
        raise ClipError(f"{reader.path}: camera {camera} has no video to export")
    count = 0
    with (
        writing(path),
        av.open(io.BytesIO(b"".join(packet.data for packet in first)), format=_container(first[0])) as probe,
        av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        stream = output.add_stream_from_template(_video_of(probe, camera))
        stream.time_base = _TIME_BASE
        for packet, duration in _with_durations(chain(first, packets)):
            copy = av.Packet(packet.data)
            copy.stream, copy.time_base = stream, _TIME_BASE
            copy.pts = copy.dts = (packet.time_ns - start_ns) // _NANOSECONDS_PER_TICK
            copy.duration, copy.is_keyframe = duration, packet.is_key
            output.mux(copy)
            count += 1
    return count


def _video_of(probe: InputContainer, camera: str) -> VideoStream:
    """The stream in a camera's first packets; ClipError where FFmpeg sees none, or no picture in it."""
    if not probe.streams.video or not probe.streams.video[0].codec_context.width:
        raise ClipError(f"camera {camera}: its first {_PROBED_PACKETS} packets hold no picture to export")
    return probe.streams.video[0]


def write_thumbnails(reader: McapTopicReader, camera: str, start_ns: int, folder: Path) -> list[Path]:
    """One camera's thumbnails as `<camera>-<milliseconds from the start>.jpg`, as they are in the clip."""
    written = []
    for packet in reader.thumbnails(camera):
        path = file_inside(folder, f"{camera}-{(packet.time_ns - start_ns) // 1_000_000:06d}.jpg")
        path.write_bytes(packet.data)
        written.append(path)
    return written


def _container(packet: Packet) -> str:
    """FFmpeg's name of the raw stream."""
    return ffmpeg_codec_name(packet.codec)


def _with_durations(packets: Iterator[Packet]) -> Iterator[tuple[Packet, int]]:
    """Each packet and the ticks until the next; the last one lasts as long as the one before."""
    duration = _LAST_FRAME_TICKS
    last: Packet | None = None
    for packet in packets:
        if last is not None:
            duration = max(1, (packet.time_ns - last.time_ns) // _NANOSECONDS_PER_TICK)
            yield last, duration
        last = packet
    if last is not None:
        yield last, duration
