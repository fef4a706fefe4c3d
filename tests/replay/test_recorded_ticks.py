"""Rules evaluated again over a recording, without inference, fire exactly as they did."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from runtime.camera_health import CameraHealthSignals
from runtime.camera_views import CameraViews
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.monitor import HealthMonitor
from runtime.controller_objects import ControllerObjects
from runtime.formats.image_spec import ImageSpec
from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter
from runtime.inference.tracking import Tracker
from runtime.messages import Detections, Firing, Frameset, Prediction, SignalReader, SignalSample
from runtime.pipeline import Pipeline, Stages
from runtime.shadow.comparison import Comparator
from runtime.signals.table import SignalTable
from runtime.tick_health import TickHealth
from runtime.tick_signals import TickSignals
from triggers import RuleEngine, load_rules

PERIOD_NS = 50_000_000
TICKS = 200
RULES = """\
rules:
  - {name: wide, description: A wide box., when: any_track(width_px > 52.5), cooldown_s: 0.5}
  - {name: shaky, description: A shaky box., when: any_track(box_jitter(0.5) > 0.02), cooldown_s: 0.5}
  - {name: many, description: Two., when: count_tracks(visible) >= 2, cooldown_s: 0.5, sample: 0.5}
  - {name: rain, description: Rain., when: heads.rain > 0.75, cooldown_s: 0.3}
  - {name: braking, description: Brake., when: rising(vehicle.brake_pressed) and vehicle.speed_mps > 10.01}
  - {name: gone, description: Nobody looks., when: not known(count_tracks(visible)), cooldown_s: 0.5}
  - {name: missing, description: A camera is missing., when: health.cameras_missing > 0, cooldown_s: 1}
  - {name: slow, description: The last tick was slow., when: health.tick_ms > 9, cooldown_s: 1}
  - {name: bright, description: A bright image., when: "any_camera(luma > 150)", cooldown_s: 1}
  - {name: late, description: An old frame., when: "max_cameras(latency_ms, not is_missing) > 1.4", cooldown_s: 1}
  - {name: nearing, description: The controller sees it come., when: "any_object(closing_speed_mps > 3)", cooldown_s: 1}
  - {name: torn, description: Its list cannot be read., when: "not known(count_objects(age_s > 0))", cooldown_s: 1}
"""


class _Film:
    """Framesets of one camera, which is missing now and then."""

    def __init__(self) -> None:
        self.geometries = (ImageSpec(32, 24).geometry(320, 240),)

    def take(self, instant: int) -> Frameset:
        present = np.array([instant % 37 != 0])
        images = np.full((1, 3, 24, 32), instant % 256, np.uint8)
        times_ns = np.array([instant * PERIOD_NS])
        return Frameset(instant, instant * PERIOD_NS, ("front",), present, times_ns, np.array([instant]), images)


class _Network:
    """Detections that wander and shake."""

    def predict(self, frameset: Frameset, geometries: object, signals: SignalReader) -> Prediction:
        t = frameset.sequence
        generator = np.random.default_rng(t)
        boxes = np.array([[50.0, 60.0, 100.0, 100.0], [180.0, 60.0, 210.0, 100.0]], np.float32)
        boxes += generator.normal(0.0, 1.0 + 2.0 * (t % 50 > 40), (2, 4)).astype(np.float32)
        kept = slice(0, 1 if t % 80 > 60 else 2)
        found = Detections(
            np.zeros(2, np.int32)[kept], np.zeros(2, np.int32)[kept], np.full(2, 0.9, np.float32)[kept], boxes[kept],
            [None, None][kept],
        )  # fmt: skip
        rain = math.sin(t / 17.0) * 0.5 + 0.5
        return Prediction(frameset.time_ns, found, ("car",), scalars={"rain": rain})


def _samples(tick: int) -> list[SignalSample]:
    time_ns = tick * PERIOD_NS
    samples = [SignalSample("vehicle.speed_mps", time_ns - 7_000_000, 10.0 + tick / 1000.0)]
    if tick % 15 == 0:  # a pulse between two ticks
        samples += [
            SignalSample("vehicle.brake_pressed", time_ns - 30_000_000, True),
            SignalSample("vehicle.brake_pressed", time_ns - 20_000_000, False),
        ]
    if tick % 2 == 0:
        text = json.dumps(
            [{"id": 3, "class_name": "car", "distance_m": 60.0 - 0.2 * tick}, {"id": 4, "class_name": "bus"}]
        )
        samples.append(SignalSample("controller.objects", time_ns - 3_000_000, "torn" if tick % 64 == 0 else text))
    return samples


def _drive_and_record(path: Path, engine: RuleEngine) -> list[Firing]:
    health = CameraHealthSignals(HealthMonitor([CameraWatch("front")]))
    table, ticking = SignalTable({}, 1.0), TickHealth()
    pipeline = Pipeline(
        Stages(
            table, engine, Comparator(), health, _Film(), _Network(), Tracker(["front"]),
            views=CameraViews(health, measures_images=True), objects=ControllerObjects(), tick_health=ticking,
        )
    )  # fmt: skip
    firings: list[Firing] = []
    with McapTopicWriter(path, chunked=True) as writer:
        for tick in range(1, TICKS):
            for sample in _samples(tick):
                table.offer(sample)
            writer.signal_samples(_samples(tick))
            report = pipeline.tick(tick, tick * PERIOD_NS, 10**18 + tick * PERIOD_NS, tick * PERIOD_NS + tick * 10_000)
            ticking.note(0, 10_000_000 if tick % 70 == 0 else 5_000_000, 0, 0)
            writer.tick(report)
            firings += report.firings
    return firings


def _evaluate_again(path: Path, engine: RuleEngine) -> Sequence[Firing]:
    table, objects, firings = SignalTable({}, 1.0), ControllerObjects(), []
    with McapTopicReader(path) as reader:
        samples = list(reader.signal_samples())
        for tick in reader.ticks():
            while samples and samples[0].time_ns <= tick.time_ns:
                table.offer(samples.pop(0))
            outside = table.at(tick.time_ns)
            signals = TickSignals(outside, tick.signals, tick.time_ns)
            listed = objects.at(outside, tick.time_ns)
            firings += engine.evaluate(
                tick.tracks, signals, tick.time_ns, tick.wall_ns, objects=listed, cameras=tick.cameras
            )
    return firings


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def test_recorded_ticks_give_the_firings_that_were(tmp_path: Path, rules: Path) -> None:
    loaded = load_rules([rules])
    original, again = (RuleEngine(loaded, 1, {"front": (320, 240)}) for _ in range(2))
    fired = _drive_and_record(tmp_path / "drive.mcap", original)
    assert {firing.rule for firing in fired} == {rule.name for rule in loaded.rules}
    assert _evaluate_again(tmp_path / "drive.mcap", again) == fired
    assert again.suppressed == original.suppressed
