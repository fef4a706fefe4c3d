"""Topic names and channel descriptions of every MCAP file that Shadowrig writes.

History segments, clips and recorded drives share one layout, so that any of them opens in Foxglove, Lichtblick or
Rerun without a plug-in, and any of them can be replayed:

| topic | message |
|---|---|
| `/camera/<name>/video` | `foxglove.CompressedVideo`: Annex B, one access unit, parameter sets with every key frame |
| `/camera/<name>/annotations` | `foxglove.ImageAnnotations`: one box and label for each track, stamped as the frame |
| `/camera/<name>/calibration` | `foxglove.CameraCalibration` |
| `/camera/<name>/thumbnail` | `foxglove.CompressedImage`: a small JPEG, in clips of the low-bandwidth variant only |
| `/<namespace>` | signals (`/vehicle`, `/controller`, `/lead`, ...): JSON `{"<column>": value}` at one sample time |
| `/prediction` `/comparison` `/firing` `/tick` | JSON, schemas in `json_schemas.py` |
| `/prediction_b` `/comparison_b` | the same of a second candidate network, where one runs beside the first |
| `/truth/events` | JSON `{"event", "detail", "until_ns"}`, planted or labelled |
| `/truth/<camera>` | JSON `{"objects": [...]}` of a synthetic drive |
| `/log` | `foxglove.Log` |

`log_time` is capture time (monotonic, ns), `publish_time` wall time (Unix, ns), `sequence` the source's own count.
A channel's metadata says what the message cannot: `codec` and `transcoded` of a video, `camera` of all of a camera's,
`source_width` and `source_height` (pixels of the full picture, which boxes are in) of a thumbnail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message

from runtime.formats.json_schemas import JSON_SCHEMAS, SIGNALS_SCHEMA

PREDICTION = "/prediction"
COMPARISON = "/comparison"
PREDICTION_B = "/prediction_b"
COMPARISON_B = "/comparison_b"
FIRING = "/firing"
TICK = "/tick"
LOG = "/log"
TRUTH_EVENTS = "/truth/events"

VIDEO_SCHEMA = "foxglove.CompressedVideo"
ANNOTATIONS_SCHEMA = "foxglove.ImageAnnotations"
CALIBRATION_SCHEMA = "foxglove.CameraCalibration"
THUMBNAIL_SCHEMA = "foxglove.CompressedImage"
LOG_SCHEMA = "foxglove.Log"

_CAMERA_PREFIX = "/camera/"
_TRUTH_PREFIX = "/truth/"
#: First words of a topic that a signal's namespace must not take.
RESERVED_NAMESPACES = frozenset(
    {"camera", "truth", "prediction", "prediction_b", "comparison", "comparison_b", "firing", "tick", "log"}
)


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """What MCAP needs to know about a topic before its first message."""

    topic: str
    schema_name: str
    schema_encoding: str  # "protobuf" or "jsonschema"
    schema_data: bytes
    message_encoding: str  # "protobuf" or "json"
    metadata: Mapping[str, str] = field(default_factory=dict)


def video_topic(camera: str) -> str:
    """`/camera/<name>/video`."""
    return f"{_CAMERA_PREFIX}{camera}/video"


def annotations_topic(camera: str) -> str:
    """`/camera/<name>/annotations`."""
    return f"{_CAMERA_PREFIX}{camera}/annotations"


def calibration_topic(camera: str) -> str:
    """`/camera/<name>/calibration`."""
    return f"{_CAMERA_PREFIX}{camera}/calibration"


def thumbnail_topic(camera: str) -> str:
    """`/camera/<name>/thumbnail`."""
    return f"{_CAMERA_PREFIX}{camera}/thumbnail"


def truth_objects_topic(camera: str) -> str:
    """`/truth/<camera>`; a camera called `events` would collide with `/truth/events`."""
    if camera == "events":
        raise ValueError(f"a camera cannot be called {camera!r}: {TRUTH_EVENTS} is taken; rename the camera")
    return f"{_TRUTH_PREFIX}{camera}"


def camera_of(topic: str) -> str | None:
    """The camera that a topic under `/camera/` belongs to, or None."""
    if not topic.startswith(_CAMERA_PREFIX):
        return None
    camera, _, kind = topic[len(_CAMERA_PREFIX) :].rpartition("/")
    return camera if camera and kind else None


def signal_topic(namespace: str) -> str:
    """The topic of the signals `<namespace>.*`."""
    if not namespace or namespace in RESERVED_NAMESPACES or "/" in namespace:
        raise ValueError(
            f"a signal cannot live in namespace {namespace!r}: use another first word than "
            f"{', '.join(sorted(RESERVED_NAMESPACES))}, without '/'"
        )
    return f"/{namespace}"


def split_signal(name: str) -> tuple[str, str]:
    """`vehicle.speed_mps` -> (`vehicle`, `speed_mps`); a name without a namespace is an error."""
    namespace, dot, column = name.partition(".")
    if not dot or not column:
        raise ValueError(f"signal {name!r} has no namespace: write it as <namespace>.<name_unit>")
    return namespace, column


@cache
def video_channel(camera: str, codec: str, transcoded: bool) -> ChannelSpec:
    """The channel of one camera's video."""
    metadata = {"camera": camera, "codec": codec, "transcoded": "true" if transcoded else "false"}
    return _protobuf_channel(video_topic(camera), CompressedVideo, metadata)


