"""Learned rules over a recording: what they say without inference is what the tick said with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from replay.session import ReplayRequest, replay_drive
from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicReader
from runtime.formats.tick_records import decode_tick
from runtime.recorded_embeddings import recorded_learned, recorded_model, recorded_scenes
from tests.runtime.inference.tiny_classifiers import AQuery, SomeRules, logistic, saved
from triggers import load_rules

MODEL = "hydra_mini"


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learned")
    generator = np.random.default_rng(3)
    saved(folder / "odd.onnx", logistic(generator.standard_normal(64), rows="cameras"))
    vector = ", ".join(f"{value:.4f}" for value in generator.standard_normal(64))
    (folder / "rules.yaml").write_text(
        f"queries: {{anywhere: {{vector: [{vector}], model: {MODEL}}},"
        f" rear: {{vector: [{vector}], model: {MODEL}, camera: rear}}}}\n"
        "classifiers: {odd: {file: odd.onnx}}\n"
        "rules:\n"
        "  - name: learned\n"
        "    description: Reads everything that is learned.\n"
        '    when: embedding_distance("anywhere") < 3 and embedding_distance("rear") < 3 and classifier("odd") < 2\n'
        "    cooldown_s: 60\n"
        "    capture: {pre_s: 1, post_s: 1}\n"
    )
    return folder / "rules.yaml"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, tiny_drive: Path, rules: Path) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    result = replay_drive(ReplayRequest(tiny_drive, MODEL, (str(rules),), out_dir=folder))
    assert [firing.rule for firing in result.firings] == ["learned"]
    return next(folder.rglob("*.mcap"))


def test_a_recording_says_again_what_rules_read_live(clip: Path, rules: Path) -> None:
    with McapTopicReader(clip) as reader:
        ticks = [decode_tick(message.data) for message in reader.messages({topics.TICK})]
        again = dict(recorded_learned(reader, load_rules([rules]), MODEL))
    learned = {
        tick.time_ns: {
            name: value for name, value in tick.signals.items() if name.startswith(("embedding.", "classifier."))
        }
        for tick in ticks
    }
    assert len(learned) > 10
    assert {len(values) for values in learned.values()} == {3}
    # The side camera is held over on every other tick: there it counts in a recording, and did not live.
    assert {at: values["embedding.rear"] for at, values in again.items()} == pytest.approx(
        {at: values["embedding.rear"] for at, values in learned.items()}, abs=1e-6
    )
    same = sum(again[at] == pytest.approx(values, abs=1e-5) for at, values in learned.items())
    assert same >= len(learned) // 2
    assert all(again[at]["embedding.anywhere"] <= values["embedding.anywhere"] + 1e-6 for at, values in learned.items())


def test_a_query_made_later_is_answered_from_the_recording(clip: Path) -> None:
    with McapTopicReader(clip) as reader:
        scene = next(scene for scene in recorded_scenes(reader) if scene.camera == "front")
        later = SomeRules({"this": AQuery(tuple(scene.vector), MODEL), "foreign": AQuery((1.0,), "hydra_9")})
        found = dict(recorded_learned(reader, later, MODEL))
    assert found[scene.time_ns] == {"embedding.this": pytest.approx(0.0, abs=1e-6)}


def test_a_recording_names_the_model_of_its_embeddings(
    clip: Path, tiny_rules: Path, tiny_drive: Path, tmp_path: Path
) -> None:
    with McapTopicReader(clip) as reader:
        model = recorded_model(reader)
    assert model is not None
    assert model.name == MODEL
    replay_drive(ReplayRequest(tiny_drive, None, (str(tiny_rules),), out_dir=tmp_path))
    with McapTopicReader(next(tmp_path.rglob("*.mcap"))) as reader:
        assert recorded_model(reader) is None
        assert list(recorded_scenes(reader)) == []
