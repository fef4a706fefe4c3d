"""The messages that have a well-known Foxglove schema: video, thumbnails, annotations, calibration, log.

Protobuf timestamps carry capture time, the same for a frame and the annotations drawn over it, because Foxglove joins
the two by that stamp. What a video message must hold (Annex B, one access unit, parameter sets with every key frame,
no B-frames) is described at https://docs.foxglove.dev/docs/sdk/schemas/compressed-video; the capture stage makes it so,
`recording.verify` checks it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from google.protobuf.timestamp_pb2 import Timestamp

from runtime.formats.annotation_boxes import boxed
from runtime.formats.bitstream import is_key_access_unit
from runtime.messages import NANOSECONDS_PER_SECOND, PASS_THROUGH_CODECS, Packet, Track

#: Outline colour (r, g, b) by class; anything else is drawn in the last one.
CLASS_COLORS: Mapping[str, tuple[float, float, float]] = {
    "vehicle": (0.20, 0.75, 1.00),
    "car": (0.20, 0.75, 1.00),
    "truck": (0.15, 0.55, 0.95),
    "bus": (0.15, 0.55, 0.95),
    "pedestrian": (1.00, 0.60, 0.10),
    "person": (1.00, 0.60, 0.10),
    "cyclist": (1.00, 0.85, 0.10),
    "bicycle": (1.00, 0.85, 0.10),
    "stop_sign": (1.00, 0.25, 0.25),
    "stop sign": (1.00, 0.25, 0.25),
    "traffic_light": (0.35, 0.95, 0.40),
    "traffic light": (0.35, 0.95, 0.40),
}
_OTHER_CLASS_COLOR = (0.85, 0.45, 1.00)


@dataclass(frozen=True, slots=True)
class AnnotatedBox:
    """One box as it was drawn: read back from `foxglove.ImageAnnotations`."""

    box_px: tuple[float, float, float, float]
    label: str
    color: tuple[float, float, float]


def class_color(class_name: str) -> tuple[float, float, float]:
    """The outline colour (r, g, b in 0..1) of a class."""
    return CLASS_COLORS.get(class_name, _OTHER_CLASS_COLOR)


# Video


def encode_video(packet: Packet) -> bytes:
    """A `foxglove.CompressedVideo` of one access unit; ValueError where Foxglove could not play the codec."""
    if packet.codec not in PASS_THROUGH_CODECS:
        raise ValueError(
            f"camera {packet.camera}: codec {packet.codec!r} cannot go into a recording as it is; "
            f"encode it to one of {', '.join(PASS_THROUGH_CODECS)} first"
        )
    message = CompressedVideo(frame_id=packet.camera, data=packet.data, format=packet.codec)
    _stamp(message, packet.time_ns)
    return bytes(message.SerializeToString())


def decode_video(
    data: bytes, camera: str, time_ns: int, wall_ns: int, sequence: int = 0, transcoded: bool = False
) -> Packet:
    """The packet inside a `foxglove.CompressedVideo`; the key flag is read from the bitstream itself."""
    message = CompressedVideo.FromString(data)
    is_key = is_key_access_unit(message.format, message.data)
    return Packet(camera, sequence, time_ns, wall_ns, message.format, is_key, message.data, transcoded)


# Thumbnails

THUMBNAIL_CODEC = "jpeg"


def encode_thumbnail(camera: str, time_ns: int, jpeg: bytes) -> bytes:
    """A `foxglove.CompressedImage` of one JPEG, stamped with the capture time of the frame it was made of."""
    message = CompressedImage(frame_id=camera, data=jpeg, format=THUMBNAIL_CODEC)
    _stamp(message, time_ns)
    return bytes(message.SerializeToString())


def decode_thumbnail(data: bytes, camera: str, time_ns: int, wall_ns: int, sequence: int = 0) -> Packet:
    """The picture inside a `foxglove.CompressedImage` as a packet that stands for itself (codec `jpeg`)."""
    message = CompressedImage.FromString(data)
    return Packet(camera, sequence, time_ns, wall_ns, message.format, True, message.data, transcoded=True)


# Annotations and calibration


def encode_annotations(tracks: Iterable[Track], frame_time_ns: int) -> bytes:
    """The boxes and labels of one camera's visible tracks, stamped with the frame they were seen in."""
    message = ImageAnnotations()
    _stamp(message, frame_time_ns)
    boxes = [
        boxed(track.box_px, track_label(track), class_color(track.class_name)) for track in tracks if track.visible
    ]
    return b"".join((message.SerializeToString(), *boxes))


def track_label(track: Track) -> str:
    """What stands above a box: class, identity, state, score, distance."""
    state = f" {track.state}" if track.state else ""
    distance = f" {track.distance_m:.0f} m" if track.distance_m is not None else ""
    return f"{track.class_name} {track.track_id}{state} {track.score:.2f}{distance}"


def decode_annotations(data: bytes) -> list[AnnotatedBox]:
    """Boxes with their labels; outlines that are not four-cornered loops of finite numbers are left out."""
    message = ImageAnnotations.FromString(data)
    boxes = []
    for index, outline in enumerate(message.points):
        if outline.type != PointsAnnotation.LINE_LOOP or len(outline.points) != 4:
            continue
        xs, ys = [p.x for p in outline.points], [p.y for p in outline.points]
        label = message.texts[index].text if index < len(message.texts) else ""
        color = (outline.outline_color.r, outline.outline_color.g, outline.outline_color.b)
        if all(map(math.isfinite, (*xs, *ys, *color))):
            boxes.append(AnnotatedBox((min(xs), min(ys), max(xs), max(ys)), label, color))
    return boxes


def encode_calibration(
    camera: str,
    width: int,
    height: int,
    intrinsic: Sequence[float],
    distortion: Sequence[float] = (),
    distortion_model: str = "plumb_bob",
    time_ns: int = 0,
) -> bytes:
    """A `foxglove.CameraCalibration` from pixels and the row-major 3x3 matrix K."""
    if len(intrinsic) != 9:
        raise ValueError(f"camera {camera}: K needs 9 values in row-major order, got {len(intrinsic)}")
    k = [float(value) for value in intrinsic]
    message = CameraCalibration(
        frame_id=camera,
        width=width,
        height=height,
        distortion_model=distortion_model if distortion else "",
        D=[float(value) for value in distortion],
        K=k,
        R=[1, 0, 0, 0, 1, 0, 0, 0, 1],
        P=[k[0], k[1], k[2], 0, k[3], k[4], k[5], 0, k[6], k[7], k[8], 0],
    )
    _stamp(message, time_ns)
    return bytes(message.SerializeToString())


def decode_calibration(data: bytes) -> CameraCalibration:
    """The protobuf message itself: its fields are documented by Foxglove."""
    message = CameraCalibration()
    message.ParseFromString(data)
    return message


# Log


def encode_log(time_ns: int, level: str, name: str, message: str) -> bytes:
    """A `foxglove.Log`; `level` is one of debug, info, warning, error, fatal."""
    log = Log(level=Log.Level.Value(level.upper()), name=name, message=message)
    _stamp(log, time_ns)
    return bytes(log.SerializeToString())


class _Stamped(Protocol):
    """A message with a `timestamp` field."""

    @property
    def timestamp(self) -> Timestamp: ...


def _stamp(message: _Stamped, time_ns: int) -> None:
    seconds, nanos = divmod(time_ns, NANOSECONDS_PER_SECOND)
    message.timestamp.seconds = seconds
    message.timestamp.nanos = nanos
