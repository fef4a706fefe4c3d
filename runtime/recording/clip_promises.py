"""The promises of a manifest that are about more than one camera's frames; `verify` asks for each of them.

Each function gives the broken ones as (code, message): what the manifest says of its own window, what it answers, what
its variant may hold; and whether one message can be read as its schema says. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from google.protobuf.message import DecodeError

from runtime.formats import topics
from runtime.formats.bitstream import nal_unit_type, nal_units
from runtime.formats.json_messages import decode_firing, decode_signals
from runtime.formats.json_schemas import SIGNALS_SCHEMA
from runtime.formats.mcap_files import RawMessage
from runtime.formats.tick_records import decode_tick
from runtime.formats.topics import ANNOTATIONS_SCHEMA, CALIBRATION_SCHEMA, LOG_SCHEMA, THUMBNAIL_SCHEMA, VIDEO_SCHEMA
from runtime.messages import NANOSECONDS_PER_SECOND, ClipVariant, Packet
from runtime.recording.manifest import ClipManifest, ThumbnailsManifest
from runtime.recording.provenance import CameraProvenance
from runtime.recording.thumbnails import least_distance_ns

#: Seconds are written as floats: windows made of them are right to this.
_ROUNDING_NS = 1_000
#: A clip whose last record comes so long before its end is short; slow signals alone leave smaller holes.
SHORT_POST_ROLL_NS = 2 * NANOSECONDS_PER_SECOND

#: NAL unit types that must stand in every access unit with a key frame (ITU-T H.264 table 7-1, H.265 table 7-1).
_PARAMETER_SETS = {"h264": {7: "SPS", 8: "PPS"}, "h265": {32: "VPS", 33: "SPS", 34: "PPS"}}

_Broken = tuple[str, str]
#: What must read a message, by schema.
_READERS: Mapping[str, Callable[[bytes], object]] = {
    ANNOTATIONS_SCHEMA: lambda data: ImageAnnotations.FromString(data),
    CALIBRATION_SCHEMA: lambda data: CameraCalibration.FromString(data),
    LOG_SCHEMA: lambda data: Log.FromString(data),
    SIGNALS_SCHEMA: lambda data: decode_signals(data, "signals", 0),
    "shadowrig.Firing": decode_firing,
    "shadowrig.Tick": decode_tick,
}


def broken_window(manifest: ClipManifest) -> Iterator[_Broken]:
    """Pre-roll and post-roll: whole, or the manifest says by how much and why they are not."""
    start_ns, end_ns = manifest.window_ns
    short_s = max(0, manifest.start_ns - start_ns) / NANOSECONDS_PER_SECOND
    if abs(short_s - manifest.pre_roll_short_s) * NANOSECONDS_PER_SECOND > _ROUNDING_NS:
        yield "pre_roll", f"manifest says it is short by {manifest.pre_roll_short_s} s, it is by {short_s} s"
    earliest_ns = min([start_ns, *(camera.first_ns for camera in manifest.cameras.values())])
    if manifest.variant is ClipVariant.FULL and manifest.start_ns < earliest_ns:
        early_s = (earliest_ns - manifest.start_ns) / NANOSECONDS_PER_SECOND
        yield "pre_roll", f"its first record comes {early_s:.1f} s before the window and before every camera"
    reached_ns = max([manifest.end_ns, *(camera.last_ns for camera in manifest.cameras.values())])
    if manifest.ended_early is None and end_ns - reached_ns > SHORT_POST_ROLL_NS:
        short_s = (end_ns - reached_ns) / NANOSECONDS_PER_SECOND
        yield "post_roll", f"it ends {short_s:.1f} s before what was asked for, and the manifest does not say why"
    shrunk = manifest.shrunk
    asked_ns = manifest.requested_start_ns, manifest.requested_end_ns
    if shrunk is not None and not asked_ns[0] <= shrunk.start_ns <= shrunk.end_ns <= asked_ns[1]:
        yield "shrunk", "what it was cut down to lies outside of what was asked for"
    if shrunk is not None and set(shrunk.left_out_cameras) & set(manifest.cameras):
        yield "shrunk", "a camera is listed as left out, but the clip has it"


def broken_edges(
    manifest: ClipManifest, edges_ns: Sequence[int], edges_wall_ns: Sequence[int]
) -> Iterator[_Broken]:  # fmt: skip
    """First and last record on both clocks; both are empty where the clip holds none."""
    said_ns, said_wall_ns = [manifest.start_ns, manifest.end_ns], [manifest.start_wall_ns, manifest.end_wall_ns]
    if edges_ns and list(edges_ns) != said_ns:
        yield "time_range", f"manifest says {said_ns}, found {list(edges_ns)}"
    if edges_wall_ns and list(edges_wall_ns) != said_wall_ns:
        yield "time_range", f"manifest says wall times {said_wall_ns}, found {list(edges_wall_ns)}"


def shows_nothing_at_start(camera: str, times_ns: Sequence[int], manifest: ClipManifest) -> str | None:
    """What is wrong with a camera that begins before the window, but had fallen silent when that began; or None."""
    start_ns = manifest.window_ns[0]
    newest_ns = max((time_ns for time_ns in times_ns if time_ns <= start_ns), default=start_ns)
    limit_ns = manifest.provenance.cameras.get(camera, CameraProvenance()).silence_limit_ns
    if manifest.variant is ClipVariant.THUMBNAILS or start_ns - newest_ns <= limit_ns:
        return None
    silent_s = (start_ns - newest_ns) / NANOSECONDS_PER_SECOND
    return f"it begins before the requested start, at which it had shown nothing for {silent_s:.1f} s"


def broken_request(manifest: ClipManifest) -> Iterator[_Broken]:
    """What the clip answers: its firings, their windows, their priority."""
    if not manifest.firings:
        yield "firings", "no firing is named"
        return
    starts_ns = [firing.time_ns - round(firing.pre_s * NANOSECONDS_PER_SECOND) for firing in manifest.firings]
    ends_ns = [firing.time_ns + round(firing.post_s * NANOSECONDS_PER_SECOND) for firing in manifest.firings]
    asked, said = (min(starts_ns), max(ends_ns)), (manifest.requested_start_ns, manifest.requested_end_ns)
    if any(abs(one - other) > _ROUNDING_NS for one, other in zip(asked, said, strict=True)):
        yield "request", f"its firings ask for {list(asked)}, the manifest says {list(said)}"
    highest = min((firing.priority for firing in manifest.firings), key=lambda priority: priority.rank)
    if highest is not manifest.priority:
        yield "priority", f"its firings have priority {highest.value}, the manifest says {manifest.priority.value}"
    if (manifest.pull_id is not None) != (manifest.kind == "pull"):
        yield "request", f"a clip of kind {manifest.kind} with request {manifest.pull_id!r}"


def broken_topics(manifest: ClipManifest, counts: Mapping[str, int]) -> Iterator[_Broken]:
    """As many messages as it says; of chosen topics, beside cameras and firings, those alone, or they are missing."""
    for topic in sorted({*manifest.topics, *counts}):
        if manifest.topics.get(topic, 0) != counts.get(topic, 0):
            said, found = manifest.topics.get(topic, 0), counts.get(topic, 0)
            yield "topic_count", f"{topic}: manifest says {said} messages, the clip holds {found}"
    lacking = {topic for topic in manifest.chosen_topics if not counts.get(topic)}
    for topic in sorted(lacking ^ set(manifest.missing_topics)):
        wrong = "is chosen, but neither there nor listed as missing" if topic in lacking else "is not missing"
        yield "topics", f"{topic:.200} {wrong}"
    others = {topic for topic in counts if topics.camera_of(topic) is None and topic != topics.FIRING}
    for topic in sorted(others - set(manifest.chosen_topics)) if manifest.chosen_topics else ():
        yield "topics", f"{topic:.200} is none of the chosen topics"


def broken_calibrations(manifest: ClipManifest, times_ns: Mapping[str, Sequence[int]]) -> Iterator[_Broken]:
    """Each calibrated camera's once, at the clip's first instant; `times_ns` is where they were found, by camera."""
    for camera in manifest.cameras:
        declared = manifest.provenance.cameras.get(camera)
        if declared is not None and declared.calibrated and camera not in times_ns:
            yield "calibration", f"camera {camera} is calibrated, but the clip lacks its calibration"
    for camera, found_ns in times_ns.items():
        if list(found_ns) != [manifest.start_ns]:
            where = f"at {list(found_ns[:3])}" if len(found_ns) == 1 else f"{len(found_ns)} times"
            yield "calibration", f"camera {camera}: it stands {where}, not once at the start ({manifest.start_ns})"


def broken_thumbnail(
    said: ThumbnailsManifest, width_px: int, source_width_px: int, times_ns: Sequence[int]
) -> Iterator[str]:  # fmt: skip
    """What the newest of one camera's thumbnails breaks; `times_ns` are those of all so far."""
    if width_px != min(said.width_px, source_width_px):
        yield f"is {width_px} px wide, the manifest says {said.width_px} of {source_width_px}"
    distance_ns = times_ns[-1] - times_ns[-2] if len(times_ns) > 1 else None
    if distance_ns is not None and distance_ns < least_distance_ns(said.interval_s):
        yield f"comes {distance_ns / NANOSECONDS_PER_SECOND:.3f} s after another, the manifest says {said.interval_s} s"


