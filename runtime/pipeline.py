"""The tick: one pass over one frameset. Infer, track, compare, evaluate rules.

Live and replay run this same class; only the sources and the clock differ. Given the same framesets and signals, its
firings are identical. A tick never logs, writes a file or waits on another process: what it finds is returned as a
`TickReport`, and whoever called it hands that on.

What a tick costs beside the network is held by `tests/benchmarks/tick_over_model.py`. Rules that can never fire here
are not computed at all; images are measured by the camera threads, before the tick; and what is made of a report
(history, status, telemetry, firings' clips) is made behind it.

While the network runs, another thread does what needs no word of it (`_look_ahead`): camera health and views, the
controller's objects, the rules over signals and cameras, and bringing the tracks to this tick's time. Each of them
still happens once, with the same values. Where the network prepares the images itself they are there only after it, and
so this is done beside what follows it (but for the tracks, which are needed at once).

What nothing looked at is unknown and not empty: without a prediction rules get no tracks (None), without cameras no
views, without a controller's list no objects.

Time comes in as an argument. The stopwatch only measures how long the stages took; nothing is decided by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime.beside import Beside, Inline
from runtime.camera_views import Sight
from runtime.inference.ground import EgoMotion
from runtime.laps import Laps
from runtime.messages import (
    CameraView,
    Comparison,
    ControllerObject,
    Frameset,
    Prediction,
    SecondLook,
    SignalReader,
    SignalValue,
    TickReport,
    Track,
)
from runtime.shadow.comparison import driven_curvature_1pm, number
from runtime.stages import LearnedSignals, Predictor, RuleEvaluation, Stages, TrackFollower
from runtime.tick_signals import TickSignals

__all__ = ["Pipeline", "RuleEvaluation", "Stages", "is_moving"]


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What is known of a tick before the network has spoken."""

    health: Mapping[str, SignalValue]
    cameras: Sequence[CameraView] | None
    objects: Sequence[ControllerObject] | None


