"""Time of one evaluation of many rules over many tracks, on one core: what `shadowrig bench triggers` measures.

The rules are conditions of every kind the library uses (edges, holds, windows, quantifiers and aggregates with history
of tracks and cameras), each with thresholds of its own, so that rules share signals and fields but no whole condition.
Tracks move, flicker and come and go; signals change on every tick, with two samples each. The scene of a tick is made
before the clock starts.

`bench_library` measures the shipped rules instead, over the same scenes with every field of tracks and cameras known:
what a car would cost that has all heads and calibrations.
"""

from __future__ import annotations

import gc
import json
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from runtime.messages import CameraView, SignalSample, SignalValue, Track
from triggers import RuleEngine, library_path, load_rules

WARM_UP_TICKS = 100
TICK_NS = 27_777_778  # 36 Hz
CAMERAS = 8
CLASSES = ("car", "car", "car", "pedestrian", "cyclist", "stop_sign")
LANES = ("ego", "left", "right", "other", "other")
STATES = ("moving", "parked", "braking", "moving")
IMAGE_SIZES = {f"camera_{number}": (1000, 1000) for number in range(CAMERAS)}
CONDITIONS = (
    "any_within(falling(controller.enabled), {n}.25) and not controller.enabled",
    "controller.enabled and abs(diff.accel_mps2) > {x} and vehicle.speed_mps > {n}",
    "abs(diff.curvature_1pm) * vehicle.speed_mps ** 2 > {x} and mean_within(vehicle.accel_mps2, {n}.5) < 0",
    "vehicle.accel_mps2 < -{x} and min_within(shadow.accel_mps2, {n}.5) > -1.5",
    'any_track(class_name == "car" and distance_m < {x} and abs(lateral_m) < 2 and visible)',
    "any_track(height_px > {x} and presence_flips({n}.0) >= 4)",
    'count_tracks(class_name in ("pedestrian", "cyclist") and speed_mps > {x}) >= 3',
    'vehicle.speed_mps > {x} and min_tracks(distance_m, class_name == "car" and abs(lateral_m) < 2) < 30',
    'any_track(class_name == "car" and rate(distance_m, {n}.5) < -{x})',
    "any_camera(luma < lag(luma, {n}.0) - 10 * {x})",
    "std_within(vehicle.accel_mps2, {n}.0) > {x} and is_true(heads.novelty > 0.1)",
)


@dataclass(frozen=True, slots=True)
class RuleBenchResult:
    """Milliseconds of one evaluation. Those with `cpu` are time of the core, which other programs do not disturb."""

    rules: int
    tracks: int
    cameras: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    p50_cpu_ms: float
    p99_cpu_ms: float


def bench_rules(rules: int, tracks: int = 100, ticks: int = 2000) -> RuleBenchResult:
    """Evaluate that many generated rules over that many tracks, tick by tick."""
    return _bench(engine_of(rules), scenes(ticks + WARM_UP_TICKS, tracks), tracks)


def bench_library(tracks: int = 100, ticks: int = 2000) -> RuleBenchResult:
    """Evaluate all shipped rules over that many tracks."""
    engine = RuleEngine(load_rules([library_path()]), seed=0, image_sizes=IMAGE_SIZES)
    return _bench(engine, map(_with_all_fields, scenes(ticks + WARM_UP_TICKS, tracks)), tracks)


def _bench(engine: RuleEngine, drive: Iterable[Scene], tracks: int) -> RuleBenchResult:
    spent_ms, core_ms = [], []
    gc.collect()
    gc.disable()  # as in the daemon, which collects in the slack between ticks
    try:
        for tick, (listed, signals, views, time_ns) in enumerate(drive):
            started_s, core_started_s = time.perf_counter(), time.thread_time()
            engine.evaluate(listed, signals, time_ns, time_ns, None, views)
            if tick >= WARM_UP_TICKS:
                spent_ms.append((time.perf_counter() - started_s) * 1e3)
                core_ms.append((time.thread_time() - core_started_s) * 1e3)
    finally:
        gc.enable()
    p50_ms, p99_ms = np.percentile(spent_ms, (50, 99))
    core_p50_ms, core_p99_ms = np.percentile(core_ms, (50, 99))
    times_ms = map(float, (p50_ms, p99_ms, max(spent_ms), core_p50_ms, core_p99_ms))
    return RuleBenchResult(len(engine.rules.rules), tracks, CAMERAS, *times_ms)