def lacking_parameter_sets(packet: Packet) -> list[str]:
    """Which parameter sets a key frame comes without."""
    present = {nal_unit_type(packet.codec, packet.data[start]) for start, _ in nal_units(packet.data)}
    return [name for number, name in _PARAMETER_SETS[packet.codec].items() if number not in present]


def broken_variant(manifest: ClipManifest, counts: Mapping[str, int]) -> Iterator[_Broken]:
    """Video in a full clip, thumbnails in one of thumbnails, never both."""
    kinds = {topic.rpartition("/")[2] for topic in counts if topics.camera_of(topic) is not None and counts[topic]}
    if manifest.variant is ClipVariant.THUMBNAILS and "video" in kinds:
        yield "variant", "a clip of thumbnails holds video"
    if manifest.variant is ClipVariant.FULL and "thumbnail" in kinds:
        yield "variant", "a full clip holds thumbnails"
    if (manifest.thumbnails is not None) != (manifest.variant is ClipVariant.THUMBNAILS):
        yield "variant", f"variant {manifest.variant.value} and a manifest of thumbnails contradict one another"
    if manifest.cameras and (manifest.reference_camera or "") != next(iter(manifest.cameras)):
        yield "lag", f"the reference camera is {manifest.reference_camera}, not the first one of the clip"


def unreadable(message: RawMessage) -> str | None:
    """What is wrong with one message, or None. Video and thumbnails are decoded elsewhere."""
    schema = message.channel.schema_name
    if schema in (VIDEO_SCHEMA, THUMBNAIL_SCHEMA):
        return None
    try:
        if schema in _READERS or message.channel.message_encoding == "json":
            read: Callable[[bytes], object] = _READERS.get(schema, json.loads)
            read(message.data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DecodeError) as error:
        return f"{type(error).__name__}: {error}"[:200]
    return None
