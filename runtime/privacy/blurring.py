"""Blurs what a detector finds in every camera of a clip, frame by frame, while the clip is written.

    video message ─▶ decode, detect ─▶ boxes by time ─┐
          └──── waits `hold_s` ────▶ decode again ─▶ blur boxes of ±hold_s ─▶ encode ─▶ video message

A detector misses single frames. So a frame gets the boxes of its neighbours too, `hold_s` back and ahead; for that,
messages wait as they came (compressed), and every video is decoded twice: pictures would take the memory. All other
messages wait with them, so that the order stays. A message waits at most `MAX_WAITING_BYTES` of others. Of a clip of
thumbnails, the frames between them are looked at, too, and go no further.

It fails closed. A frame that cannot be decoded, or that no detector has looked at, does not enter the clip; the gap is
in its manifest. A detector or encoder that fails ends the clip (`SealingRefusedError`). Pictures of another kind than
video are blurred where they are JPEG (thumbnails), and dropped otherwise.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import av
import cv2
import numpy as np
from av.error import FFmpegError
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from numpy.typing import NDArray

from runtime.formats import topics
from runtime.formats.foxglove_messages import encode_video
from runtime.formats.mcap_files import McapFileError, RawMessage
from runtime.messages import NANOSECONDS_PER_SECOND, Packet
from runtime.privacy.pixels import Box, ClipEncoder, PlaneReader, blur_regions, grown
from runtime.recording.clip_file import ClipError, DecodedFrame, decode_packet, new_decoder
from runtime.recording.sealing_policy import ForbiddenTime, IsBeside, SealingRefusal, SealingRefusedError

MAX_WAITING_BYTES = 256 * 1024 * 1024
JPEG_QUALITY = 85
_IMAGE_SCHEMA = "foxglove.CompressedImage"
#: Schemas that hold no picture. Anything else is dropped.
_PICTURELESS = (topics.ANNOTATIONS_SCHEMA, topics.CALIBRATION_SCHEMA, topics.LOG_SCHEMA, "foxglove.LocationFix")


class DetectorError(Exception):
    """The detector cannot be opened or has failed; the text says why."""


class RegionDetector(Protocol):
    """Finds what is to be blurred."""

    def boxes_px(self, picture: av.VideoFrame, time_ns: int) -> NDArray[np.float32]:
        """Boxes `[K, 4]` (x0, y0, x1, y1) in pixels of the picture. DetectorError when it fails."""


@dataclass(frozen=True, slots=True)
class BlurSettings:
    """How widely to blur."""

    hold_s: float = 0.5
    grow: float = 0.2  # of a box's side, on every side
    cameras: tuple[str, ...] = ()  # empty: all


@dataclass(slots=True)
class _Camera:
    """Two passes over one camera's video."""

    seen: deque[tuple[int, list[Box]]] = field(default_factory=deque)  # by time, of the first pass
    looking: av.VideoCodecContext | None = None
    showing: av.VideoCodecContext | None = None
    planes: PlaneReader = field(default_factory=PlaneReader)
    encoder: ClipEncoder | None = None


