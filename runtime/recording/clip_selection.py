"""Which records of its window a clip holds: cameras and topics as its firings chose them, in full or as thumbnails.

Every chosen camera starts with its last key frame at or before the window's start. A full clip holds every packet from
there on, the boxes drawn over them, and the chosen topics. A clip of thumbnails holds, of each camera, one key frame
about once a second (see `thumbnails`) with its boxes; and unless topics are named, signals, comparisons and the log.

A camera that had died well before the window has nothing to show in it: it begins where it comes back, or is missing.
Its last key frame may lie as far back as history does, and would bring all records since then into the clip, as well as
every place the vehicle has been to since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from runtime.formats import topics
from runtime.formats.json_schemas import SIGNALS_SCHEMA
from runtime.formats.mcap_files import RawMessage
from runtime.formats.topics import CALIBRATION_SCHEMA, VIDEO_SCHEMA
from runtime.messages import NANOSECONDS_PER_SECOND, ClipVariant
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.record_source import RecordSource
from runtime.recording.thumbnails import ThumbnailSettings, thumbnail_times

#: What a clip of thumbnails holds besides signals and firings where no topics are named.
_SMALL_TOPICS = frozenset({topics.COMPARISON, topics.COMPARISON_B, topics.LOG})

#: A camera without any frame for so long (or for one group of its frames, where that is longer) is not there.
GONE_NS = 2 * NANOSECONDS_PER_SECOND


@dataclass(slots=True)
class ClipSelection:
    """Made for one cut."""

    plan: ClipPlan
    cameras: tuple[str, ...]  # wanted, whether they have frames or not
    starts_ns: dict[str, int]  # by camera: its first frame
    thumbnail_times_ns: dict[str, frozenset[int]]  # empty in a full clip
    _calibrated: set[str] = field(default_factory=set)

    @property
    def first_ns(self) -> int:
        """Where reading starts."""
        return min([self.plan.window_ns[0], *self.starts_ns.values()])

    def holds(self, message: RawMessage) -> bool:
        """True when the record belongs into the clip; a camera's calibration only the first time."""
        camera = topics.camera_of(message.topic)
        if camera is None:
            return message.topic == topics.FIRING or self._is_chosen(message)
        if camera not in self.cameras:
            return False
        if message.channel.schema_name == CALIBRATION_SCHEMA:
            return self._is_first_calibration(camera)  # history repeats it every second
        if self.plan.variant is ClipVariant.THUMBNAILS:
            return message.time_ns in self.thumbnail_times_ns.get(camera, ())
        return camera in self.starts_ns and message.time_ns >= self.starts_ns[camera]

    def is_beside(self, message: RawMessage) -> bool:
        """True for a packet between the key frames that become thumbnails: whoever treats those may look at it."""
        if not self.is_thumbnail(message):
            return False
        camera = topics.camera_of(message.topic) or ""
        starts_ns = self.starts_ns.get(camera) if camera in self.cameras else None
        chosen_ns = self.thumbnail_times_ns.get(camera, frozenset())
        return starts_ns is not None and message.time_ns >= starts_ns and message.time_ns not in chosen_ns

    def is_thumbnail(self, message: RawMessage) -> bool:
        """True for a packet whose picture goes in, small, in its place."""
        return self.plan.variant is ClipVariant.THUMBNAILS and message.channel.schema_name == VIDEO_SCHEMA

    def _is_chosen(self, message: RawMessage) -> bool:
        if self.plan.topics:
            return message.topic in self.plan.topics
        if self.plan.variant is ClipVariant.FULL:
            return True
        return message.channel.schema_name == SIGNALS_SCHEMA or message.topic in _SMALL_TOPICS

    def _is_first_calibration(self, camera: str) -> bool:
        if camera in self._calibrated:
            return False
        self._calibrated.add(camera)
        return True


def _without_gone(
    source: RecordSource, starts_ns: dict[str, int], start_ns: int, end_ns: int
) -> dict[str, int]:  # fmt: skip
    """The starts of cameras that were there at the window's start, or come back in it."""
    kept: dict[str, int] = {}
    for camera, first_ns in starts_ns.items():
        if first_ns >= start_ns - GONE_NS or _was_there(source, camera, first_ns, start_ns):
            kept[camera] = first_ns
        elif later := source.key_frames([camera], start_ns, end_ns).get(camera):
            kept[camera] = later[0]
    return kept


def _was_there(source: RecordSource, camera: str, key_ns: int, start_ns: int) -> bool:
    """Whether the group that begins with its last key frame reaches the window's start."""
    earlier_ns = source.key_frames([camera], 0, key_ns - 1).get(camera, [key_ns])
    since_ns = start_ns - max(GONE_NS, key_ns - earlier_ns[-1])
    return any(True for _ in source.messages(since_ns, start_ns, {topics.video_topic(camera)}))


def select(source: RecordSource, plan: ClipPlan, rig: Iterable[str], settings: ThumbnailSettings) -> ClipSelection:
    """`rig` names the cameras that there ought to be, in order; those that were only seen come after them."""
    start_ns, end_ns = plan.window_ns
    wanted = plan.cameras or tuple(dict.fromkeys((*rig, *source.cameras(start_ns, end_ns))))
    if plan.shrunk is not None:
        wanted = plan.shrunk.cameras
    starts_ns = _without_gone(source, source.key_frame_starts(wanted, start_ns, end_ns), start_ns, end_ns)
    chosen: dict[str, frozenset[int]] = {}
    if plan.variant is ClipVariant.THUMBNAILS:
        found = source.key_frames(wanted, min([start_ns, *starts_ns.values()]), end_ns)
        for camera, times_ns in found.items():
            from_start = (time_ns for time_ns in times_ns if time_ns >= starts_ns.get(camera, end_ns + 1))
            chosen[camera] = thumbnail_times(from_start, settings)
    return ClipSelection(plan, wanted, starts_ns, chosen)
