"""Real H.264 through the composed tick with images prepared on the device, against the same with the CPU's.

The device is the fake driver, which runs the kernel's own source; the network is the virtual TensorRT's. Everything
between a packet and a firing is what runs on a vehicle.
"""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS, DURATION_S, HEIGHT, WIDTH, write_tiny_drive
from video_samples import scene, scenes, write_video

from replay.playing import DrivePlayer, PlayedTick
from runtime.composition import ModelChoice, model_facts, open_network, open_rules
from runtime.drives import open_drive
from runtime.inference.bundle import load_bundle
from runtime.inference.model_import import import_model
from runtime.inference.network import Network
from runtime.inference.rows import layout_for
from runtime.inference.tensorrt.libcuda import FUNCTIONS
from runtime.inference.tensorrt.preprocess_block import ParameterBlock
from runtime.messages import Detections
from runtime.rule_changes import apply_change, prepare_change
from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, FakeCuda, has_compiler
from tests.runtime.inference.gpu.fake_platform import fake_platform, fresh_cuda, open_backend_on, with_kernel

pytestmark = pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)

RATE_HZ = 20.0
NAMES = tuple(CAMERAS)
#: The side camera runs at half the tick's rate, so that every other of its frames is a held one.
RULES = """rules:
  - {name: bright, description: B., when: "mean_cameras(luma, known(luma)) > 100", cooldown_s: 0.2,
     operands: {brightness: "mean_cameras(luma, known(luma))"}, capture: {pre_s: 1, post_s: 1}}
"""


@dataclass
class Player:
    cuda: FakeCuda
    network: Network
    player: DrivePlayer


def _network(bundle_folder: Path, folder: Path, cameras: Sequence[str], preprocess: str) -> tuple[FakeCuda, Network]:
    folder.mkdir()
    cuda, bundle = with_kernel(fresh_cuda(folder)), load_bundle(bundle_folder)
    backend = open_backend_on(fake_platform(cuda), bundle, cameras, preprocess=preprocess)
    network = Network(bundle, backend, layout_for(bundle.manifest, cameras), cameras)
    backend.warmup()
    return cuda, network


def _player(drive: Path, bundle: Path, folder: Path, preprocess: str, second: Network | None = None) -> Player:
    rules = folder / "rules.yaml"
    rules.write_text(RULES)
    opened = open_drive(drive)
    cuda, network = _network(bundle, folder / preprocess, tuple(opened.cameras), preprocess)
    loaded = open_rules([str(rules), "library"])
    return Player(cuda, network, DrivePlayer(opened, network, None, loaded, RATE_HZ, second=second))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", len(CAMERAS))


def _images(tick: PlayedTick) -> np.ndarray:
    assert tick.report.frameset is not None
    return tick.report.frameset.images.astype(int)


@pytest.fixture
def freezing_drive(tmp_path: Path) -> Path:
    """The tiny drive, whose front camera shows one picture from the middle on while frames keep coming."""
    drive = write_tiny_drive(tmp_path / "freezing")
    half = round(DURATION_S * RATE_HZ / 2)
    pictures = [*scenes(half, WIDTH, HEIGHT), *[scene(half, WIDTH, HEIGHT)] * half]
    write_video(drive / "front.mp4", pictures, group=10)
    return drive


def test_the_tick_is_the_same_within_a_step_wherever_images_are_prepared(
    freezing_drive: Path, bundle: Path, tmp_path: Path
) -> None:
    host, device = (_player(freezing_drive, bundle, tmp_path, preprocess) for preprocess in ("host", "device"))
    firings: tuple[list, list] = [], []
    held = 0
    for one, other in zip(host.player.ticks(), device.player.ticks(), strict=True):
        assert one.report.frameset.sources is None
        assert np.array_equal(one.report.frameset.present, other.report.frameset.present)
        assert np.array_equal(one.report.frameset.frame_sequence, other.report.frameset.frame_sequence)
        assert [source is not None for source in other.report.frameset.sources] == list(one.report.frameset.present)
        assert np.abs(_images(one) - _images(other)).max() <= 1
        said, also = (tick.report.prediction for tick in (one, other))
        assert said.control.accel_mps2 == pytest.approx(also.control.accel_mps2, abs=0.5)
        for view, same in zip(one.report.cameras, other.report.cameras, strict=True):
            assert (view.state, view.is_missing, view.luma is None) == (same.state, same.is_missing, same.luma is None)
            assert view.luma is None or abs(view.luma - same.luma) <= 1.0
        for report, found in zip((one.report, other.report), firings, strict=True):
            found += [(firing.rule, firing.time_ns) for firing in report.firings]
        health = [{k: v for k, v in t.report.signals.items() if k.startswith("health.")} for t in (one, other)]
        assert health[0] == health[1]
        held += device.player.parts.assembler.counters()["side"].held
    assert firings[0] == firings[1]
    assert {"driver_takeover", "bright", "camera_fault"} <= {rule for rule, _ in firings[0]}
    still = [[watch.unchanged_for_ns for watch in each.player.watches] for each in (host, device)]
    assert still[0] == still[1]
    assert still[0][0] > 1_000_000_000
    assert held > 0
    assert host.player.parts.assembler.counters() == device.player.parts.assembler.counters()
    assert model_facts(device.network)["preprocess"] == "device"
    for each in (host, device):
        each.player.close()


