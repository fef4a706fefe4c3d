"""Every `model.yaml` of deploy/MODELS.md is loaded as it stands, with a real graph behind it, and run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper, numpy_helper

from runtime.inference.bundle import load_bundle
from runtime.inference.calibration_feed import stand_in_cameras, stand_in_rig
from runtime.inference.network import Network
from tests.runtime.inference.input_networks import build
from tests.runtime.inference.tiny_networks import frameset_of, noise, write_bundle

TEXT = (Path(__file__).parents[3] / "deploy" / "MODELS.md").read_text(encoding="utf-8")
EXAMPLES = {yaml.safe_load(block)["name"]: block for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)}


def _value(name: str, dtype: str, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _graph(manifest: Mapping[str, Any]) -> onnx.ModelProto:
    """Takes every declared input; states are handed on, and every other output says the same always."""
    inputs = [_value(entry["name"], entry.get("dtype", "float32"), entry["shape"]) for entry in manifest["inputs"]]
    states = [entry for entry in manifest["inputs"] if entry["kind"] == "state"]
    nodes = [helper.make_node("Identity", [entry["name"]], [entry["output"]]) for entry in states]
    outputs = [_value(entry["output"], entry["dtype"], entry["shape"]) for entry in states]
    images = [entry for entry in manifest["inputs"] if entry["kind"] == "images"]
    rows = len(images) if len(images) > 1 else images[0]["shape"][0]
    constants = []
    for head in manifest["heads"]:
        for name in head["outputs"].values():
            shape = (1, 4) if head["decoder"] == "control" else (rows, 5)
            constants.append(numpy_helper.from_array(np.ones(shape, np.float32), f"{name}_value"))
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
            outputs.append(_value(name, "float32", list(shape)))
    return build(nodes, inputs, outputs, constants)


def test_the_examples_are_there() -> None:
    assert sorted(EXAMPLES) == ["birds_eye", "detector", "four_eyes", "remembers", "surround"]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_loaded_and_runs(name: str, tmp_path: Path) -> None:
    manifest = yaml.safe_load(EXAMPLES[name])
    assert list(manifest.pop("files")) == ["fp32"]
    directory = write_bundle(tmp_path / name, manifest, {"fp32": _graph(manifest)})
    cameras = stand_in_cameras(load_bundle(directory).manifest)
    network = Network.open(directory, cameras, rig=stand_in_rig(cameras))
    spec = network.image_spec
    frameset = frameset_of(noise(len(cameras), 0, spec.height, spec.width))
    frameset.cameras = cameras
    for _ in range(3):
        assert network.predict(frameset, None, None).infer_ns > 0
    network.close()
