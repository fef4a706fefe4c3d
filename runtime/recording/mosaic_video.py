"""A clip as one film: all cameras side by side with the boxes that the network saw, under a bar with rules and time.

There is one picture for each frame of the reference camera (of the camera with most frames where that one has fewer
than half as many), at its capture time; every other camera shows its newest frame at that instant. Boxes are those of
the shown frame, or of one at most `HOLD_NS` older: the network looks at fewer frames than a fast camera takes. A camera
that shows nothing new for `STALE_NS` says so; one that is missing leaves a grey tile.

One decoder for each camera, one frame of each in memory: a clip of any length takes the same memory.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path

import av

from runtime.formats import topics
from runtime.formats.foxglove_messages import AnnotatedBox
from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.camera_videos import writing
from runtime.recording.clip_file import ClipError, DecodedFrame, boxes_of, pictures
from runtime.recording.drawing import (
    ACCENT,
    MUTED,
    TEXT,
    Image,
    canvas,
    caption,
    empty_tile,
    grid,
    tile,
    tile_height_px,
    title_bar,
)
from runtime.recording.manifest import ClipManifest
from runtime.recording.pictures import clip_title

TILE_WIDTH_PX = 480
MAX_COLUMNS = 4
HOLD_NS = 120_000_000
STALE_NS = 500_000_000
#: So long after a firing the bar stays lit.
LIT_NS = NANOSECONDS_PER_SECOND // 2
_TIME_BASE = Fraction(1, 90_000)


def write_mosaic_video(reader: McapTopicReader, manifest: ClipManifest, path: Path) -> None:
    """Write the film as MP4 (H.264). ClipError without any camera."""
    instants_ns = _instants(reader, manifest)
    if not instants_ns:
        raise ClipError(f"{reader.path}: the clip has no pictures, so there is no mosaic of it")
    views = [_CameraView(reader, camera) for camera in manifest.cameras]
    composer = _Composer(manifest, views)
    with writing(path), av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as output:
        stream: av.VideoStream | None = None
        for instant_ns in instants_ns:
            image = composer.picture(instant_ns)
            if stream is None:
                stream = _open_stream(output, image)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = (instant_ns - instants_ns[0]) * _TIME_BASE.denominator // NANOSECONDS_PER_SECOND
            frame.time_base = _TIME_BASE
            output.mux(stream.encode(frame))
        if stream is not None:
            output.mux(stream.encode(None))


def _open_stream(output: av.container.OutputContainer, image: Image) -> av.VideoStream:
    stream = output.add_stream("libx264", rate=30)
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = _TIME_BASE
    stream.options = {"preset": "veryfast", "crf": "23"}
    return stream


def _instants(reader: McapTopicReader, manifest: ClipManifest) -> list[int]:
    """Capture times of the leading camera: the reference, unless it has hardly any frames."""
    if not manifest.cameras:
        return []
    busiest = max(manifest.cameras, key=lambda name: manifest.cameras[name].frames)
    leading = manifest.reference_camera or busiest
    if 2 * manifest.cameras[leading].frames < manifest.cameras[busiest].frames:
        leading = busiest
    wanted = {topics.video_topic(leading), topics.thumbnail_topic(leading)}
    return [message.time_ns for message in reader.messages(wanted)]


class _CameraView:
    """What one camera shows as time goes on."""

    def __init__(self, reader: McapTopicReader, camera: str) -> None:
        self.camera = camera
        self._frames: Iterator[DecodedFrame] = pictures(reader, camera)
        self._next = next(self._frames, None)
        self._shown: DecodedFrame | None = None
        annotations = list(reader.messages({topics.annotations_topic(camera)}))
        self._box_times_ns = [message.time_ns for message in annotations]
        self._boxes = annotations

    @property
    def aspect(self) -> float | None:
        """Height over width of its first picture."""
        frame = self._shown or self._next
        return None if frame is None else float(frame.frame.height / frame.frame.width)

    def at(self, instant_ns: int) -> DecodedFrame | None:
        """The newest frame at this instant; None before the first. Instants never go back."""
        while self._next is not None and self._next.time_ns <= instant_ns:
            self._shown, self._next = self._next, next(self._frames, None)
        return self._shown

    def boxes(self, frame_ns: int) -> list[AnnotatedBox]:
        """The boxes of this frame, or the newest that are not too old."""
        index = bisect.bisect_right(self._box_times_ns, frame_ns) - 1
        if index < 0 or frame_ns - self._box_times_ns[index] > HOLD_NS:
            return []
        return boxes_of(self._boxes[index])


class _Composer:
    """Puts the cameras' pictures together. Tiles are drawn anew only when their frame changes."""

    def __init__(self, manifest: ClipManifest, views: list[_CameraView]) -> None:
        self._manifest = manifest
        self._views = views
        self._height = tile_height_px(TILE_WIDTH_PX, (aspect for view in views if (aspect := view.aspect) is not None))
        self._tiles: dict[str, tuple[int, Image]] = {}
        self._missing = [
            empty_tile(TILE_WIDTH_PX, self._height, f"{camera}: missing") for camera in manifest.missing_cameras
        ]
        self._columns = min(MAX_COLUMNS, len(views) + len(self._missing))

    def picture(self, instant_ns: int) -> Image:
        """All cameras at one instant; even sides, as 4:2:0 needs them."""
        tiles = [self._tile(view, instant_ns) for view in self._views]
        body = grid([*tiles, *self._missing], self._columns)
        bar = self._bar(body.shape[1], instant_ns)
        height, width = body.shape[0] + bar.shape[0], body.shape[1]
        image = canvas(width + width % 2, height + height % 2)
        image[: bar.shape[0], :width] = bar
        image[bar.shape[0] : height, :width] = body
        return image

    def _tile(self, view: _CameraView, instant_ns: int) -> Image:
        frame = view.at(instant_ns)
        if frame is None:
            return empty_tile(TILE_WIDTH_PX, self._height, f"{view.camera}: not yet")
        drawn_ns, image = self._tiles.get(view.camera, (None, None))
        if image is None or drawn_ns != frame.time_ns:
            image = tile(frame.rgb(), view.boxes(frame.time_ns), TILE_WIDTH_PX, self._height, frame.source_size[0])
            self._tiles[view.camera] = (frame.time_ns, image)
        age_ns = instant_ns - frame.time_ns
        shown: Image = image.copy()
        if self._manifest.thumbnails is None and age_ns > STALE_NS:
            caption(shown, f"{view.camera}: no new frame for {age_ns / NANOSECONDS_PER_SECOND:.1f} s", MUTED)
        else:
            caption(shown, view.camera)
        return shown

    def _bar(self, width: int, instant_ns: int) -> Image:
        manifest = self._manifest
        wall_s = (manifest.start_wall_ns + instant_ns - manifest.start_ns) / NANOSECONDS_PER_SECOND
        wall = datetime.fromtimestamp(wall_s, timezone.utc)
        offset_s, is_lit = 0.0, False
        if manifest.firings:
            offset_s = (instant_ns - manifest.firings[0].time_ns) / NANOSECONDS_PER_SECOND
            is_lit = any(0 <= instant_ns - firing.time_ns <= LIT_NS for firing in manifest.firings)
        detail = f"{offset_s:+.2f} s   {wall:%Y-%m-%d %H:%M:%S} UTC"
        return title_bar(width, clip_title(manifest), detail, ACCENT if is_lit else TEXT)
