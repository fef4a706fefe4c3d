"""Every bundle that ships with the project opens and runs as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.inference.bundle import load_bundle
from runtime.inference.network import Network
from tests.runtime.inference.tiny_networks import FixedSignals, frameset_of, noise

MODELS = Path(runtime.__file__).parent / "models"
BUNDLES = sorted(path.parent for path in MODELS.glob("*/model.yaml"))


@pytest.mark.parametrize("directory", BUNDLES, ids=lambda path: path.name)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bundled_model_runs_with_eight_cameras_and_with_fewer(directory: Path, precision: str) -> None:
    for count in (8, 5):
        network = Network.open(directory, [f"camera_{index}" for index in range(count)], precision=precision)
        spec = network.image_spec
        frameset = frameset_of(noise(count, 0, spec.height, spec.width))
        prediction = network.predict(frameset, None, FixedSignals(vehicle__speed_mps=20.0))
        assert len(prediction.detections) <= 100 * count
        assert prediction.control is not None
        assert prediction.control.accel_mps2 is not None
        assert all(np.isfinite(array).all() for array in prediction.heads.values())
        network.close()


@pytest.mark.parametrize("directory", BUNDLES, ids=lambda path: path.name)
def test_int8_and_fp32_of_a_bundled_model_say_nearly_the_same(directory: Path) -> None:
    cameras = [f"camera_{index}" for index in range(8)]
    if "cpu_int8" not in load_bundle(directory).graphs:
        pytest.skip(f"{directory.name} has no INT8 file")
    heads = []
    for precision in ("fp32", "int8"):
        network = Network.open(directory, cameras, precision=precision)
        spec = network.image_spec
        smooth = np.repeat(np.repeat(noise(8, 1, spec.height // 32, spec.width // 32), 32, axis=2), 32, axis=3)
        heads.append(network.predict(frameset_of(smooth), None, None).heads)
    for name, exact in heads[0].items():
        a, b = exact.astype(np.float64).ravel(), heads[1][name].astype(np.float64).ravel()
        assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.95, name
