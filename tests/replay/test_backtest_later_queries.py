"""A backtest over recorded ticks answers queries and learned triggers that are newer than the recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from replay.backtest.evaluation import DriveOutcome, evaluate_drive
from replay.backtest.recording import RecordingRequest, drive_ticks
from replay.session import ReplayRequest, replay_drive
from runtime.composition import open_rules
from runtime.formats.mcap_files import McapTopicReader
from runtime.recorded_embeddings import recorded_scenes
from tests.runtime.inference.tiny_classifiers import logistic, saved

MODEL = "hydra_mini"
RULES = """\
queries:
  scene: {{vector: [{scene}], model: {model}, camera: front}}
  foreign: {{vector: [1, 0], model: hydra_9}}
classifiers: {{odd: {{file: odd.onnx}}}}
rules:
  - {{name: more, description: Like it., when: embedding_distance("scene") < 0.00001, cooldown_s: 60}}
  - {{name: never, description: Unlike it., when: embedding_distance("scene") > 1.99}}
  - {{name: odd, description: Learned., when: classifier("odd") > 0.5, cooldown_s: 60}}
  - {{name: foreign, description: Of another model., when: embedding_distance("foreign") < 1}}
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, tiny_drive: Path, tiny_rules: Path) -> Path:
    """Recorded by rules that know of no query."""
    folder = tmp_path_factory.mktemp("clips")
    replay_drive(ReplayRequest(tiny_drive, MODEL, (str(tiny_rules),), out_dir=folder))
    return max(folder.rglob("*.mcap"), key=lambda path: path.stat().st_size)


def _scene(clip: Path) -> tuple[int, np.ndarray]:
    """What the network said of the front camera in the middle of the clip."""
    with McapTopicReader(clip) as reader:
        scenes = [scene for scene in recorded_scenes(reader) if scene.camera == "front"]
    return scenes[len(scenes) // 2].time_ns, scenes[len(scenes) // 2].vector


def _rules(folder: Path, vector: np.ndarray) -> Path:
    """Of the scene; the learned trigger says 1 of what lies in its direction."""
    saved(folder / "odd.onnx", logistic(100.0 * vector, rows="cameras"))
    path = folder / "later.yaml"
    path.write_text(RULES.format(scene=", ".join(f"{value:.8f}" for value in vector), model=MODEL))
    return path


def _outcome(drive: Path, rules: Path, cache: Path | None = None) -> DriveOutcome:
    loaded = open_rules([rules])
    with drive_ticks(RecordingRequest(drive, None, cache=cache, predictions="recorded"), loaded) as ticks:
        return evaluate_drive(drive, ticks.facts, ticks.drive.truth, ticks.blocks, loaded, ticks.was_cached)


def test_a_query_made_later_fires_where_its_scene_is(clip: Path, tmp_path: Path) -> None:
    time_ns, vector = _scene(clip)
    outcome = _outcome(clip, _rules(tmp_path, vector))
    fired = {firing.rule: firing for firing in outcome.kept}
    assert fired.keys() == {"more", "odd"}
    assert fired["more"].time_ns == time_ns
    assert fired["more"].operands["embedding.scene"] == pytest.approx(0.0, abs=1e-6)
    assert outcome.not_applicable.keys() == {"foreign"}
    assert "hydra_9" in outcome.not_applicable["foreign"]


def test_another_query_of_the_same_name_is_not_answered_from_the_cache(clip: Path, tmp_path: Path) -> None:
    _, vector = _scene(clip)
    cache, rules = tmp_path / "cache", _rules(tmp_path, vector)
    assert [_outcome(clip, rules, cache).was_cached for _ in range(2)] == [False, True]
    opposite = _outcome(clip, _rules(tmp_path, -vector), cache)
    assert not opposite.was_cached
    assert {firing.rule for firing in opposite.kept} == {"never"}


def test_without_recorded_embeddings_the_reason_is_told(tiny_drive: Path, tiny_rules: Path, tmp_path: Path) -> None:
    replay_drive(ReplayRequest(tiny_drive, None, (str(tiny_rules),), out_dir=tmp_path / "clips"))
    blind = next((tmp_path / "clips").rglob("*.mcap"))
    outcome = _outcome(blind, _rules(tmp_path, np.ones(64) / 8.0))
    assert outcome.kept == []
    assert outcome.not_applicable.keys() == {"more", "never", "odd", "foreign"}
