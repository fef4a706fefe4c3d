"""The tick: one pass over one frameset. Infer, track, compare, evaluate rules.

Live and replay run this same class; only the sources and the clock differ. Given the same framesets and signals, its
firings are identical. A tick never logs, writes a file or waits on another process: what it finds is returned as a
`TickReport`, and whoever called it hands that on.

What nothing looked at is unknown and not empty: without a prediction rules get no tracks (None), without cameras no
views, without a controller's list no objects.

Time comes in as an argument. The stopwatch only measures how long the stages took; nothing is decided by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.camera_views import Sight
from runtime.formats.image_spec import Geometry
from runtime.inference.ground import EgoMotion
from runtime.laps import Laps
from runtime.messages import (
    CameraView,
    Comparison,
    ControllerObject,
    Firing,
    Frameset,
    Prediction,
    SecondLook,
    SignalReader,
    SignalValue,
    TickReport,
    Track,
)
from runtime.shadow.comparison import driven_curvature_1pm, number
from runtime.tick_signals import TickSignals


class FramesetSource(Protocol):
    """Gives the frameset of an instant; never blocks."""

    def take(self, instant: int) -> Frameset:
        """The newest complete or timed-out set of that instant, perhaps empty."""

    @property
    def geometries(self) -> Sequence[Geometry | None]:
        """How each camera's source image was brought to the network's size; None before its first frame."""


class Predictor(Protocol):
    """A network with its pre- and post-processing."""

    def predict(
        self, frameset: Frameset, geometries: Sequence[Geometry | None], signals: SignalReader
    ) -> Prediction | None:
        """What the network says; None for an empty frameset."""


class TrackFollower(Protocol):
    """Follows objects from tick to tick."""

    def update(
        self,
        prediction: Prediction | None,
        present: NDArray[np.bool_],
        time_ns: int,
        ego: EgoMotion,
        geometries: Sequence[Geometry | None],
    ) -> list[Track]:
        """The tracks after this tick; `present` says which cameras delivered a new image for it."""


class SignalTimeline(Protocol):
    """All outside signals over time."""

    def at(self, time_ns: int) -> SignalReader:
        """The signals as they stood at `time_ns`."""


class Comparing(Protocol):
    """Compares the shadow with the active controller."""

    def compare(
        self, tracks: Sequence[Track], prediction: Prediction | None, signals: SignalReader, time_ns: int
    ) -> Comparison:
        """The comparison of one tick."""


class RuleEvaluation(Protocol):
    """The rules."""

    def evaluate(
        self,
        tracks: Sequence[Track] | None,
        signals: SignalReader,
        time_ns: int,
        wall_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> list[Firing]:
        """Rules that went off on this tick. None: unknown, because nothing looked."""


class HealthSignals(Protocol):
    """Camera health as `health.*` signals."""

    def signals(self, frameset: Frameset | None, time_ns: int, moving: bool | None) -> Mapping[str, SignalValue]:
        """The values for one tick."""


class ViewMaking(Protocol):
    """The cameras as rules see them."""

    def look(self, sight: Sight | None, tracks: Sequence[Track] | None, time_ns: int) -> Sequence[CameraView] | None:
        """One view for each camera, after health was asked; None without cameras."""


class ObjectList(Protocol):
    """The controller's own objects."""

    def at(self, signals: SignalReader, time_ns: int) -> Sequence[ControllerObject] | None:
        """The objects at `time_ns`; None when there is no list, or none that can be read."""


class SecondLooking(Protocol):
    """A second candidate network beside the first."""

    def look(
        self,
        sight: Sight | None,
        first: Prediction | None,
        comparison: Comparison,
        signals: SignalReader,
        spent_ns: int | None,
    ) -> SecondLook | None:
        """What it says; `spent_ns` is how old the tick is, None in a replay."""


class LearnedSignals(Protocol):
    """What the network's embedding says: fleet queries, learned triggers, novelty."""

    def values(
        self, prediction: Prediction | None, fresh: NDArray[np.bool_], time_ns: int
    ) -> Mapping[str, SignalValue]:
        """The values of one tick; `fresh` says which cameras delivered a new image for it."""


