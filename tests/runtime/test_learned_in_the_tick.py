"""Learned signals in the tick: they join its own signals, reach rules, and change hands without losing a tick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.camera_health import CameraHealthSignals
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.monitor import HealthMonitor
from runtime.inference.embedding import EmbeddingSpace
from runtime.inference.learned import LearnedStage, LearnedTriggers
from runtime.inference.novelty import NoveltySettings
from runtime.messages import (
    NANOSECONDS_PER_SECOND,
    CaptureWindow,
    Detections,
    Firing,
    Frameset,
    Prediction,
    Priority,
    SignalReader,
)
from runtime.pipeline import Pipeline, Stages
from runtime.shadow.comparison import Comparator
from runtime.signals.table import SignalTable
from tests.runtime.inference.tiny_classifiers import AQuery, SomeRules, logistic, saved

SPACE = EmbeddingSpace("tiny", "embedding", 2, 2, {"front": 0, "rear": 1})
FRONT_SAYS, REAR_SAYS = (1.0, 0.0), (0.0, 1.0)


class _Framesets:
    """Two cameras; the rear one holds its image from the second tick on."""

    geometries = (None, None)

    def take(self, instant: int) -> Frameset:
        return Frameset(instant, instant * NANOSECONDS_PER_SECOND, ("front", "rear"), np.array([True, True]),
                        np.zeros(2, np.int64), np.array([instant, 0]), np.zeros((2, 3, 4, 4), np.uint8))  # fmt: skip


class _Network:
    def predict(self, frameset: Frameset, geometries: object, signals: SignalReader) -> Prediction:
        head = np.array([FRONT_SAYS, REAR_SAYS], np.float32)
        return Prediction(frameset.time_ns, Detections.empty(), (), heads={"embedding": head})


class _Rules:
    """Fires whenever it is near enough, with what it read."""

    def evaluate(
        self, tracks: object, signals: SignalReader, time_ns: int, wall_ns: int, objects: object, cameras: object
    ) -> list[Firing]:
        read = {name: signals.value(name) for name in signals.names() if not name.startswith("health.")}
        return [Firing("reads", "1", 0, time_ns, wall_ns, read, Priority.NORMAL, CaptureWindow())]


def _pipeline(stage: LearnedStage) -> Pipeline:
    health = CameraHealthSignals(HealthMonitor([CameraWatch("front"), CameraWatch("rear")]))
    table = SignalTable({}, 1.0)
    return Pipeline(Stages(table, _Rules(), Comparator(), health, _Framesets(), _Network(), learned=stage))


def _ticks(pipeline: Pipeline, instants: Sequence[int]) -> list[dict[str, object]]:
    reports = [pipeline.tick(instant, instant * NANOSECONDS_PER_SECOND, 0) for instant in instants]
    for report in reports:
        read = {name: value for name, value in report.signals.items() if not name.startswith("health.")}
        assert report.firings[0].operands == read  # what rules saw is what is recorded
    return [dict(report.firings[0].operands) for report in reports]


def test_learned_signals_reach_rules_and_the_record_and_a_held_image_does_not_count() -> None:
    queries = {"front": AQuery(FRONT_SAYS), "rear": AQuery(REAR_SAYS), "behind": AQuery(REAR_SAYS, camera="rear")}
    stage = LearnedStage(SPACE, LearnedTriggers.open(SomeRules(queries), SPACE), NoveltySettings(settle_s=1.0))
    first, second = _ticks(_pipeline(stage), [1, 2])
    assert first == {"embedding.front": 0.0, "embedding.rear": 0.0, "embedding.behind": 0.0}
    assert second == {"embedding.front": 0.0, "embedding.rear": 1.0, "heads.novelty": 0.0}


def test_another_rule_set_is_there_on_the_next_tick(tmp_path: Path) -> None:
    stage = LearnedStage(SPACE, LearnedTriggers.open(SomeRules({"front": AQuery(FRONT_SAYS)}), SPACE))
    pipeline = _pipeline(stage)
    before = _ticks(pipeline, [1])[0]
    classifiers = {"odd": saved(tmp_path / "odd.onnx", logistic(np.zeros(4)))}
    stage.triggers = LearnedTriggers.open(SomeRules(classifiers=classifiers), SPACE)
    assert (before, _ticks(pipeline, [2])[0]) == ({"embedding.front": 0.0}, {"classifier.odd": 0.5})


def test_what_is_lacking_or_fails_is_in_the_status() -> None:
    rules = SomeRules({"old": AQuery(FRONT_SAYS, model="hydra_0")})
    stage = LearnedStage(SPACE, LearnedTriggers.open(rules, SPACE))
    said = stage.status()
    assert said["lacking"] == {"embedding.old": "the query is of model 'hydra_0', 'tiny' runs"}
    assert said["failures"] == {}
