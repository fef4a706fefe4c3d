"""Fleet queries, learned triggers and novelty, from the network's embedding to signals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from runtime.formats.documents import DocumentError
from runtime.inference.embedding import EmbeddingReader, EmbeddingSpace
from runtime.inference.learned import LearnedStage, LearnedTriggers
from runtime.inference.network import Network
from runtime.inference.novelty import NoveltySettings
from runtime.messages import NANOSECONDS_PER_SECOND, Detections, Prediction
from tests.runtime.inference.tiny_classifiers import AQuery, SomeRules, logistic, saved
from tests.runtime.inference.tiny_networks import fixed_network, frameset_of, mean_manifest, noise, write_bundle

SPACE = EmbeddingSpace("tiny", "embedding", rows=3, dimension=2, row_of_camera={"front": 1, "rear": 0})
BOTH = np.array([True, True])  # front, rear
EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


def _said(rear: tuple[float, float], front: tuple[float, float], padding: float = math.nan) -> Prediction:
    head = np.array([rear, front, (padding, padding)], np.float32)
    return Prediction(0, Detections.empty(), (), heads={"embedding": head})


def _values(
    rules: SomeRules, prediction: Prediction | None, fresh: np.ndarray = BOTH, space: EmbeddingSpace | None = SPACE
) -> dict[str, object]:
    return dict(LearnedStage(space, LearnedTriggers.open(rules, space)).values(prediction, fresh, 0))


def test_the_distance_is_that_of_the_nearest_camera_whatever_the_length_of_the_vectors() -> None:
    rules = SomeRules(queries={"east": AQuery((5.0, 0.0)), "west": AQuery(WEST)})
    values = _values(rules, _said(rear=(0.0, 3.0), front=(9.0, 0.0)))
    assert values == {"embedding.east": 0.0, "embedding.west": 1.0}


def test_a_query_of_one_camera_looks_at_that_one_only() -> None:
    queries = {"front": AQuery(EAST, camera="front"), "rear": AQuery(EAST, camera="rear"), "any": AQuery(EAST)}
    values = _values(SomeRules(queries), _said(rear=EAST, front=WEST))
    assert values == {"embedding.front": 2.0, "embedding.rear": 0.0, "embedding.any": 0.0}


def test_a_camera_without_a_new_image_does_not_count() -> None:
    queries = {"front": AQuery(EAST, camera="front"), "rear": AQuery(EAST, camera="rear"), "any": AQuery(EAST)}
    values = _values(SomeRules(queries), _said(rear=EAST, front=WEST), np.array([True, False]))
    assert values == {"embedding.front": 2.0, "embedding.any": 2.0}


@pytest.mark.parametrize("broken", [(math.nan, 0.0), (math.inf, 1.0), (0.0, 0.0)])
def test_a_row_that_is_no_direction_does_not_count(broken: tuple[float, float]) -> None:
    rules = SomeRules(queries={"east": AQuery(EAST)})
    assert _values(rules, _said(rear=broken, front=NORTH)) == {"embedding.east": 1.0}
    assert _values(rules, _said(rear=broken, front=broken)) == {}


def test_nothing_is_known_without_a_prediction_an_embedding_or_a_new_image() -> None:
    rules = SomeRules(queries={"east": AQuery(EAST)})
    assert _values(rules, None) == {}
    assert _values(rules, Prediction(0, Detections.empty(), ())) == {}
    assert _values(rules, _said(EAST, EAST), np.array([False, False])) == {}


def test_what_can_never_be_known_here_is_named_with_its_reason(tmp_path: Path) -> None:
    classifier = saved(tmp_path / "a.onnx", logistic(np.ones(2)))
    queries = {"old": AQuery(EAST, model="hydra_0"), "side": AQuery(EAST, camera="left"), "good": AQuery(EAST)}
    triggers = LearnedTriggers.open(SomeRules(queries), SPACE)
    assert triggers.names == ("embedding.good",)
    assert triggers.lacking == {
        "embedding.old": "the query is of model 'hydra_0', 'tiny' runs",
        "embedding.side": "the rig has no camera 'left'",
    }
    without = LearnedTriggers.open(SomeRules({"good": AQuery(EAST)}, {"rain": classifier}), None)
    assert set(without.lacking) == {"embedding.good", "classifier.rain"}
    assert LearnedStage(None, without).values(_said(EAST, EAST), BOTH, 0) == {}


def test_a_query_that_is_no_vector_of_this_model_is_a_problem_by_name() -> None:
    queries = {"long": AQuery((1.0, 2.0, 3.0)), "nothing": AQuery((0.0, 0.0)), "broken": AQuery((math.nan, 1.0))}
    with pytest.raises(DocumentError) as caught:
        LearnedTriggers.open(SomeRules(queries), SPACE)
    assert [problem.file for problem in caught.value.problems] == ["query broken", "query long", "query nothing"]
    assert "has 3 numbers, an embedding of model tiny has 2" in str(caught.value)


def test_a_classifier_over_the_rig_sees_missing_cameras_as_zeros(tmp_path: Path) -> None:
    weights = np.array([1.0, 0.0, 2.0, 0.0, 50.0, 50.0])  # rear, front, padding
    rules = SomeRules(classifiers={"both": saved(tmp_path / "a.onnx", logistic(weights, bias=-1.0))})
    both = _values(rules, _said(rear=EAST, front=EAST))["classifier.both"]
    front = _values(rules, _said(rear=EAST, front=EAST), np.array([True, False]))["classifier.both"]
    assert both == pytest.approx(1.0 / (1.0 + math.exp(-2.0)), abs=1e-5)
    assert front == pytest.approx(1.0 / (1.0 + math.exp(-1.0)), abs=1e-5)


@pytest.mark.parametrize("rows", [3, "cameras"])
def test_a_classifier_by_camera_tells_the_most_probable_of_those_with_a_new_image(
    tmp_path: Path, rows: int | str
) -> None:
    rules = SomeRules(classifiers={"east": saved(tmp_path / "a.onnx", logistic(np.array([3.0, 0.0]), rows=rows))})
    said = _said(rear=EAST, front=WEST)
    assert _values(rules, said)["classifier.east"] == pytest.approx(1.0 / (1.0 + math.exp(-3.0)), abs=1e-5)
    only_front = _values(rules, said, np.array([True, False]))["classifier.east"]
    assert only_front == pytest.approx(1.0 / (1.0 + math.exp(3.0)), abs=1e-5)


def test_a_rule_set_is_taken_over_by_one_assignment_and_novelty_goes_on(tmp_path: Path) -> None:
    first = LearnedTriggers.open(SomeRules({"east": AQuery(EAST)}), SPACE)
    stage = LearnedStage(SPACE, first, NoveltySettings(settle_s=1.0))
    stage.values(_said(EAST, EAST), BOTH, 0)
    classifiers = {"rain": saved(tmp_path / "a.onnx", logistic(np.zeros(6)))}
    stage.triggers = LearnedTriggers.open(SomeRules({"west": AQuery(WEST)}, classifiers), SPACE)
    values = stage.values(_said(EAST, NORTH), BOTH, NANOSECONDS_PER_SECOND)
    assert values == {"embedding.west": 1.0, "classifier.rain": 0.5, "heads.novelty": 1.0}


def test_the_same_ticks_give_the_same_signals(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    ticks = [generator.standard_normal((3, 2)).astype(np.float32) for _ in range(200)]
    rules = SomeRules({"east": AQuery(EAST)}, {"c": saved(tmp_path / "a.onnx", logistic(generator.random(6)))})
    runs = []
    for _ in range(2):
        stage = LearnedStage(SPACE, LearnedTriggers.open(rules, SPACE), NoveltySettings(members=8, settle_s=1.0))
        predictions = (Prediction(0, Detections.empty(), (), heads={"embedding": tick}) for tick in ticks)
        runs.append([dict(stage.values(said, BOTH, index * 10**8)) for index, said in enumerate(predictions)])
    assert runs[0] == runs[1]
    assert all(set(tick) == {"embedding.east", "classifier.c", "heads.novelty"} for tick in runs[0][10:])


def _network(directory: Path, rows: int, cameras: list[str], head: str = "embedding", decoder: str = "raw") -> Network:
    manifest = {
        **mean_manifest(2),
        "inputs": [{"name": "images", "kind": "images", "shape": [2, 3, 8, 8], "dtype": "uint8"}],
        "heads": [{"name": head, "decoder": decoder, "outputs": {"vector": "vector"}}],
        "cameras": ["front", "camera_0"],
    }
    vector = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) + 1.0
    return Network.open(
        write_bundle(directory, manifest, {"fp32": fixed_network({"vector": vector}, [2, 3, 8, 8], "uint8")}), cameras
    )


def test_the_rows_of_a_networks_embedding_are_those_of_the_rigs_cameras(tmp_path: Path) -> None:
    network = _network(tmp_path / "b", rows=2, cameras=["camera_0", "camera_1"])
    space = network.embedding
    assert space == EmbeddingSpace("means", "embedding", 2, 4, {"camera_0": 1, "camera_1": 0})
    assert space is not None
    reader = EmbeddingReader(space)
    prediction = network.predict(frameset_of(noise(2)), None, None)
    assert prediction.camera_rows == (1, 0)
    assert reader.read(prediction, np.array([True, False]))
    np.testing.assert_allclose(reader.vectors[1], np.array([5, 6, 7, 8]) / math.sqrt(174), rtol=1e-6)
    assert reader.counts.tolist() == [False, True]


def test_one_embedding_of_the_whole_scene_counts_when_any_camera_is_new(tmp_path: Path) -> None:
    space = _network(
        tmp_path / "b", rows=1, cameras=["camera_0", "camera_1"], head="scene", decoder="embedding"
    ).embedding
    assert space == EmbeddingSpace("means", "scene", 1, 4, {"camera_0": 0, "camera_1": 0})
    assert space is not None
    prediction = Prediction(0, Detections.empty(), (), heads={"scene": np.array([[0.0, 0.0, 0.0, 2.0]], np.float32)})
    rules = SomeRules({"any": AQuery((0, 0, 0, 1), "means"), "rear": AQuery((0, 0, 0, -1), "means", "camera_1")})
    assert _values(rules, prediction, np.array([True, False]), space) == {"embedding.any": 0.0, "embedding.rear": 2.0}
    assert _values(rules, prediction, np.array([False, False]), space) == {}


def test_a_network_without_an_embedding_has_none(tmp_path: Path) -> None:
    assert _network(tmp_path / "b", rows=2, cameras=["camera_0"], head="colour").embedding is None
