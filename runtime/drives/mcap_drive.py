"""An MCAP file in our layout as a drive: recorded drives, synthetic drives and sealed clips alike.

Times are the file's own capture times. Each camera and each reading of the signals opens the file for itself, so that
camera threads do not wait for one another. Damage inside the file is skipped and listed in `Drive.faults`.

Cameras become topics of history and of clips, and files of an export. A video topic that names a camera as no clip may
(`formats.pull_files.CAMERA_NAME`) is refused when the drive is opened, not when its first clip is sealed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import av

from runtime.drives.drive import Drive, DriveCamera, DriveVideoError, TruthEvent
from runtime.formats import topics
from runtime.formats.bitstream import StreamInfo, ffmpeg_codec_name
from runtime.formats.documents import DocumentError, Problem
from runtime.formats.mcap_files import McapFileError, McapTopicReader
from runtime.formats.pull_files import CAMERA_NAME
from runtime.formats.signal_names import SignalKind, kind_of
from runtime.messages import NANOSECONDS_PER_SECOND, Packet, SignalSample

#: How many packets are looked at to learn a stream's size and rate.
PROBE_PACKETS = 40
#: Wrong cameras that are told; a file may have as many topics as it likes.
MAX_LISTED_PROBLEMS = 16
#: How many messages of each signal namespace are looked at to learn which signals there are.
PROBE_MESSAGES = 64


def open_mcap_drive(path: Path) -> Drive:
    """Open an MCAP file as a drive. Raises DocumentError when it is none, or holds nothing."""
    try:
        with McapTopicReader(path) as reader:
            return _read_description(path, reader)
    except (McapFileError, OSError) as error:
        message = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise DocumentError(
            [Problem(str(path), 0, 0, message, None, "name an MCAP file of a drive or a clip")]
        ) from error


def _read_description(path: Path, reader: McapTopicReader) -> Drive:
    time_range = reader.time_range_ns
    if time_range is None:
        raise DocumentError([Problem(str(path), 0, 0, "holds no messages", None, "name an MCAP file with a recording")])
    if problems := _wrong_cameras(path, reader):
        raise DocumentError(problems)
    drive_metadata = reader.metadata().get("drive", {})
    cameras: dict[str, DriveCamera] = {name: McapCamera(path, name) for name in reader.cameras}
    signal_kinds, open_namespaces = _signal_kinds(reader)
    return Drive(
        name=drive_metadata.get("name") or path.stem,
        description=drive_metadata.get("description", ""),
        path=path,
        start_ns=time_range[0],
        end_ns=time_range[1],
        cameras=cameras,
        truth=_truth(reader),
        read_signals=lambda: _signal_samples(path),
        faults=reader.damage,
        files=(path,),
        signal_kinds=signal_kinds,
        open_namespaces=open_namespaces,
    )


def _wrong_cameras(path: Path, reader: McapTopicReader) -> list[Problem]:
    """Video topics whose camera no clip can name."""
    fix = "record it as /camera/<name>/video with a name of up to 64 letters, digits, _, . and -, none of . - in front"
    problems = []
    for spec in reader.channels.values():
        named = topics.camera_of(spec.topic) if spec.schema_name == topics.VIDEO_SCHEMA else None
        if named is None:
            continue  # another topic, or a video that is none of ours and is not played
        if CAMERA_NAME.fullmatch(named) is None:
            problems.append(Problem(str(path), 0, 0, f"topic {spec.topic!r:.120} names no camera", named[:80], fix))
        elif (said := spec.metadata.get("camera", named)) != named:
            message = f"topic {spec.topic!r:.120} is said to be of another camera in its metadata"
            problems.append(Problem(str(path), 0, 0, message, said[:80], "let both name one camera"))
    return problems[:MAX_LISTED_PROBLEMS]


def _signal_kinds(reader: McapTopicReader) -> tuple[dict[str, SignalKind], frozenset[str]]:
    """Of the signals in the first messages of every namespace; and the namespaces that have more messages."""
    kinds: dict[str, SignalKind] = {}
    has_more: set[str] = set()
    for topic in reader.signal_topics:
        messages = reader.messages({topic})
        for message in itertools.islice(messages, PROBE_MESSAGES):
            for sample in message.signals():
                kinds.setdefault(sample.name, kind_of(sample.name, sample.value))
        if next(messages, None) is not None:
            has_more.add(topic.lstrip("/"))
    return kinds, frozenset(has_more)


def _truth(reader: McapTopicReader) -> tuple[TruthEvent, ...] | None:
    if topics.TRUTH_EVENTS not in reader.topics:
        return None
    events = []
    for message in reader.messages({topics.TRUTH_EVENTS}):
        fields = json.loads(message.data)
        until_ns = fields.get("until_ns")
        events.append(TruthEvent(message.time_ns, fields["event"], fields.get("detail", ""), until_ns))
    return tuple(events)


def _signal_samples(path: Path) -> Iterator[SignalSample]:
    with McapTopicReader(path) as reader:
        yield from reader.signal_samples()


class McapCamera:
    """One camera's video topic."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def stream(self) -> StreamInfo:
        head = list(itertools.islice(self.packets(), PROBE_PACKETS))
        if not head:
            raise DriveVideoError(f"{self._path}: camera {self._name} has no packets")
        width, height = _picture_size(head)
        steps = sorted(later.time_ns - earlier.time_ns for earlier, later in itertools.pairwise(head))
        step_ns = steps[len(steps) // 2] if steps else 0
        rate_hz = NANOSECONDS_PER_SECOND / step_ns if step_ns > 0 else None
        return StreamInfo(head[0].codec, width, height, rate_hz)

    def packets(self) -> Iterator[Packet]:
        with self._open() as reader:
            damage = len(reader.damage)
            yield from reader.packets(self._name)
            if len(reader.damage) > damage:
                raise DriveVideoError("; ".join(reader.damage[damage:]))

    def _open(self) -> McapTopicReader:
        try:
            return McapTopicReader(self._path)
        except (McapFileError, OSError) as error:
            raise DriveVideoError(f"{self._path}: {error}") from error


def _picture_size(packets: list[Packet]) -> tuple[int, int]:
    """Width and height of the first picture that decodes; 0, 0 when none does."""
    decoder = av.CodecContext.create(ffmpeg_codec_name(packets[0].codec), "r")
    assert isinstance(decoder, av.VideoCodecContext)
    for packet in packets:
        try:
            frames = decoder.decode(av.Packet(packet.data))
        except av.error.InvalidDataError:
            continue  # one torn picture: the next key frame is as good
        if frames:
            return frames[0].width, frames[0].height
    return 0, 0
