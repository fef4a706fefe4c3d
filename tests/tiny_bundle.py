"""A small real network for tests of composed parts: channel means of every camera and the speed, as a control head."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import yaml
from onnx import TensorProto, helper

HEIGHT, WIDTH = 24, 32


def write_tiny_bundle(folder: Path, cameras: int, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write the bundle for so many cameras and images of that size; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = _network(cameras, height, width).SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    manifest = {
        "name": "tiny",
        "version": "1",
        "licence": "Apache-2.0",
        "source": "made by a test",
        "inputs": [
            {"name": "images", "kind": "images", "shape": [cameras, 3, height, width], "dtype": "uint8"},
            {"name": "speed_mps", "kind": "signal", "signal": "vehicle.speed_mps", "shape": [1, 1], "unknown": 0.0},
        ],
        "heads": [{"name": "control", "decoder": "control", "outputs": {"control": "control"}}],
        "files": {"fp32": {"path": "model.onnx", "sha256": hashlib.sha256(content).hexdigest()}},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder


def _network(cameras: int, height: int, width: int) -> onnx.ModelProto:
    """`control` [1, 4]: mean red, green and blue of all cameras, and the speed."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["colours"], axes=[0, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["colours", "first"], ["row"]),
        helper.make_node("Concat", ["row", "speed_mps"], ["control"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info("images", TensorProto.UINT8, [cameras, 3, height, width]),
        helper.make_tensor_value_info("speed_mps", TensorProto.FLOAT, [1, 1]),
    ]
    outputs = [helper.make_tensor_value_info("control", TensorProto.FLOAT, [1, 4])]
    first = helper.make_tensor("first", TensorProto.INT64, [1], [0])
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [first])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model
