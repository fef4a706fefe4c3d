"""The tick: one pass over one frameset. Infer, track, compare, evaluate rules.

Live and replay run this same class; only the sources and the clock differ. Given the same framesets and signals, its
firings are identical. A tick never logs, writes a file or waits on another process: what it finds is returned as a
`TickReport`, and whoever called it hands that on.

Time comes in as an argument. The stopwatch only measures how long the stages took; nothing is decided by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry
from runtime.inference.ground import EgoMotion
from runtime.messages import (
    NANOSECONDS_PER_MILLISECOND,
    Comparison,
    Firing,
    Frameset,
    Prediction,
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

    def evaluate(self, tracks: Sequence[Track], signals: SignalReader, time_ns: int, wall_ns: int) -> list[Firing]:
        """Rules that went off on this tick."""


class HealthSignals(Protocol):
    """Camera health as `health.*` signals."""

    def signals(self, frameset: Frameset | None, time_ns: int, moving: bool | None) -> Mapping[str, SignalValue]:
        """The values for one tick."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What a tick is composed of. Without cameras there are no framesets; without a model there is no network."""

    signals: SignalTimeline
    rules: RuleEvaluation
    comparator: Comparing
    health: HealthSignals
    framesets: FramesetSource | None = None
    network: Predictor | None = None
    tracker: TrackFollower | None = None


class Pipeline:
    """Runs the stages in order, once for each instant."""

    def __init__(self, stages: Stages, stopwatch: Callable[[], int] = time.perf_counter_ns) -> None:
        self._stages = stages
        self._stopwatch = stopwatch
        self._last_sequences: NDArray[np.int64] | None = None

    def tick(self, instant: int, instant_time_ns: int, wall_ns: int) -> TickReport:
        """Work on one instant, whose capture time is `instant_time_ns`."""
        laps = _Laps(self._stopwatch)
        frameset = self._stages.framesets.take(instant) if self._stages.framesets is not None else None
        time_ns = instant_time_ns if frameset is None or frameset.is_empty else frameset.time_ns
        outside = self._stages.signals.at(time_ns)
        prediction = self._predict(frameset, outside)
        laps.lap("infer")
        tracks = self._track(prediction, frameset, outside, time_ns)
        laps.lap("track")
        comparison = self._stages.comparator.compare(tracks, prediction, outside, time_ns)
        laps.lap("compare")
        signals = TickSignals(outside, self._own_signals(frameset, prediction, comparison, outside, time_ns), time_ns)
        firings = self._stages.rules.evaluate(tracks, signals, time_ns, wall_ns)
        laps.lap("rules")
        return TickReport(instant, time_ns, frameset, prediction, tracks, comparison, firings, laps.milliseconds)

    def _predict(self, frameset: Frameset | None, signals: SignalReader) -> Prediction | None:
        stages = self._stages
        if frameset is None or frameset.is_empty or stages.network is None or stages.framesets is None:
            return None
        return stages.network.predict(frameset, stages.framesets.geometries, signals)

    def _track(
        self, prediction: Prediction | None, frameset: Frameset | None, signals: SignalReader, time_ns: int
    ) -> list[Track]:
        stages = self._stages
        if stages.tracker is None or stages.framesets is None or frameset is None:
            return []
        ego = EgoMotion(number(signals, "vehicle.speed_mps"), driven_curvature_1pm(signals))
        return stages.tracker.update(prediction, self._fresh(frameset), time_ns, ego, stages.framesets.geometries)

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
        return own


def is_moving(signals: SignalReader) -> bool | None:
    """Whether the vehicle moves; None while its speed is unknown."""
    speed_mps = signals.value("vehicle.speed_mps")
    return None if speed_mps is None or isinstance(speed_mps, str) else float(speed_mps) > 0.5


class _Laps:
    """Milliseconds by stage."""

    def __init__(self, stopwatch: Callable[[], int]) -> None:
        self._stopwatch = stopwatch
        self._last_ns = stopwatch()
        self.milliseconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now_ns = self._stopwatch()
        self.milliseconds[stage] = (now_ns - self._last_ns) / NANOSECONDS_PER_MILLISECOND
        self._last_ns = now_ns