@cache
def annotations_channel(camera: str) -> ChannelSpec:
    """The channel of the boxes drawn over one camera."""
    return _protobuf_channel(annotations_topic(camera), ImageAnnotations, {"camera": camera})


@cache
def calibration_channel(camera: str) -> ChannelSpec:
    """The channel of one camera's calibration."""
    return _protobuf_channel(calibration_topic(camera), CameraCalibration, {"camera": camera})


@cache
def thumbnail_channel(camera: str, source_width: int, source_height: int) -> ChannelSpec:
    """The channel of one camera's thumbnails; the size is that of the picture they were made of."""
    metadata = {"camera": camera, "source_width": str(source_width), "source_height": str(source_height)}
    return _protobuf_channel(thumbnail_topic(camera), CompressedImage, metadata)


@cache
def log_channel() -> ChannelSpec:
    """The channel of log lines."""
    return _protobuf_channel(LOG, Log, {})


@cache
def signals_channel(namespace: str) -> ChannelSpec:
    """The channel of the signals `<namespace>.*`."""
    return _json_channel(signal_topic(namespace), SIGNALS_SCHEMA)


@cache
def truth_objects_channel(camera: str) -> ChannelSpec:
    """The channel of one camera's true objects in a synthetic drive."""
    return _json_channel(truth_objects_topic(camera), "shadowrig.TruthObjects", {"camera": camera})


@cache
def own_channel(topic: str) -> ChannelSpec:
    """The channel of `/prediction`, `/comparison` (and `…_b`), `/firing`, `/tick` or `/truth/events`."""
    return _json_channel(topic, _OWN_TOPIC_SCHEMAS[topic])


def _protobuf_channel(topic: str, message: type[Message], metadata: Mapping[str, str]) -> ChannelSpec:
    descriptor = message.DESCRIPTOR
    return ChannelSpec(topic, descriptor.full_name, "protobuf", _descriptor_set(descriptor.file), "protobuf", metadata)


def _json_channel(topic: str, schema_name: str, metadata: Mapping[str, str] | None = None) -> ChannelSpec:
    return ChannelSpec(topic, schema_name, "jsonschema", _json_schema(schema_name), "json", metadata or {})


@cache
def _descriptor_set(file: FileDescriptor) -> bytes:
    """A serialised FileDescriptorSet of `file` and all it imports: what MCAP asks of a protobuf schema."""
    files = FileDescriptorSet()
    seen: set[str] = set()

    def add(descriptor: FileDescriptor) -> None:
        if descriptor.name in seen:
            return
        seen.add(descriptor.name)
        for dependency in descriptor.dependencies:
            add(dependency)
        descriptor.CopyToProto(files.file.add())

    add(file)
    return bytes(files.SerializeToString(deterministic=True))


@cache
def _json_schema(schema_name: str) -> bytes:
    schema = {"title": schema_name, "type": "object", **JSON_SCHEMAS[schema_name]}
    return json.dumps(schema, sort_keys=True).encode()


_OWN_TOPIC_SCHEMAS = {
    PREDICTION: "shadowrig.Prediction",
    COMPARISON: "shadowrig.Comparison",
    PREDICTION_B: "shadowrig.Prediction",
    COMPARISON_B: "shadowrig.Comparison",
    FIRING: "shadowrig.Firing",
    TICK: "shadowrig.Tick",
    TRUTH_EVENTS: "shadowrig.TruthEvent",
}