def test_a_tick_moves_the_block_in_and_the_images_out_and_allocates_nothing(
    tiny_drive: Path, bundle: Path, tmp_path: Path
) -> None:
    device = _player(tiny_drive, bundle, tmp_path, "device")
    ticks = device.player.ticks()
    list(itertools.islice(ticks, 20))  # every camera has its memory, every stage has run
    before, moved = device.cuda.counts(list(FUNCTIONS)), device.cuda.moved_bytes
    pinned = device.cuda.allocated_bytes
    tracemalloc.start()
    count = len(list(itertools.islice(ticks, 40)))
    grown = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/tensorrt/*")])
    tracemalloc.stop()
    assert device.cuda.allocated_bytes == pinned
    made = {name: calls - before[name] for name, calls in device.cuda.counts(list(FUNCTIONS)).items()}
    assert {name: calls for name, calls in made.items() if calls} == {
        "cuGraphLaunch": count,
        "cuStreamSynchronize": count,
    }
    images = device.network.image_spec
    per_tick = [(after - start) / count for after, start in zip(device.cuda.moved_bytes, moved, strict=True)]
    signal = output = 256  # the speed, and the control output, each on its boundary
    assert per_tick[0] == signal + ParameterBlock.size_bytes(len(CAMERAS))
    assert per_tick[1] == output + len(CAMERAS) * 3 * images.height * images.width
    assert sum(trace.size for trace in grown.traces) < 20_000
    device.player.close()


def test_a_second_candidate_looks_at_the_images_that_the_device_made(
    tiny_drive: Path, bundle: Path, tmp_path: Path
) -> None:
    second = open_network(ModelChoice(bundle, backend="onnx"), NAMES)
    device = _player(tiny_drive, bundle, tmp_path, "device", second)
    assert device.player.parts.second.images is None  # it takes the same images
    looked = [tick.report.second for tick in itertools.islice(device.player.ticks(), 12)]
    assert [look.comparison.values["ab.accel_mps2"] for look in looked] == pytest.approx([0.0] * 12, abs=1e-4)
    device.player.close()


def test_a_network_in_its_place_that_takes_prepared_images_gets_them(
    tiny_drive: Path, bundle: Path, tmp_path: Path
) -> None:
    """A campaign's network, say, that has no engine: frames that nobody prepares any more are missing, no others."""
    device = _player(tiny_drive, bundle, tmp_path, "device")
    parts, ticks = device.player.parts, device.player.ticks()
    list(itertools.islice(ticks, 10))
    apply_change(parts, prepare_change(parts, parts.rules, open_network(ModelChoice(bundle, backend="onnx"), NAMES)))
    after = [tick.report.frameset for tick in itertools.islice(ticks, 10)]
    assert all(frameset.sources is None for frameset in after)
    assert all(frameset.present.all() for frameset in after[3:])
    apply_change(parts, prepare_change(parts, parts.rules, device.network))
    assert any(source is not None for source in next(ticks).report.frameset.sources)
    device.player.close()


@pytest.mark.real
def test_a_real_drive_is_seen_alike_wherever_images_are_prepared(real_material: Path, tmp_path: Path) -> None:
    """YOLOX-nano takes float images in a letterbox, one camera a run."""
    yolox = import_model(real_material / "models" / "yolox_nano.onnx", "yolox", tmp_path / "yolox_nano")
    drive = tmp_path / "drive"
    drive.mkdir()
    cameras = {"night": real_material / "drives/model3_night/front_0.ts", "day": _day(real_material)}
    videos = "".join(f"  {name}: {{video: [{path}], loop: true}}\n" for name, path in cameras.items())
    (drive / "drive.yaml").write_text(f"name: real\ncameras:\n{videos}")
    host, device = (_player(drive, yolox, tmp_path, preprocess) for preprocess in ("host", "device"))
    kept = total = 0
    for one, other in itertools.islice(zip(host.player.ticks(), device.player.ticks(), strict=True), 2, 8):
        assert np.abs(_images(one) - _images(other)).max() <= 1
        found, again = one.report.prediction.detections, other.report.prediction.detections
        total += len(found)
        kept += sum(_has(again, found, index) for index in range(len(found)))
    assert total >= 10
    assert kept >= 0.95 * total
    for each in (host, device):
        each.player.close()


def _day(real_material: Path) -> Path:
    return real_material / "video/highway_day_960x540.mp4"


def _has(found: Detections, of: Detections, index: int) -> bool:
    """One of the same camera and class whose box is within 2 % of its size, and whose score is within 0.05."""
    box = of.box_px[index]
    near = np.abs(found.box_px - box).max(axis=1, initial=0.0) <= 0.02 * max(box[2] - box[0], box[3] - box[1]) + 2.0
    same = (found.camera == of.camera[index]) & (found.class_id == of.class_id[index])
    return bool((near & same & (np.abs(found.score - of.score[index]) <= 0.05)).any())
