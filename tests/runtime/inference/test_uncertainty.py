"""How sure a network is, as numbers that compare across heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.inference.heads.uncertainty import detection_entropy, entropy_and_margin
from runtime.inference.network import Network
from tests.runtime.inference.tiny_networks import fixed_network, frameset_of, noise, write_bundle


@pytest.mark.parametrize("classes", [2, 4, 100])
def test_knowing_nothing_is_one_and_certainty_is_zero_whatever_the_number_of_classes(classes: int) -> None:
    even = np.full(classes, 1.0 / classes)
    sure = np.eye(classes)[0]
    assert entropy_and_margin(even) == (1.0, 0.0)
    assert entropy_and_margin(sure) == (0.0, 1.0)


def test_the_margin_is_the_lead_of_the_best_over_the_second() -> None:
    measured = entropy_and_margin(np.array([0.2, 0.5, 0.3]))
    assert measured is not None
    assert measured[1] == pytest.approx(0.2)
    assert measured[0] == pytest.approx(0.9372, abs=1e-4)  # 1.0297 nats of ln 3


def test_sigmoids_that_do_not_add_up_to_one_are_taken_as_shares() -> None:
    assert entropy_and_margin(np.array([0.9, 0.9])) == (1.0, 0.0)
    assert entropy_and_margin(np.array([0.0, 0.0])) is None
    assert entropy_and_margin(np.array([-0.1, 1.1])) is None


def test_the_entropy_of_detections_is_the_mean_over_their_scores_and_unknown_without_any() -> None:
    assert detection_entropy(np.array([0.5, 0.5], np.float32)) == 1.0
    assert detection_entropy(np.array([0.5, 1.0], np.float32)) == 0.5
    assert detection_entropy(np.array([1.0, 0.0, np.nan], np.float32)) == 0.0
    assert detection_entropy(np.zeros(0, np.float32)) is None


def _detector(directory: Path, score: float) -> Path:
    heatmap, box = np.zeros((1, 1, 4, 4), np.float32), np.full((1, 4, 4, 4), 1.0, np.float32)
    heatmap[0, 0, 1, 1] = score
    manifest = {
        "name": "one_object",
        "version": "1",
        "licence": "Apache-2.0",
        "source": "made by a test",
        "inputs": [{"name": "images", "kind": "images", "shape": [1, 3, 32, 32], "dtype": "uint8"}],
        "heads": [
            {
                "name": "detections",
                "decoder": "hydra_detections",
                "outputs": {"heatmap": "heatmap", "box": "box"},
                "classes": ["car"],
                "score_threshold": 0.25,
            }
        ],
    }
    return write_bundle(
        directory, manifest, {"fp32": fixed_network({"heatmap": heatmap, "box": box}, [1, 3, 32, 32], "uint8")}
    )


def test_every_network_with_detections_publishes_how_unsure_it_is_of_them(tmp_path: Path) -> None:
    unsure, empty = (Network.open(_detector(tmp_path / str(score), score), ["camera_0"]) for score in (0.5, 0.1))
    frameset = frameset_of(noise(1, 0, 32, 32))
    assert unsure.predict(frameset, None, None).scalars == {"detection_entropy": 1.0}
    assert empty.predict(frameset, None, None).scalars == {}
