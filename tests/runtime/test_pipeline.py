"""The tick: which stage sees what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runtime.camera_health import CameraHealthSignals
from runtime.camera_views import CameraViews
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.monitor import HealthMonitor
from runtime.controller_objects import ControllerObjects
from runtime.messages import (
    Action,
    CaptureWindow,
    Detections,
    Firing,
    Frameset,
    Prediction,
    Priority,
    SignalReader,
    SignalSample,
    Track,
)
from runtime.pipeline import Pipeline, Stages
from runtime.shadow.comparison import Comparator
from runtime.signals.table import SignalTable
from runtime.tick_health import TickHealth

SECOND = 1_000_000_000


class Framesets:
    """Gives one frameset per instant; `present` decides who is in it."""

    geometries = (None, None)

    def __init__(self, present: Sequence[bool]) -> None:
        self._present = np.array(present)

    def take(self, instant: int) -> Frameset:
        return Frameset(instant, instant * SECOND, ("front", "rear"), self._present, np.zeros(2, np.int64),
                        np.zeros(2, np.int64), np.zeros((2, 3, 4, 4), np.uint8))  # fmt: skip


class Network:
    def __init__(self) -> None:
        self.runs = 0

    def predict(self, frameset: Frameset, geometries: object, signals: SignalReader) -> Prediction:
        self.runs += 1
        return Prediction(frameset.time_ns, Detections.empty(), (), control=Action(1.0, 0.0), scalars={"rain": 0.75})


class Rules:
    """Fires whenever all asked signals are known, with their values."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.seen: list[Mapping[str, object]] = []

    def evaluate(
        self, tracks: Sequence[Track] | None, signals: SignalReader, time_ns: int, wall_ns: int, **populations: object
    ) -> list[Firing]:
        values = {name: signals.value(name) for name in self._names}
        self.seen.append(values)
        if None in values.values():
            return []
        return [Firing("known", "1", 0, time_ns, wall_ns, values, Priority.NORMAL, CaptureWindow())]


def pipeline(rules: Rules, framesets: Framesets | None, network: Network | None, table: SignalTable) -> Pipeline:
    health = CameraHealthSignals(HealthMonitor([CameraWatch("front"), CameraWatch("rear")]))
    return Pipeline(Stages(table, rules, Comparator(), health, framesets, network))


def test_rules_see_outside_signals_heads_comparison_and_health_together() -> None:
    table = SignalTable({}, 10.0)
    for name, value in (("controller.enabled", True), ("controller.accel_command_mps2", 3.0)):
        table.offer(SignalSample(name, SECOND, value))
    rules = Rules("controller.enabled", "heads.rain", "shadow.accel_mps2", "diff.accel_mps2", "health.cameras_missing")
    report = pipeline(rules, Framesets([True, False]), Network(), table).tick(2, 2 * SECOND, 77)
    assert report.firings[0].operands == {
        "controller.enabled": True,
        "heads.rain": 0.75,
        "shadow.accel_mps2": 1.0,
        "diff.accel_mps2": -2.0,
        "health.cameras_missing": 1.0,
    }
    assert report.firings[0].wall_ns == 77


def test_without_any_frame_the_network_rests_and_signal_rules_go_on() -> None:
    table, network = SignalTable({}, 10.0), Network()
    table.offer(SignalSample("vehicle.brake_pressed", SECOND, True))
    rules = Rules("vehicle.brake_pressed")
    report = pipeline(rules, Framesets([False, False]), network, table).tick(2, 2 * SECOND, 0)
    assert network.runs == 0
    assert report.prediction is None
    assert [firing.rule for firing in report.firings] == ["known"]


def test_without_cameras_ticks_are_made_at_the_given_time() -> None:
    table = SignalTable({}, 10.0)
    table.offer(SignalSample("vehicle.speed_mps", 3 * SECOND, 5.0))
    report = pipeline(Rules("vehicle.speed_mps"), None, None, table).tick(9, 3 * SECOND, 0)
    assert report.time_ns == 3 * SECOND
    assert report.frameset is None
    assert report.firings


def test_samples_after_the_instant_wait_for_the_next_tick() -> None:
    table, rules = SignalTable({}, 10.0), Rules("vehicle.speed_mps")
    table.offer(SignalSample("vehicle.speed_mps", 2 * SECOND + 1, 5.0))
    ticker = pipeline(rules, Framesets([True, True]), Network(), table)
    ticker.tick(2, 2 * SECOND, 0)
    ticker.tick(3, 3 * SECOND, 0)
    assert [seen["vehicle.speed_mps"] for seen in rules.seen] == [None, 5.0]


def test_timings_name_every_stage() -> None:
    report = pipeline(Rules(), Framesets([True, True]), Network(), SignalTable({}, 1.0)).tick(0, 0, 0)
    assert set(report.timings_ms) == {"take", "infer", "decode", "track", "compare", "learned", "views", "rules"}