class TickHealthSignals(Protocol):
    """How the ticks fare, as `health.*` signals."""

    def signals(self) -> Mapping[str, SignalValue]:
        """What is known after the last tick."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What a tick is composed of. Without cameras there are no framesets; without a model there is no network.

    `image_sizes` (width, height of each camera's source image) is filled in as first frames come, for whoever reads it.
    """

    signals: SignalTimeline
    rules: RuleEvaluation
    comparator: Comparing
    health: HealthSignals
    framesets: FramesetSource | None = None
    network: Predictor | None = None
    tracker: TrackFollower | None = None
    views: ViewMaking | None = None
    objects: ObjectList | None = None
    tick_health: TickHealthSignals | None = None
    learned: LearnedSignals | None = None
    second: SecondLooking | None = None
    image_sizes: MutableMapping[str, tuple[int, int]] = field(default_factory=dict)


class Pipeline:
    """Runs the stages in order, once for each instant."""

    def __init__(self, stages: Stages, stopwatch: Callable[[], int] = time.perf_counter_ns) -> None:
        self._stages = stages
        #: Nanoseconds of any clock; a benchmark may put another one in.
        self.stopwatch = stopwatch
        self._last_sequences: NDArray[np.int64] | None = None

    def tick(self, instant: int, instant_time_ns: int, wall_ns: int, now_ns: int | None = None) -> TickReport:
        """Work on one instant, whose capture time is `instant_time_ns`; `now_ns` is the live monotonic time, if any."""
        stages, laps = self._stages, Laps(self.stopwatch)
        frameset = stages.framesets.take(instant) if stages.framesets is not None else None
        sight = self._sight(frameset, now_ns)
        time_ns = instant_time_ns if frameset is None or frameset.is_empty else frameset.time_ns
        outside = stages.signals.at(time_ns)
        laps.lap("take")
        prediction = self._predict(sight, outside)
        laps.lap("infer")
        laps.split("infer", 0 if prediction is None else prediction.infer_ns, "decode")
        tracks = self._track(prediction, sight, outside, time_ns)
        laps.lap("track")
        comparison = stages.comparator.compare(tracks or (), prediction, outside, time_ns)
        laps.lap("compare")
        own = self._own_signals(frameset, prediction, comparison, outside, time_ns)
        second = None
        if stages.second is not None:
            spent_ns = None if now_ns is None else laps.since_start_ns
            second = stages.second.look(sight, prediction, comparison, outside, spent_ns)
            own.update(_second_signals(second))
            laps.lap("second")
        if stages.learned is not None and sight is not None:
            own.update(stages.learned.values(prediction, sight.fresh, time_ns))
        laps.lap("learned")
        cameras = stages.views.look(sight, tracks, time_ns) if stages.views is not None else None
        objects = stages.objects.at(outside, time_ns) if stages.objects is not None else None
        laps.lap("views")
        signals = TickSignals(outside, own, time_ns)
        firings = stages.rules.evaluate(tracks, signals, time_ns, wall_ns, objects=objects, cameras=cameras)
        laps.lap("rules")
        return TickReport(
            instant, time_ns, frameset, prediction, tracks, comparison, firings, laps.milliseconds,
            wall_ns=wall_ns, objects=objects, cameras=cameras, signals=own, second=second,
        )  # fmt: skip

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

    def _own_signals(
        self,
        frameset: Frameset | None,
        prediction: Prediction | None,
        comparison: Comparison,
        outside: SignalReader,
        time_ns: int,
    ) -> dict[str, SignalValue]:
        own: dict[str, SignalValue] = dict(comparison.values)
        if prediction is not None:
            own.update((f"heads.{name}", value) for name, value in prediction.scalars.items())
        own.update(self._stages.health.signals(frameset, time_ns, is_moving(outside)))
        if self._stages.tick_health is not None:
            own.update(self._stages.tick_health.signals())
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
