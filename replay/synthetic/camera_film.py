"""One painting process: paints some of the cameras of a recording frame by frame and encodes what they see.

Each camera's film is a file of little-endian records, merged into the drive by `drive_writer`:

    u64 capture time (ns) | u32 frame number | u8 is key | u32 length, access unit | u32 length, truth JSON

An access unit of length zero means that the camera delivered nothing (a planted fault); the truth is still there. The
encoder is libx264 with one thread, constant quantiser, no B-frames, a key frame every second and parameter sets on
each: the same input gives the same bytes. A frozen camera delivers one picture again and again as key frames
(identical input at a constant quantiser decodes to identical pictures).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from replay.synthetic.frame import Frame
from replay.synthetic.labels import Box, LabelCanvas
from replay.synthetic.painter import Painter
from replay.synthetic.projection import CameraView
from replay.synthetic.recording import Recording
from replay.synthetic.rigs import CAMERAS, synthetic_rig
from replay.synthetic.script import CameraFault
from replay.synthetic.sensor import Sensor
from replay.synthetic.world import DriveWorld
from runtime.messages import NANOSECONDS_PER_SECOND

START_NS = 1_000 * NANOSECONDS_PER_SECOND
CAMERA_STAGGER_NS = 200_000  # cameras of a real rig do not expose in the same microsecond
QUANTISER = 27
HEADER = struct.Struct("<QIB")
LENGTH = struct.Struct("<I")
NOISE_STREAM = 41


@dataclass(frozen=True, slots=True)
class FilmRecord:
    """One frame of one camera on its way into the drive."""

    time_ns: int
    number: int
    is_key: bool
    access_unit: bytes
    truth_json: bytes


def time_ns_of(time_s: float) -> int:
    """A time of the drive on its monotonic clock."""
    return START_NS + round(time_s * NANOSECONDS_PER_SECOND)


def film_path(folder: Path, camera: str) -> Path:
    """Where a camera's film lies while the drive is made."""
    return folder / f"{camera}.film"


def shoot(
    recording: Recording,
    cameras: Sequence[str],
    size: tuple[int, int],
    folder: Path,
    progress: Callable[[int], None],
) -> None:
    """Paint and encode these cameras into `folder`; `progress` is called with the number of new frames now and then."""
    cv2.setNumThreads(1)
    world = DriveWorld(recording)
    rig = synthetic_rig(*size)
    sensor = Sensor(*size, world.atmosphere, recording.seed)
    films = [
        _Film(recording, Painter(CameraView(rig.camera(name)), world.atmosphere), sensor, folder) for name in cameras
    ]
    for number, state in enumerate(recording.frames):
        frame = world.frame(state)
        for film in films:
            film.expose(number, state.time_s, frame)
        progress(len(films))
    for film in films:
        film.close()


class _Film:
    """One camera being shot."""

    def __init__(self, recording: Recording, painter: Painter, sensor: Sensor, folder: Path) -> None:
        self._painter = painter
        self._sensor = sensor
        self._seed = recording.seed
        self._index = CAMERAS.index(painter.view.name)
        self._faults = [fault for fault in recording.faults if fault.camera == painter.view.name]
        self._file: IO[bytes] = film_path(folder, painter.view.name).open("wb")
        self._encoder = _Encoder(painter.view.width, painter.view.height, recording.rate_hz)
        self._image = np.empty((painter.view.height, painter.view.width, 3), np.uint8)

    def expose(self, number: int, time_s: float, frame: Frame) -> None:
        """Take one frame; a faulty camera takes none, or shows the one before."""
        fault = self._fault_at(time_s)
        canvas = LabelCanvas(self._painter.view, frame)
        if fault is not None and fault.kind == "freeze":
            self._painter.paint(frame, np.empty_like(self._image), canvas)
            access_unit, is_key = self._encoder.encode(self._image, as_key=True)
        else:
            self._painter.paint(frame, self._image, canvas)
            generator = np.random.Generator(np.random.PCG64([NOISE_STREAM, self._seed, self._index, number]))
            self._sensor.expose(self._image, self._painter.view, time_s, generator)
            dropped = fault is not None
            access_unit, is_key = (b"", False) if dropped else self._encoder.encode(self._image)
        time_ns = time_ns_of(time_s) + self._index * CAMERA_STAGGER_NS
        truth = json.dumps([_box_fields(box) for box in canvas.boxes()]).encode()
        self._write(FilmRecord(time_ns, number, is_key, access_unit, truth))

    def _fault_at(self, time_s: float) -> CameraFault | None:
        return next((fault for fault in self._faults if fault.covers(time_s)), None)

    def _write(self, record: FilmRecord) -> None:
        self._file.write(HEADER.pack(record.time_ns, record.number, record.is_key))
        for part in (record.access_unit, record.truth_json):
            self._file.write(LENGTH.pack(len(part)) + part)

    def close(self) -> None:
        """Finish the film. The encoder holds nothing back: it has no lookahead and no B-frames."""
        self._encoder.close()
        self._file.close()


class _Encoder:
    """H.264 in Annex B, one access unit out for every image in."""

    def __init__(self, width: int, height: int, rate_hz: float) -> None:
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate = Fraction(rate_hz).limit_denominator(1000)
        context.time_base = 1 / context.framerate
        context.thread_count = 1
        context.gop_size = max(1, round(rate_hz))
        context.max_b_frames = 0
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "qp": str(QUANTISER),
            "forced-idr": "1",
            "x264-params": "repeat-headers=1:scenecut=0:open-gop=0:sliced-threads=0:threads=1:annexb=1",
        }
        self._context = context
        self._count = 0

    def encode(self, image: NDArray[np.uint8], as_key: bool = False) -> tuple[bytes, bool]:
        """The access unit of one image, and whether it is a key frame."""
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = self._count
        self._count += 1
        if as_key:
            frame.pict_type = av.video.frame.PictureType.I
        packets = self._context.encode(frame)
        if len(packets) != 1:
            raise RuntimeError(f"libx264 gave {len(packets)} packets for one frame; zerolatency promises one")
        return bytes(packets[0]), packets[0].is_keyframe

    def close(self) -> None:
        """Check that nothing is left inside."""
        left = self._context.encode(None)
        if left:
            raise RuntimeError(f"libx264 held back {len(left)} frames; zerolatency promises none")


def _box_fields(box: Box) -> dict[str, object]:
    return {
        "class_name": box.class_name,
        "track_id": box.track_id,
        "box_px": [round(value, 2) for value in box.box],
        "visible_fraction": box.visible_fraction,
        "state": box.state,
        "distance_m": box.distance_m,
    }


def read_film(path: Path) -> Iterator[FilmRecord]:
    """The records of a finished film, in order of time."""
    with path.open("rb") as file:
        while head := file.read(HEADER.size):
            time_ns, number, is_key = HEADER.unpack(head)
            access_unit = file.read(LENGTH.unpack(file.read(LENGTH.size))[0])
            truth = file.read(LENGTH.unpack(file.read(LENGTH.size))[0])
            yield FilmRecord(time_ns, number, bool(is_key), access_unit, truth)