class Followed:
    """Remembers which cameras the tracker was told are new."""

    def __init__(self) -> None:
        self.fresh: list[list[bool]] = []

    def look_ahead(self, time_ns: int) -> None:
        """It has nothing to move."""

    def update(self, prediction: object, present: np.ndarray, time_ns: int, ego: object, geometries: object) -> list:
        self.fresh.append(present.tolist())
        return []


def test_held_frame_is_not_new_to_the_tracker() -> None:
    followed, table = Followed(), SignalTable({}, 1.0)
    health = CameraHealthSignals(HealthMonitor([CameraWatch("front"), CameraWatch("rear")]))

    class Moving(Framesets):
        def take(self, instant: int) -> Frameset:
            frameset = super().take(instant)
            frameset.frame_sequence[0] = instant  # the rear camera's frame 0 is held
            return frameset

    ticker = Pipeline(Stages(table, Rules(), Comparator(), health, Moving([True, True]), Network(), followed))
    for instant in (1, 2):
        ticker.tick(instant, instant * SECOND, 0)
    assert followed.fresh == [[True, True], [True, False]]


class Seen:
    """Remembers the populations that rules were given."""

    def __init__(self) -> None:
        self.given: list[tuple[object, object, object]] = []
        self.values: list[dict[str, object]] = []

    def evaluate(
        self, tracks: object, signals: SignalReader, time_ns: int, wall_ns: int, objects: object, cameras: object
    ) -> list[Firing]:
        self.given.append((tracks, objects, cameras))
        self.values.append({name: signals.value(name) for name in ("health.tick_ms", "health.latency_ms")})
        return []


def _seen_by(framesets: Framesets | None, network: Network | None, tracker: Followed | None) -> Seen:
    rules = Seen()
    health = CameraHealthSignals(HealthMonitor([CameraWatch("front"), CameraWatch("rear")]))
    stages = Stages(SignalTable({}, 1.0), rules, Comparator(), health, framesets, network, tracker)
    Pipeline(stages).tick(1, SECOND, 0)
    return rules


def test_what_nothing_looked_at_is_unknown_and_not_empty() -> None:
    assert _seen_by(Framesets([True, True]), Network(), Followed()).given == [([], None, None)]
    assert _seen_by(Framesets([False, False]), Network(), Followed()).given == [(None, None, None)]
    assert _seen_by(Framesets([True, True]), None, None).given == [(None, None, None)]
    assert _seen_by(None, None, None).given == [(None, None, None)]


def test_report_carries_what_rules_saw() -> None:
    table = SignalTable({}, 10.0)
    table.offer(SignalSample("controller.objects", SECOND, '[{"id": 1, "class_name": "car"}]'))
    health = CameraHealthSignals(HealthMonitor([CameraWatch("front"), CameraWatch("rear")]))
    stages = Stages(
        table, Rules(), Comparator(), health, Framesets([True, False]), Network(), Followed(),
        views=CameraViews(health), objects=ControllerObjects(),
    )  # fmt: skip
    report = Pipeline(stages).tick(1, SECOND, 77, 2 * SECOND)
    assert [found.object_id for found in report.objects or ()] == [1]
    assert [(view.camera, view.is_missing) for view in report.cameras or ()] == [("front", False), ("rear", True)]
    assert report.signals["heads.rain"] == 0.75
    assert report.wall_ns == 77


def test_health_of_ticks_is_that_of_the_tick_before_and_unknown_to_a_replay() -> None:
    ticking, rules = TickHealth(), Seen()
    health = CameraHealthSignals(HealthMonitor([CameraWatch("front"), CameraWatch("rear")]))
    table = SignalTable({}, 1.0)
    ticker = Pipeline(
        Stages(table, rules, Comparator(), health, Framesets([True, True]), Network(), tick_health=ticking)
    )
    ticker.tick(1, SECOND, 0)
    ticking.note(began_ns=10_000_000, result_ns=14_000_000, captured_ns=2_000_000, skipped=3)
    ticker.tick(2, 2 * SECOND, 0)
    ticking.note(began_ns=20_000_000, result_ns=25_000_000, captured_ns=None, skipped=3)
    ticker.tick(3, 3 * SECOND, 0)
    assert [seen["health.tick_ms"] for seen in rules.values] == [None, 4.0, 5.0]
    assert [seen["health.latency_ms"] for seen in rules.values] == [None, 12.0, None]


def test_without_framesets_nobody_says_how_many_cameras_are_missing() -> None:
    report = pipeline(Rules(), None, None, SignalTable({}, 1.0)).tick(0, 0, 0)
    assert "health.cameras_missing" not in report.signals
    assert report.signals["health.faulty_cameras"] == ""
