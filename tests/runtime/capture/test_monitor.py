"""Camera faults: found when they are there, and not found in scenes that merely stand still."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from video_samples import PERIOD_NS, encode, scene, scenes

from runtime.capture.assembler import Assembler
from runtime.capture.camera_path import CameraPath
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.monitor import HealthMonitor
from runtime.capture.phase import InstantGrid
from runtime.drives import open_drive
from runtime.formats.bitstream import StreamInfo
from runtime.formats.image_spec import ImageSpec
from runtime.messages import Packet

SPEC = ImageSpec(160, 96)
INFO = StreamInfo("h264", 320, 240, 20.0)


class Rig:
    """Some cameras played in step, judged after every period."""

    def __init__(self, streams: dict[str, Sequence[Packet]], sizes: dict[str, tuple[int, int]] | None = None) -> None:
        self.streams = streams
        self.assembler = Assembler(list(streams), SPEC, InstantGrid(PERIOD_NS, None, start_ns=0))
        self.watches = {name: CameraWatch(name, (sizes or {}).get(name)) for name in streams}
        self.paths = {name: CameraPath(watch, self.assembler) for name, watch in self.watches.items()}
        for path in self.paths.values():
            path.open(INFO, 0)
        self.monitor = HealthMonitor(self.watches.values())

    def faults(self, moving: bool | None, periods: int) -> dict[str, list[str]]:
        """The faults of each camera, in the order in which they came up."""
        seen: dict[str, list[str]] = {}
        for index in range(periods):
            now_ns = index * PERIOD_NS
            for name, path in self.paths.items():
                for packet in self.streams[name]:
                    if now_ns <= packet.time_ns < now_ns + PERIOD_NS:
                        path.feed(packet)
            self.assembler.take(index)
            for name, health in self.monitor.assess(now_ns, moving).items():
                if health.is_fault and seen.setdefault(name, [])[-1:] != [health.state]:
                    seen[name].append(health.state)
        return {name: states for name, states in seen.items() if states}


def frozen_scenes(count: int, frozen_from: int) -> list[NDArray[np.uint8]]:
    return [scene(min(index, frozen_from)) for index in range(count)]


def noisy_standstill(count: int) -> list[NDArray[np.uint8]]:
    """A scene that does not move, through a sensor that has noise as every sensor has."""
    noise = np.random.default_rng(5)
    still = scene(0).astype(np.int16) // 3 + 40
    return [np.clip(still + noise.normal(0, 4, still.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def test_healthy_cameras_have_no_faults() -> None:
    rig = Rig({name: encode(scenes(60), name) for name in ("front", "rear")})
    assert rig.faults(True, 60) == {}


@pytest.mark.parametrize("group", [5, 10, 30])
def test_a_frozen_camera_is_found_while_the_car_drives_whatever_its_key_frames(group: int) -> None:
    rig = Rig(
        {
            "front": encode(scenes(80), "front"),
            "rear": encode(frozen_scenes(80, 20), "rear", group=group),
        }
    )
    assert rig.faults(True, 80) == {"rear": ["frozen"]}
    assert rig.watches["rear"].unchanged_for_ns > 2_500_000_000


def test_a_frozen_camera_is_found_by_the_others_when_nobody_knows_the_speed() -> None:
    streams = {name: encode(scenes(110), name) for name in ("front", "left")}
    rig = Rig({**streams, "rear": encode(frozen_scenes(110, 10), "rear")})
    assert rig.faults(None, 110) == {"rear": ["frozen"]}


def test_a_standing_car_sees_standing_pictures() -> None:
    rig = Rig({"front": encode(scenes(60), "front"), "rear": encode(frozen_scenes(60, 0), "rear")})
    assert rig.faults(False, 60) == {}


def test_a_still_scene_with_sensor_noise_is_not_frozen_even_if_the_car_is_said_to_move() -> None:
    rig = Rig({"front": encode(scenes(60), "front"), "rear": encode(noisy_standstill(60), "rear")})
    assert rig.faults(True, 60) == {}


def test_black_pictures_say_nothing_about_freezing() -> None:
    rig = Rig({"rear": encode([np.zeros((240, 320, 3), np.uint8)] * 60, "rear")})
    assert rig.faults(True, 60) == {}


def test_a_camera_that_thaws_is_healthy_again() -> None:
    images = [scene(min(index, 10) if index < 60 else index) for index in range(100)]
    rig = Rig({"rear": encode(images, "rear")})
    assert rig.faults(True, 100) == {"rear": ["frozen"]}
    assert not rig.monitor.assess(99 * PERIOD_NS, True)["rear"].is_fault


def test_torn_packets_are_corruption() -> None:
    packets = encode(scenes(60), "rear", group=10)
    torn = [packet if packet.sequence % 10 != 4 or packet.sequence < 20 else _torn(packet) for packet in packets]
    assert Rig({"rear": torn}).faults(True, 60) == {"rear": ["corrupt"]}


def _torn(packet: Packet) -> Packet:
    data = packet.data[:40] + bytes(max(0, len(packet.data) - 40))
    return Packet(packet.camera, packet.sequence, packet.time_ns, packet.wall_ns, packet.codec, packet.is_key, data)


def test_a_stream_that_is_joined_in_the_middle_of_a_long_group_is_not_corrupt() -> None:
    rig = Rig({"rear": encode(scenes(60), "rear", group=50)[5:]})
    assert rig.faults(True, 58) == {}
    assert rig.watches["rear"].counters.undecoded == 45


def test_a_camera_that_loses_frames_is_dropping_and_the_lost_are_counted() -> None:
    packets = encode(scenes(80), "rear", group=1)
    kept = [packet for packet in packets if packet.sequence < 20 or packet.sequence % 4]
    rig = Rig({"rear": kept})
    assert rig.faults(True, 79) == {"rear": ["dropping"]}
    assert rig.watches["rear"].counters.lost == 15


def test_a_camera_that_falls_silent_is_dropping() -> None:
    rig = Rig({"rear": encode(scenes(20), "rear"), "front": encode(scenes(60), "front")})
    assert rig.faults(True, 60) == {"rear": ["dropping"]}


def test_pictures_of_an_unexpected_size_reach_no_frameset() -> None:
    rig = Rig({"rear": encode(scenes(20), "rear")}, sizes={"rear": (1280, 960)})
    assert rig.faults(True, 20) == {"rear": ["wrong_size"]}
    assert rig.assembler.counters()["rear"].received == 0
    assert "320x240, not 1280x960" in rig.monitor.assess(0, True)["rear"].detail


def test_a_recording_that_ends_with_the_others_is_no_fault_and_one_that_ends_before_them_is() -> None:
    rig = Rig({"front": encode(scenes(60), "front"), "rear": encode(scenes(60), "rear")})
    rig.faults(True, 60)
    for watch in rig.watches.values():
        watch.ended(60 * PERIOD_NS)
    assert {health.state for health in rig.monitor.assess(70 * PERIOD_NS, True).values()} == {"ended"}
    assert not any(health.is_fault for health in rig.monitor.assess(70 * PERIOD_NS, True).values())
    early = Rig({"front": encode(scenes(60), "front"), "rear": encode(scenes(20), "rear")})
    early.watches["rear"].ended(0)
    assert early.faults(True, 60) == {"rear": ["ended"]}


def test_a_camera_that_cannot_be_opened_is_failed_after_a_grace() -> None:
    watch = CameraWatch("rear")
    monitor = HealthMonitor([watch])
    watch.disconnected("nobody at rtsp://127.0.0.1:1/rear", 0)
    assert not monitor.assess(4_000_000_000, True)["rear"].is_fault
    health = monitor.assess(6_000_000_000, True)["rear"]
    assert (health.state, health.detail) == ("failed", "nobody at rtsp://127.0.0.1:1/rear")


def test_when_every_camera_is_late_no_camera_is_at_fault() -> None:
    rig = Rig({name: encode(scenes(20), name) for name in ("front", "rear", "left")})
    rig.assembler.take(30)
    for name, path in rig.paths.items():
        for packet in rig.streams[name]:
            path.feed(packet)
    assert not any(health.is_fault for health in rig.monitor.assess(20 * PERIOD_NS, True).values())


def test_late_frames_of_one_camera_are_a_fault() -> None:
    rig = Rig({"rear": encode(scenes(40), "rear")})
    rig.assembler.take(30)
    for packet in rig.streams["rear"][:20]:
        rig.paths["rear"].feed(packet)
    assert rig.monitor.assess(20 * PERIOD_NS, True)["rear"].state == "late"


def test_without_inference_nothing_is_decoded_but_gaps_are_seen() -> None:
    watch = CameraWatch("rear")
    path = CameraPath(watch, None)
    path.open(INFO, 0)
    for packet in encode(scenes(10), "rear"):
        if packet.sequence != 5:
            path.feed(packet)
    assert (watch.counters.packets, watch.counters.decoded, watch.counters.lost) == (9, 0, 1)


@pytest.mark.real
def test_no_camera_of_the_real_night_drive_is_at_fault(real_material: Path) -> None:
    """Thirteen seconds with every filler: parked scenes, looping GIFs, 25 Hz and 8 Hz, a car that starts."""
    drive = open_drive(real_material / "drives" / "model3_night")
    start_ns = drive.start_ns + 55_000_000_000
    end_ns = start_ns + 13_000_000_000
    speeds = [sample for sample in drive.signal_samples() if sample.name == "vehicle.speed_mps"]
    watches = {name: CameraWatch(name) for name in drive.cameras}
    assembler = Assembler(list(drive.cameras), SPEC, InstantGrid(PERIOD_NS, "front", start_ns=start_ns))
    feeds: list[Callable[[int], None]] = []
    for name, camera in drive.cameras.items():
        path = CameraPath(watches[name], assembler)
        path.open(camera.stream(), start_ns)
        feeds.append(_feeder(path, _between(camera.packets(), start_ns - 10_000_000_000, end_ns)))
    monitor = HealthMonitor(watches.values())
    was_moving = set()
    for instant in range(-199, 255):  # a GIF is joined at its start only: ten seconds before the judged ones
        now_ns = assembler.grid.time_of(instant)
        moving = float([sample for sample in speeds if sample.time_ns <= now_ns][-1].value) > 1.0
        was_moving.add(moving)
        for feed in feeds:
            feed(now_ns + PERIOD_NS // 4)
        frameset = assembler.take(instant)
        health = monitor.assess(now_ns, moving)
        if instant >= 0:
            assert [(name, each.state) for name, each in health.items() if each.is_fault] == []
            assert frameset.present.all()
    assert True in was_moving


def _between(packets: Iterable[Packet], start_ns: int, end_ns: int) -> Iterable[Packet]:
    return (packet for packet in packets if start_ns <= packet.time_ns < end_ns)


def _feeder(path: CameraPath, packets: Iterable[Packet]) -> Callable[[int], None]:
    iterator = iter(packets)
    waiting: list[Packet] = []

    def feed(until_ns: int) -> None:
        while True:
            packet = waiting.pop() if waiting else next(iterator, None)
            if packet is None:
                return
            if packet.time_ns > until_ns:
                waiting.append(packet)
                return
            path.feed(packet)

    return feed
