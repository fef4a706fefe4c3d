"""Which records of its window a clip holds: cameras and topics as its firings chose them, in full or as thumbnails.

Every chosen camera starts with its last key frame at or before the window's start. A full clip holds every packet from
there on, the boxes drawn over them, and the chosen topics. Of each chosen camera that is calibrated it holds the
calibration once, whether the camera has frames or not. A clip of thumbnails holds, of each camera, one key frame
about once a second (see `thumbnails`) with its boxes; and unless topics are named, signals, comparisons and the log.

A camera that had fallen silent before the window has nothing to show at its start: it begins with its next key frame,
or is missing. Its last one may lie as far back as history does, and would draw all records since then into the clip,
and every place that the vehicle has been to since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from runtime.formats import topics
from runtime.formats.json_schemas import SIGNALS_SCHEMA
from runtime.formats.mcap_files import RawMessage
from runtime.formats.topics import CALIBRATION_SCHEMA, VIDEO_SCHEMA
from runtime.messages import ClipVariant
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.provenance import CameraProvenance
from runtime.recording.record_source import RecordSource
from runtime.recording.thumbnails import ThumbnailSettings, thumbnail_times

DeclaredCameras: TypeAlias = Mapping[str, CameraProvenance]

_UNDECLARED = CameraProvenance()
#: What a clip of thumbnails holds besides signals and firings where no topics are named.
_SMALL_TOPICS = frozenset({topics.COMPARISON, topics.COMPARISON_B, topics.LOG})


@dataclass(slots=True)
class ClipSelection:
    """Made for one cut."""

    plan: ClipPlan
    cameras: tuple[str, ...]  # wanted, whether they have frames or not
    starts_ns: dict[str, int]  # by camera: its first frame
    thumbnail_times_ns: dict[str, frozenset[int]]  # empty in a full clip
    calibrations: tuple[RawMessage, ...]  # of the cameras, at the times at which they were recorded
    not_before_ns: int = 0  # nothing from before this goes in

    @property
    def first_ns(self) -> int:
        """Where reading starts."""
        return max(self.not_before_ns, min([self.plan.window_ns[0], *self.starts_ns.values()]))

    def holds(self, message: RawMessage) -> bool:
        """True when the record belongs into the clip; calibrations are chosen apart: history repeats them."""
        camera = topics.camera_of(message.topic)
        if camera is None:
            return message.topic == topics.FIRING or self._is_chosen(message)
        if camera not in self.cameras:
            return False
        if message.channel.schema_name == CALIBRATION_SCHEMA:
            return False
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


def _without_silent(
    source: RecordSource, starts_ns: Mapping[str, int], window_ns: tuple[int, int], rig: DeclaredCameras
) -> dict[str, int]:
    """First frames; of a camera that had fallen silent before the window the first key frame in it, or none."""
    kept: dict[str, int] = {}
    for camera, first_ns in starts_ns.items():
        since_ns = window_ns[0] - rig.get(camera, _UNDECLARED).silence_limit_ns
        shown = {topics.video_topic(camera)}
        if first_ns >= since_ns or next(source.messages(since_ns, window_ns[0], shown), None) is not None:
            kept[camera] = first_ns
        elif later_ns := source.key_frames([camera], *window_ns).get(camera):
            kept[camera] = later_ns[0]
    return kept


def _starts(
    source: RecordSource, cameras: Sequence[str], window_ns: tuple[int, int], not_before_ns: int
) -> dict[str, int]:  # fmt: skip
    """First frames as `RecordSource.key_frame_starts` has them, but none before `not_before_ns`."""
    if not not_before_ns:
        return source.key_frame_starts(cameras, *window_ns)
    found = source.key_frames(cameras, not_before_ns, window_ns[1])
    return {
        camera: max((time_ns for time_ns in times_ns if time_ns <= window_ns[0]), default=times_ns[0])
        for camera, times_ns in found.items()
    }


def select(
    source: RecordSource, plan: ClipPlan, rig: DeclaredCameras, settings: ThumbnailSettings, not_before_ns: int = 0
) -> ClipSelection:
    """`rig` declares the cameras that there ought to be, in order; those that were only seen come after them.

    What was captured before `not_before_ns` stays out, whatever the plan asks for.
    """
    start_ns, end_ns = max(plan.window_ns[0], not_before_ns), plan.window_ns[1]
    wanted = plan.cameras or tuple(dict.fromkeys((*rig, *source.cameras(start_ns, end_ns))))
    if plan.shrunk is not None:
        wanted = plan.shrunk.cameras
    starts_ns = _starts(source, wanted, (start_ns, end_ns), not_before_ns)
    starts_ns = _without_silent(source, starts_ns, (start_ns, end_ns), rig)
    chosen: dict[str, frozenset[int]] = {}
    if plan.variant is ClipVariant.THUMBNAILS:
        found = source.key_frames(wanted, min([start_ns, *starts_ns.values()]), end_ns)
        for camera, times_ns in found.items():
            from_start = (time_ns for time_ns in times_ns if time_ns >= starts_ns.get(camera, end_ns + 1))
            chosen[camera] = thumbnail_times(from_start, settings)
    calibrations = source.calibrations(plan.firings[0].firing.time_ns)
    held = tuple(message for message in calibrations if topics.camera_of(message.topic) in wanted)
    return ClipSelection(plan, wanted, starts_ns, chosen, held, not_before_ns)
