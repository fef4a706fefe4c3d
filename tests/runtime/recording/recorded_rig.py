"""A rig of eight small H.264 cameras and what a runtime would record of it; shared by the recording tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter, RawMessage
from runtime.messages import (
    Action,
    CaptureWindow,
    ClipVariant,
    Comparison,
    Detections,
    Firing,
    Frameset,
    Packet,
    Prediction,
    Priority,
    SignalSample,
    TickReport,
    Track,
)
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.manifest import MANIFEST_ATTACHMENT, MANIFEST_METADATA, PROVENANCE_METADATA
from runtime.recording.provenance import CameraProvenance, ModelProvenance, Provenance
from runtime.recording.sessions import SessionRecord

CAMERAS = (
    "front_main",
    "front_wide",
    "front_narrow",
    "front_left",
    "front_right",
    "rear_left",
    "rear_right",
    "rear",
)
SECOND_NS = 1_000_000_000
START_NS = 1_000 * SECOND_NS
WALL_OFFSET_NS = 1_700_000_000 * SECOND_NS
PERIOD_NS = 50_000_000
GOP = 10
SIZE = (160, 96)


def encode_camera(camera: str, frames: int, start_ns: int = START_NS, gop: int = GOP, seed: int = 0) -> list[Packet]:
    """Real H.264, Annex B, parameter sets with every key frame, no B-frames, 20 Hz."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = SIZE
    encoder.pix_fmt = "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 20), Fraction(20)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "bf": "0",
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:annexb=1:repeat-headers=1",
    }
    packets = []
    for index in range(frames):
        image = np.full((SIZE[1] * 3 // 2, SIZE[0]), 60 + seed * 9, np.uint8)
        column = (index * 3 + seed * 17) % (SIZE[0] - 24)
        image[30:60, column : column + 24] = 220
        frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
        frame.pts = index
        for encoded in encoder.encode(frame):
            time_ns = start_ns + index * PERIOD_NS
            packets.append(
                Packet(camera, index, time_ns, time_ns + WALL_OFFSET_NS, "h264", encoded.is_keyframe, bytes(encoded))
            )
    return packets


def provenance() -> Provenance:
    return Provenance(
        software_version="0.1.0",
        vehicle="vehicle-7f3a",
        config_sha256="c" * 64,
        rules_sha256="d" * 64,
        model=ModelProvenance(name="hydra_mini", version="1", sha256="a" * 64, backend="onnx", precision="int8"),
        engine="onnxruntime CPU",
        calibration_sha256="e" * 64,
        cameras={camera: CameraProvenance(rate_hz=20.0, width=SIZE[0], height=SIZE[1]) for camera in CAMERAS},
    )


def session(name: str = "first", history_s: float = 60.0, started_wall_ns: int = 1) -> SessionRecord:
    return SessionRecord(
        session=name, pid=1, started_wall_ns=started_wall_ns, history_s=history_s, provenance=provenance()
    )


def firing(
    at_s: float,
    rule: str = "driver_takeover",
    sequence: int = 0,
    pre_s: float = 3.0,
    post_s: float = 2.0,
    priority: Priority = Priority.HIGH,
    cameras: tuple[str, ...] = (),
    topics: tuple[str, ...] = (),
    variant: ClipVariant = ClipVariant.FULL,
) -> Firing:
    """A firing `at_s` seconds after the drive's start."""
    time_ns = START_NS + round(at_s * SECOND_NS)
    return Firing(
        rule=rule,
        rule_version="b" * 64,
        sequence=sequence,
        time_ns=time_ns,
        wall_ns=time_ns + WALL_OFFSET_NS,
        operands={"vehicle.brake_pressed": True, "lead.distance_m": None},
        priority=priority,
        capture=CaptureWindow(pre_s=pre_s, post_s=post_s, cameras=cameras, topics=topics, variant=variant),
    )


def tick_report(sequence: int, cameras: tuple[str, ...] = CAMERAS) -> TickReport:
    """A tick over frames of all cameras with one tracked vehicle in the first."""
    time_ns = START_NS + sequence * PERIOD_NS
    count = len(cameras)
    frameset = Frameset(
        sequence=sequence,
        time_ns=time_ns,
        cameras=cameras,
        present=np.ones(count, np.bool_),
        frame_time_ns=time_ns + np.arange(count, dtype=np.int64) * 1_000_000,
        frame_sequence=np.full(count, sequence, np.int64),
        images=np.zeros((count, 3, 4, 4), np.uint8),
    )
    detections = Detections(
        camera=np.array([0], np.int32),
        class_id=np.array([0], np.int32),
        score=np.array([0.9], np.float32),
        box_px=np.array([[20, 30, 60, 70]], np.float32),
    )
    prediction = Prediction(
        time_ns=time_ns,
        detections=detections,
        class_names=("vehicle",),
        control=Action(0.5, 0.001),
        lead_distance_m=31.5,
        scalars={"rain_probability": 0.25, "unknown": float("nan")},
        heads={"embedding": np.ones((count, 4), np.float32) * sequence, "mask": np.zeros((8, 2, 48, 80), np.float32)},
    )
    track = Track(7, cameras[0], "vehicle", 0.9, (20.0, 30.0, 60.0, 70.0), START_NS, time_ns, True, distance_m=31.5)
    comparison = Comparison(time_ns, Action(0.5, 0.001), Action(-1.0), {"diff.accel_mps2": 1.5})
    return TickReport(sequence, time_ns, frameset, prediction, [track], comparison, [], {"infer": 4.25})


@dataclass(frozen=True)
class Recording:
    """What to write into a history."""

    packets: dict[str, list[Packet]]
    firings: tuple[Firing, ...] = ()
    until_s: float = 14.0

    def records(self) -> Iterable[tuple[int, str, object]]:
        """Everything in the order in which a runtime would offer it."""
        until_ns = START_NS + round(self.until_s * SECOND_NS)
        items: list[tuple[int, str, object]] = []
        for packets in self.packets.values():
            items += [(packet.time_ns, "packet", packet) for packet in packets]
        for index in range(280):
            time_ns = START_NS + index * PERIOD_NS
            speed = SignalSample("vehicle.speed_mps", time_ns, 20.0 + index / 100)
            items += [(time_ns, "signals", [speed]), (time_ns + 20_000_000, "tick", tick_report(index))]
        items += [(item.time_ns + 20_000_001, "firing", item) for item in self.firings]
        return sorted((item for item in items if item[0] < until_ns), key=lambda item: item[0])

    def write(self, writer: HistoryWriter) -> None:
        for _, kind, value in self.records():
            getattr(writer, kind)(value)


def without(packets: dict[str, list[Packet]], camera: str, drop: Callable[[Packet], bool]) -> dict[str, list[Packet]]:
    """The rig with some packets of one camera lost."""
    return {**packets, camera: [packet for packet in packets[camera] if not drop(packet)]}


def as_transcoded(packets: list[Packet]) -> list[Packet]:
    return [replace(packet, transcoded=True) for packet in packets]


def rewrite(
    clip: Path,
    change: Callable[[RawMessage], Iterator[RawMessage]] | None = None,
    manifest: Callable[[dict[str, Any]], None] | None = None,
    leave_out: frozenset[str] = frozenset(),
) -> Path:
    """The clip written anew as a faulty or lying writer would have left it."""
    bad = clip.with_name("bad.mcap")
    with McapTopicReader(clip) as reader, McapTopicWriter(bad) as writer:
        text = reader.attachments()[MANIFEST_ATTACHMENT].decode()
        if manifest is not None:
            fields = json.loads(text)
            manifest(fields)
            text = json.dumps(fields)
        for message in reader.messages():
            for item in change(message) if change else (message,):
                writer.write(item.channel, item.data, item.time_ns, item.wall_ns, item.sequence)
        if PROVENANCE_METADATA not in leave_out:
            writer.metadata(PROVENANCE_METADATA, reader.metadata()[PROVENANCE_METADATA])
        if MANIFEST_METADATA not in leave_out:
            writer.metadata(MANIFEST_METADATA, {"json": text})
        if MANIFEST_ATTACHMENT not in leave_out:
            writer.attachment(MANIFEST_ATTACHMENT, "application/json", text.encode())
    return bad