def engine_of(rules: int) -> RuleEngine:
    """An engine with that many generated rules, read from a rule file as any others."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.yaml"
        _write_rules(path, rules)
        return RuleEngine(load_rules([path]), seed=0)


def _write_rules(path: Path, count: int) -> None:
    generator = random.Random(0)
    lines = ["rules:"]
    for number in range(count):
        # Windows come from a few lengths, as people choose them; thresholds are all different.
        condition = CONDITIONS[number % len(CONDITIONS)].format(n=1 + number % 5, x=round(generator.uniform(1, 9), 3))
        lines += [f"  - name: rule_{number}", "    description: A rule.", f"    when: {json.dumps(condition)}"]
        lines += ["    hold_s: 0.2", "    operands: {speed_mps: vehicle.speed_mps}"]
    path.write_text("\n".join(lines) + "\n")


class Signals:
    """A `SignalReader` of one tick."""

    def __init__(self, values: dict[str, SignalValue], time_ns: int) -> None:
        self._values = values
        self._samples = {
            name: [SignalSample(name, time_ns - age_ns, value) for age_ns in (10_000_000, 0)]
            for name, value in values.items()
        }

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return self._samples.get(name, ())

    def names(self) -> Sequence[str]:
        return list(self._values)


#: Tracks, signals, cameras and time of one tick.
Scene: TypeAlias = tuple[list[Track], Signals, list[CameraView], int]


def scenes(ticks: int, tracks: int) -> Iterator[Scene]:
    """Tracks, signals, cameras and time of each tick."""
    generator = np.random.default_rng(0)
    for tick in range(ticks):
        time_ns = tick * TICK_NS
        noise = generator.normal(0, 1, 8).tolist()
        values: dict[str, SignalValue] = {
            "controller.enabled": tick % 400 > 30,
            "vehicle.speed_mps": 15.0 + noise[0],
            "vehicle.accel_mps2": noise[1] * 2,
            "shadow.accel_mps2": noise[2],
            "diff.accel_mps2": noise[3],
            "diff.curvature_1pm": noise[4] * 0.005,
            "heads.novelty": 0.05 + 0.01 * noise[5],
        }
        boxes = generator.uniform(0, 900, (tracks, 4)).tolist()
        listed = [_track(number, tick, time_ns, tracks, box) for number, box in enumerate(boxes)]
        lumas = (100 + 5 * generator.normal(0, 1, CAMERAS)).tolist()
        views = [CameraView(f"camera_{number}", "ok", False, 20.0, luma=luma) for number, luma in enumerate(lumas)]
        yield listed, Signals(values, time_ns), views, time_ns


def _with_all_fields(scene: Scene) -> Scene:
    tracks, signals, views, time_ns = scene
    known = [
        replace(
            track,
            state=STATES[track.track_id % len(STATES)],
            lane=LANES[track.track_id % len(LANES)],
            bearing_deg=track.lateral_m,
            closing_speed_mps=track.speed_mps,
            lateral_speed_mps=0.1,
            predicted_speed_mps=track.speed_mps,
            predicted_distance_m=track.distance_m,
            overlapping_cameras=1,
            confirming_cameras=track.track_id % 2,
            confirming_gap_deg=0.5,
        )
        for track in tracks
    ]
    seen = [
        replace(view, luma_std=40.0, dark_share=0.1, bright_share=0.1, sharpness=100.0, misalignment_deg=0.1)
        for view in views
    ]
    return known, signals, seen, time_ns


def _track(number: int, tick: int, time_ns: int, tracks: int, box: Sequence[float]) -> Track:
    x, y, width, height = box
    return Track(
        track_id=number + (tick // 200) * (number % 7 == 0) * tracks,  # every seventh is replaced now and then
        camera=f"camera_{number % CAMERAS}",
        class_name=CLASSES[number % len(CLASSES)],
        score=0.8,
        box_px=(x, y, x + width * 0.1 + 5, y + height * 0.1 + 5),
        first_seen_ns=0,
        last_seen_ns=time_ns,
        visible=x > 100,
        distance_m=y * 0.1,
        lateral_m=x * 0.01 - 4,
        speed_mps=width * 0.02,
    )
