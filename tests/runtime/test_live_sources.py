"""From a configuration to sources: kinds, names, one epoch for one drive, and every problem at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from live_processes import wait_for
from tiny_drive import CAMERAS, START_NS

from runtime.capture.paced_sources import DriveCameraSource
from runtime.capture.rtsp import RtspSource
from runtime.capture.v4l2 import V4l2Source
from runtime.capture.zeromq import ZeromqCameraSource
from runtime.clock import ManualClock
from runtime.config import RigConfig, load_config
from runtime.formats.documents import DocumentError
from runtime.live_sources import LEAD_IN_NS, SourceBuilder
from runtime.messages import SignalSample
from runtime.signals.recorded import RecordedSignalSource
from runtime.signals.zeromq import ZeromqSignalSource

NOW_NS = 5_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_NS)


def config(tmp_path: Path, **sections: object) -> RigConfig:
    path = tmp_path / "rig.yaml"
    path.write_text(json.dumps({"vehicle": {"id": "car"}, **sections}))  # JSON is YAML
    return load_config(path)


def test_played_drive_gives_all_its_cameras_and_signals(tmp_path: Path, tiny_drive: Path, clock: ManualClock) -> None:
    rig = config(tmp_path, drive=str(tiny_drive))
    sources = SourceBuilder(clock).build(rig)
    assert [camera.name for camera in sources.cameras] == list(CAMERAS)
    assert all(isinstance(camera.source, DriveCameraSource) for camera in sources.cameras)
    assert [type(source) for source in sources.signals] == [RecordedSignalSource]
    assert sources.epoch is not None
    assert sources.epoch.to_live(START_NS) == NOW_NS + LEAD_IN_NS


def test_every_kind_of_camera_becomes_its_source(tmp_path: Path, tiny_drive: Path, clock: ManualClock) -> None:
    kinds = {
        "recorded": {"kind": "drive", "path": str(tiny_drive), "camera": "rear"},
        "film": {"kind": "video", "path": str(tiny_drive / "front.mp4"), "loop": True},
        "street": {"kind": "rtsp", "address": "rtsp://127.0.0.1:1/a"},
        "device": {"kind": "v4l2", "device": "/dev/video99"},
        "bench": {"kind": "zeromq", "address": "tcp://127.0.0.1:5570"},
    }
    cameras = {name: {"source": source} for name, source in kinds.items()}
    cameras["street"] |= {"rate_hz": 20, "width": 640, "height": 480}
    rig = config(
        tmp_path, cameras=cameras, signals={"sources": [{"kind": "zeromq", "address": "tcp://127.0.0.1:5571"}]}
    )
    builder = SourceBuilder(clock)
    sources = builder.build(rig)
    assert builder.camera_names(rig) == tuple(kinds)
    assert [type(camera.source) for camera in sources.cameras] == [
        DriveCameraSource, DriveCameraSource, RtspSource, V4l2Source, ZeromqCameraSource,
    ]  # fmt: skip
    street = sources.cameras[2]
    assert (street.rate_hz, street.size) == (20, (640, 480))
    assert sources.cameras[0].size is None
    assert isinstance(sources.signals[0], ZeromqSignalSource)
    assert sources.epoch is None  # no drive is played as a whole


def test_cameras_and_signals_of_one_drive_share_one_epoch(tmp_path: Path, tiny_drive: Path, clock: ManualClock) -> None:
    source = {"kind": "drive", "path": str(tiny_drive)}
    rig = config(
        tmp_path,
        cameras={name: {"source": source} for name in ("front", "rear")},
        signals={"sources": [source]},
    )
    sources = SourceBuilder(clock).build(rig)
    begin_ns = NOW_NS + LEAD_IN_NS
    for camera, offset_ns in (("front", 0), ("rear", 4_000_000)):
        live = next(one for one in sources.cameras if one.name == camera)
        live.source.open()
        packet = live.source.read(10.0)
        assert packet is not None
        assert packet.camera == camera
        assert packet.time_ns == begin_ns + offset_ns
    samples: list[SignalSample] = []
    sources.signals[0].start(samples.append)
    wait_for(lambda: sources.signals[0].status().state == "ended", "the end of the signals")
    sources.signals[0].stop()
    assert samples[0].time_ns == begin_ns


def test_camera_of_a_drive_may_have_another_name_in_the_rig(
    tmp_path: Path, tiny_drive: Path, clock: ManualClock
) -> None:
    source = {"kind": "drive", "path": str(tiny_drive), "camera": "rear"}
    rig = config(tmp_path, cameras={"behind": {"source": source}})
    camera = SourceBuilder(clock).build(rig).cameras[0]
    camera.source.open()
    packet = camera.source.read(10.0)
    assert packet is not None
    assert packet.camera == "behind"


def test_problems_of_all_sources_are_told_together(tmp_path: Path, tiny_drive: Path, clock: ManualClock) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "drive.yaml").write_text("name: broken\n")
    (tmp_path / "car.dbc").write_text("this is no database")
    can = {
        "kind": "can", "interface": "virtual", "channel": "x", "dbc": "car.dbc",
        "signals": {"vehicle.speed_mps": {"message": "M", "signal": "S"}},
    }  # fmt: skip
    rig = config(
        tmp_path,
        drive=str(broken),
        cameras={"other": {"source": {"kind": "drive", "path": str(tiny_drive), "camera": "frunt"}}},
        signals={"sources": [can]},
    )
    with pytest.raises(DocumentError) as caught:
        SourceBuilder(clock).build(rig)
    text = str(caught.value)
    for words in ("neither cameras nor signals", "no camera 'frunt'", "did you mean 'front'?", "car.dbc"):
        assert words in text


def test_camera_that_the_played_drive_has_too_is_refused(tmp_path: Path, tiny_drive: Path, clock: ManualClock) -> None:
    rig = config(tmp_path, drive=str(tiny_drive))
    twice = config(tmp_path, cameras={"rear": {"source": {"kind": "v4l2", "device": "/dev/video9"}}})
    both = rig.model_copy(update={"cameras": twice.cameras})  # an MCAP drive's cameras are not known when it is loaded
    with pytest.raises(DocumentError, match="rear"):
        SourceBuilder(clock).build(both)


def test_sources_say_which_signals_they_can_give(tmp_path: Path, tiny_drive: Path, clock: ManualClock) -> None:
    (tmp_path / "car.dbc").write_text('VERSION ""\nBO_ 180 SPEED: 8 XXX\n SG_ SPEED : 0|16@1+ (1,0) [0|1] "" XXX\n')
    bus = {
        "kind": "can", "interface": "virtual", "channel": "x", "dbc": "car.dbc",
        "signals": {"trailer.speed_mps": {"message": "SPEED", "signal": "SPEED"}},
    }  # fmt: skip
    known = SourceBuilder(clock).build(config(tmp_path, drive=str(tiny_drive), signals={"sources": [bus]})).signal_names
    assert known is not None
    assert {"trailer.speed_mps", "vehicle.speed_mps", "controller.enabled"} <= known
    bench = {"kind": "zeromq", "address": "tcp://127.0.0.1:5571"}
    assert SourceBuilder(clock).build(config(tmp_path, signals={"sources": [bus, bench]})).signal_names is None
