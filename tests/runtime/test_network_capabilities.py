"""What the bundled network can tell rules: what it lacks is named, with the rule, when rules are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.capabilities import SourceFacts, capabilities_of
from runtime.capture.camera_watch import CameraWatch
from runtime.composition import ModelChoice, compose_tick, find_bundle, open_network, open_signals, published_scalars
from runtime.formats.documents import DocumentError
from runtime.inference.network import Network
from runtime.rig import NO_DISTORTION, Rig, RigCamera
from runtime.rotations import looking
from triggers import load_rules

CAMERAS = ("front_main", "rear")


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    opened = open_network(ModelChoice(find_bundle("hydra_mini")), CAMERAS)
    yield opened
    opened.close()


def _rig() -> Rig:
    pose = (looking(0.0), (1.5, 0.0, 1.4))
    camera = RigCamera("front_main", "front", 320, 192, 280.0, 280.0, 160.0, 96.0, NO_DISTORTION, *pose, 20.0)
    return Rig("tiny", (camera,))


def test_a_network_names_its_heads_classes_states_and_embedding(network: Network) -> None:
    found = capabilities_of(network, published_scalars(network), CAMERAS, None, SourceFacts())
    assert found.heads >= {
        "weather",
        "weather_entropy",
        "weather_margin",
        "wiper_entropy",
        "detection_entropy",
        "novelty",
    }
    assert found.classes == {"vehicle", "pedestrian", "cyclist", "stop_sign", "traffic_light"}
    assert found.states == {"red", "yellow", "green"}
    assert (found.embedding_model, found.cameras, found.has_images) == ("hydra_mini", 2, True)


def test_without_a_network_nothing_is_looked_at() -> None:
    found = capabilities_of(None, (), CAMERAS, None, SourceFacts())
    assert (found.cameras, found.has_images, found.embedding_model) == (2, False, None)


RULES = {
    "moves": "any_track(predicted_speed_mps > 1)",
    "deep": "any_track(predicted_distance_m > 5)",
    "near": "any_track(distance_m < 5)",
    "bike": 'any_track(class_name == "motorcycle")',
    "red": 'any_track(state == "red")',
    "old": 'embedding_distance("old") < 0.1',
    "like": 'embedding_distance("like") < 0.1',
    "new": "heads.novelty > 0.5 and heads.detection_entropy > 0.5",
}


def _rules(folder: Path, classifiers: str = "") -> Path:
    vector = ", ".join(["1.0"] * 64)
    lines = [
        f"queries: {{old: {{vector: [{vector}], model: hydra_0}}, like: {{vector: [{vector}], model: hydra_mini}}}}"
    ]
    lines += [classifiers, "rules:"] if classifiers else ["rules:"]
    lines += [f"  - {{name: {name}, description: Test., when: '{when}'}}" for name, when in RULES.items()]
    (folder / "rules.yaml").write_text("\n".join(lines))
    return folder / "rules.yaml"


def test_rules_that_this_vehicle_cannot_serve_are_named_and_no_others(tmp_path: Path, network: Network) -> None:
    watches = [CameraWatch(name) for name in CAMERAS]
    rules = load_rules([_rules(tmp_path)])
    blind = compose_tick(watches, network, None, open_signals({}), rules, 0, 20.0, None).not_applicable
    assert set(blind) == {"moves", "deep", "near", "bike", "old"}
    calibrated = compose_tick(watches, network, _rig(), open_signals({}), rules, 0, 20.0, None).not_applicable
    assert set(calibrated) == {"moves", "deep", "bike", "old"}
    assert "motorcycle" in calibrated["bike"]
    assert "hydra_0" in calibrated["old"]


def test_a_bad_classifier_stops_the_start_with_its_file(tmp_path: Path, network: Network) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\x00\x01 no network")
    rules = load_rules([_rules(tmp_path, "classifiers: {bad: {file: bad.onnx}}")])
    with pytest.raises(DocumentError, match=r"bad\.onnx: is not an ONNX file"):
        compose_tick([CameraWatch(name) for name in CAMERAS], network, None, open_signals({}), rules, 0, 20.0, None)