class Blurring:
    """For one clip."""

    def __init__(
        self, detector: RegionDetector, settings: BlurSettings, progress: Callable[[], None] = lambda: None
    ) -> None:
        """`progress` is called after every picture: a clip takes longer than a watchdog waits."""
        self._detector = detector
        self._settings = settings
        self._hold_ns = round(settings.hold_s * NANOSECONDS_PER_SECOND)
        self._progress = progress
        self._cameras: dict[str, _Camera] = {}
        self.frames: Counter[str] = Counter()  # by camera
        self.regions: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()  # frames and messages that could not be made safe, by camera or schema

    def transform(
        self, messages: Iterable[RawMessage], is_beside: IsBeside = lambda message: False
    ) -> Iterator[RawMessage]:
        """What may enter the clip, in the order in which it came; what is beside it is looked at only."""
        waiting: deque[RawMessage] = deque()
        waiting_bytes = 0
        try:
            for message in messages:
                self._look(message)
                if not is_beside(message):
                    waiting.append(message)
                    waiting_bytes += len(message.data)
                while waiting and self._is_due(waiting[0], message.time_ns, waiting_bytes):
                    first = waiting.popleft()
                    waiting_bytes -= len(first.data)
                    yield from self._shown(first)
            while waiting:
                yield from self._shown(waiting.popleft())
        except DetectorError as error:
            raise SealingRefusedError(SealingRefusal("detector", str(error), is_final=False)) from error

    def _is_due(self, message: RawMessage, now_ns: int, waiting_bytes: int) -> bool:
        return now_ns - message.time_ns > self._hold_ns or waiting_bytes > MAX_WAITING_BYTES

    # The first pass

    def _look(self, message: RawMessage) -> None:
        packet = self._video(message)
        if packet is None:
            return
        camera = self._cameras.setdefault(packet.camera, _Camera())
        for decoded in self._decoded(camera, packet, is_first=True):
            boxes = [(b[0], b[1], b[2], b[3]) for b in self._boxes(decoded.frame, decoded.time_ns)]
            camera.seen.append((decoded.time_ns, boxes))
            self._progress()

    def _boxes(self, picture: av.VideoFrame, time_ns: int) -> list[list[float]]:
        boxes: list[list[float]] = self._detector.boxes_px(picture, time_ns).tolist()
        return boxes

    # The second pass

    def _shown(self, message: RawMessage) -> Iterator[RawMessage]:
        packet = self._video(message)
        if packet is not None:
            yield from self._blurred_video(message, packet)
        elif not self._is_chosen(message):
            yield message
        elif message.channel.schema_name == _IMAGE_SCHEMA:
            yield from self._blurred_image(message)
        elif message.channel.message_encoding == "json" or message.channel.schema_name in _PICTURELESS:
            yield message
        else:
            self.dropped[message.channel.schema_name] += 1

    def _blurred_video(self, message: RawMessage, packet: Packet) -> Iterator[RawMessage]:
        camera = self._cameras[packet.camera]
        frames = self._decoded(camera, packet, is_first=False)
        if not frames:
            self.dropped[packet.camera] += 1
        for decoded in frames:
            boxes = self._boxes_around(camera, decoded.time_ns)
            if boxes is None:
                self.dropped[packet.camera] += 1
                continue
            data = self._encode(camera, decoded, boxes, packet)
            self.frames[packet.camera] += 1
            self.regions[packet.camera] += len(boxes)
            channel = topics.video_channel(packet.camera, "h264", True)
            yield replace(message, channel=channel, data=encode_video(replace(packet, codec="h264", data=data)))
            self._progress()

    def _boxes_around(self, camera: _Camera, time_ns: int) -> list[Box] | None:
        """Boxes of this frame and its neighbours; None when the first pass has not seen it."""
        while camera.seen and camera.seen[0][0] < time_ns - self._hold_ns:
            camera.seen.popleft()
        near = [(at_ns, boxes) for at_ns, boxes in camera.seen if at_ns <= time_ns + self._hold_ns]
        if not any(at_ns == time_ns for at_ns, _ in near):
            return None
        return [box for _, boxes in near for box in boxes]

    def _encode(self, camera: _Camera, decoded: DecodedFrame, boxes: Collection[Box], packet: Packet) -> bytes:
        planes, width, height = camera.planes.read(decoded.frame)
        blur_regions(planes, width, height, [grown(box, self._settings.grow, width, height) for box in boxes])
        if camera.encoder is None or camera.encoder.size != (width, height):
            camera.encoder = ClipEncoder(width, height)
        try:
            return camera.encoder.encode(planes, packet.is_key)
        except (FFmpegError, ValueError) as error:
            refusal = SealingRefusal("encoder", f"camera {packet.camera}: {error}", is_final=False)
            raise SealingRefusedError(refusal) from error

    def _blurred_image(self, message: RawMessage) -> Iterator[RawMessage]:
        """A still by itself: there is nothing before and behind it to go by."""
        image = CompressedImage.FromString(message.data)
        pixels = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR) if image.format == "jpeg" else None
        if pixels is None:
            self.dropped[message.channel.schema_name] += 1
            return
        frame = av.VideoFrame.from_ndarray(np.asarray(pixels, np.uint8), format="bgr24")
        boxes = [(b[0], b[1], b[2], b[3]) for b in self._boxes(frame, message.time_ns)]
        planes, width, height = PlaneReader().read(frame)
        blur_regions(planes, width, height, [grown(box, self._settings.grow, width, height) for box in boxes])
        coarse = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
        _, jpeg = cv2.imencode(".jpg", coarse, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        image.data = jpeg.tobytes()
        yield replace(message, data=image.SerializeToString())

    # Either

    def _video(self, message: RawMessage) -> Packet | None:
        """The packet of a video that is to be blurred; None for anything else."""
        if message.channel.schema_name != topics.VIDEO_SCHEMA or not self._is_chosen(message):
            return None
        try:
            return message.packet()
        except McapFileError as error:
            at_ns, camera = message.time_ns, topics.camera_of(message.topic) or ""
            forbidden = ForbiddenTime(at_ns, at_ns, "video", str(error), camera)
            raise SealingRefusedError(SealingRefusal("video", str(error), forbidden=(forbidden,))) from error

    def _is_chosen(self, message: RawMessage) -> bool:
        camera = topics.camera_of(message.topic)
        return not self._settings.cameras or camera is None or camera in self._settings.cameras

    def _decoded(self, camera: _Camera, packet: Packet, is_first: bool) -> list[DecodedFrame]:
        """Frames of one packet; none where it cannot be decoded."""
        decoder = camera.looking if is_first else camera.showing
        try:
            if decoder is None:
                decoder = new_decoder(packet.codec)
                if is_first:
                    camera.looking = decoder
                else:
                    camera.showing = decoder
            return decode_packet(decoder, packet)
        except (ClipError, FFmpegError):
            return []