class Pipeline:
    """Runs the stages in order, once for each instant."""

    def __init__(
        self, stages: Stages, stopwatch: Callable[[], int] = time.perf_counter_ns, beside: Beside | None = None
    ) -> None:
        """`beside` runs what can be done while the network runs; by default it is done before."""
        self._stages = stages
        #: Nanoseconds of any clock; a benchmark may put another one in.
        self.stopwatch = stopwatch
        self._beside = Inline() if beside is None else beside
        self._last_sequences: NDArray[np.int64] | None = None
        #: Called when the network has run and what follows is computed by this thread alone.
        self.on_predicted: Callable[[], None] = _nothing_to_do

    def tick(self, instant: int, instant_time_ns: int, wall_ns: int, now_ns: int | None = None) -> TickReport:
        """Work on one instant, whose capture time is `instant_time_ns`; `now_ns` is the live monotonic time, if any."""
        stages, laps = self._stages, Laps(self.stopwatch)
        frameset = stages.framesets.take(instant) if stages.framesets is not None else None
        sight = self._sight(frameset, now_ns)
        time_ns = instant_time_ns if frameset is None or frameset.is_empty else frameset.time_ns
        outside = stages.signals.at(time_ns)
        comes_prepared = frameset is None or frameset.sources is None
        if comes_prepared:
            ahead = self._beside.begin(lambda: self._look_ahead(sight, outside, time_ns, with_tracks=True))
        laps.lap("take")
        prediction = self._predict(sight, outside)
        self.on_predicted()
        if not comes_prepared:
            ahead = self._beside.begin(lambda: self._look_ahead(sight, outside, time_ns, with_tracks=False))
        laps.lap("infer")
        laps.split("infer", 0 if prediction is None else prediction.infer_ns, "decode")
        if comes_prepared:
            ahead()  # the tracks have come to this tick's time
        tracks = self._track(prediction, sight, outside, time_ns)
        laps.lap("track")
        comparison = stages.comparator.compare(tracks or (), prediction, outside, time_ns)
        own = self._own_signals(prediction, comparison)
        laps.lap("compare")
        second = None
        if stages.second is not None:
            spent_ns = None if now_ns is None else laps.since_start_ns
            second = stages.second.look(sight, prediction, comparison, outside, spent_ns)
            own.update(_second_signals(second))
            laps.lap("second")
        if stages.learned is not None and sight is not None:
            own.update(stages.learned.values(prediction, sight.fresh, time_ns))
        laps.lap("learned")
        known = ahead()
        own.update(known.health)
        cameras = None if stages.views is None else stages.views.complete(known.cameras, tracks, time_ns)
        laps.lap("views")
        signals = TickSignals(outside, own, time_ns)
        firings = stages.rules.evaluate(tracks, signals, time_ns, wall_ns, objects=known.objects, cameras=cameras)
        laps.lap("rules")
        return TickReport(
            instant, time_ns, frameset, prediction, tracks, comparison, firings, laps.milliseconds,
            wall_ns=wall_ns, objects=known.objects, cameras=cameras, signals=own, second=second,
        )  # fmt: skip

    def close(self) -> None:
        """Give the thread back that works beside the network."""
        self._beside.close()

    def exchange(self, network: Predictor, tracker: TrackFollower, learned: LearnedSignals) -> None:
        """Between two ticks: look with another network from the next one on; cameras and image size stay."""
        self._stages = replace(self._stages, network=network, tracker=tracker, learned=learned)

    def _sight(self, frameset: Frameset | None, now_ns: int | None) -> Sight | None:
        """The frameset with what belongs to it; notes the sizes of source images that are met for the first time."""
        framesets = self._stages.framesets
        if frameset is None or framesets is None:
            return None
        geometries = framesets.geometries
        for camera, geometry in zip(frameset.cameras, geometries, strict=True):
            if geometry is not None:
                self._stages.image_sizes[camera] = (geometry.source_width, geometry.source_height)
        return Sight(frameset, self._fresh(frameset), geometries, now_ns)

    def _predict(self, sight: Sight | None, signals: SignalReader) -> Prediction | None:
        network = self._stages.network
        if sight is None or sight.frameset.is_empty or network is None:
            return None
        return network.predict(sight.frameset, sight.geometries, signals)

    def _track(
        self, prediction: Prediction | None, sight: Sight | None, signals: SignalReader, time_ns: int
    ) -> list[Track] | None:
        """The tracks; None on a tick on which no network looked (the tracker still moves on)."""
        tracker = self._stages.tracker
        if tracker is None or sight is None:
            return None
        ego = EgoMotion(number(signals, "vehicle.speed_mps"), driven_curvature_1pm(signals))
        tracks = tracker.update(prediction, sight.fresh, time_ns, ego, sight.geometries)
        return None if prediction is None else tracks

    def _fresh(self, frameset: Frameset) -> NDArray[np.bool_]:
        """Cameras with a new image. A held one shows the past again: taken as new, its objects would seem to stand."""
        if self._last_sequences is None:
            self._last_sequences = np.full(len(frameset.cameras), -1, np.int64)
        fresh: NDArray[np.bool_] = frameset.present & (frameset.frame_sequence != self._last_sequences)
        self._last_sequences[fresh] = frameset.frame_sequence[fresh]
        return fresh

    def _look_ahead(self, sight: Sight | None, outside: SignalReader, time_ns: int, with_tracks: bool) -> _Ahead:
        """What needs no word of the network; runs once a tick, while it runs (after it, if it prepares the images)."""
        stages = self._stages
        if with_tracks and stages.tracker is not None and sight is not None:
            stages.tracker.look_ahead(time_ns)
        frameset = None if sight is None else sight.frameset
        if frameset is not None and frameset.sources is not None and stages.framesets is not None:
            stages.framesets.look_at_prepared()
        health = dict(stages.health.signals(frameset, time_ns, is_moving(outside)))
        if stages.tick_health is not None:
            health.update(stages.tick_health.signals())
        cameras = stages.views.look_ahead(sight) if stages.views is not None else None
        objects = stages.objects.at(outside, time_ns) if stages.objects is not None else None
        if stages.rules_ahead is not None:
            stages.rules_ahead.look_ahead(TickSignals(outside, health, time_ns), time_ns, objects, cameras)
        return _Ahead(health, cameras, objects)

    def _own_signals(self, prediction: Prediction | None, comparison: Comparison) -> dict[str, SignalValue]:
        own: dict[str, SignalValue] = dict(comparison.values)
        if prediction is not None:
            own.update((f"heads.{name}", value) for name, value in prediction.scalars.items())
        return own


def _second_signals(second: SecondLook | None) -> dict[str, SignalValue]:
    if second is None:
        return {}
    heads = {f"heads_b.{name}": value for name, value in second.prediction.scalars.items()}
    return {**second.comparison.values, **heads}


def is_moving(signals: SignalReader) -> bool | None:
    """Whether the vehicle moves; None while its speed is unknown."""
    speed_mps = signals.value("vehicle.speed_mps")
    return None if speed_mps is None or isinstance(speed_mps, str) else float(speed_mps) > 0.5


def _nothing_to_do() -> None:
    """Outside a live runtime nobody waits for the network to be over."""
