"""What a tick is composed of: one protocol for each stage, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.camera_views import Sight
from runtime.formats.image_spec import Geometry
from runtime.inference.ground import EgoMotion
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
    Track,
)


class FramesetSource(Protocol):
    """Gives the frameset of an instant; never blocks."""

    def take(self, instant: int) -> Frameset:
        """The newest complete or timed-out set of that instant, perhaps empty."""

    def look_at_prepared(self) -> None:
        """After the network, where it prepared the images of a frameset with `sources`: they can be looked at now."""

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

    def look_ahead(self, time_ns: int) -> None:
        """Before `update` at the same time, on any thread, or not at all: what that needs no prediction for."""

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


class RulesAhead(Protocol):
    """The part of the rules that needs no word of the network."""

    def look_ahead(
        self,
        signals: SignalReader,
        time_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> None:
        """Before `evaluate` of the same tick, on any thread."""


class HealthSignals(Protocol):
    """Camera health as `health.*` signals."""

    def signals(self, frameset: Frameset | None, time_ns: int, moving: bool | None) -> Mapping[str, SignalValue]:
        """The values for one tick."""


class ViewMaking(Protocol):
    """The cameras as rules see them."""

    def look_ahead(self, sight: Sight | None) -> Sequence[CameraView] | None:
        """One view for each camera, after health was asked, without what is made of tracks; None without cameras."""

    def complete(
        self, views: Sequence[CameraView] | None, tracks: Sequence[Track] | None, time_ns: int
    ) -> Sequence[CameraView] | None:
        """The same views with what is made of tracks."""


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
    rules_ahead: RulesAhead | None = None  # the rules, where nothing stands between them and the tick
    image_sizes: MutableMapping[str, tuple[int, int]] = field(default_factory=dict)
