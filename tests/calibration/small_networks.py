"""Small ONNX networks and bundles for the calibration tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

SIDE = 32


def _conv_weights(
    generator: np.random.Generator, name: str, inputs: int, outputs: int, side: int = 3
) -> list[TensorProto]:
    weight = generator.normal(0, 0.3, (outputs, inputs, side, side)).astype(np.float32)
    bias = generator.normal(0, 0.1, outputs).astype(np.float32)
    return [numpy_helper.from_array(weight, f"{name}.weight"), numpy_helper.from_array(bias, f"{name}.bias")]


def _conv(name: str, source: str, side: int = 3) -> onnx.NodeProto:
    inputs = [source, f"{name}.weight", f"{name}.bias"]
    return helper.make_node("Conv", inputs, [name], name=name, kernel_shape=[side, side], pads=[side // 2] * 4)


def residual_network(batch: int = 2, with_norm: bool = False, opset: int = 17) -> ModelProto:
    """uint8 images -> Cast, Mul -> conv a, ReLU -> pool -> conv b, ReLU, + pool -> conv out (final) -> Sigmoid."""
    generator = np.random.default_rng(7)
    scale = helper.make_node("Constant", [], ["factor"], value=numpy_helper.from_array(np.array(1 / 255, np.float32)))
    nodes = [
        scale,
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "factor"], ["pixels"]),
        _conv("a", "pixels"),
    ]
    constants = _conv_weights(generator, "a", 3, 8) + _conv_weights(generator, "b", 8, 8)
    constants += _conv_weights(generator, "out", 8, 2, 1)
    behind_a = "a"
    if with_norm:
        values = {"gamma": (0.5, 2.0), "beta": (-0.5, 0.5), "mean": (-0.3, 0.3), "variance": (0.5, 2.0)}
        constants += [
            numpy_helper.from_array(generator.uniform(*span, 8).astype(np.float32), name)
            for name, span in values.items()
        ]
        nodes.append(helper.make_node("BatchNormalization", ["a", *values], ["normed"]))
        behind_a = "normed"
    nodes += [
        helper.make_node("Relu", [behind_a], ["a_relu"]),
        helper.make_node("MaxPool", ["a_relu"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        _conv("b", "pooled"),
        helper.make_node("Relu", ["b"], ["b_relu"]),
        helper.make_node("Add", ["b_relu", "pooled"], ["sum"]),
        _conv("out", "sum", 1),
        helper.make_node("Sigmoid", ["out"], ["mask"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, 3, SIDE, SIDE])
    mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [batch, 2, SIDE // 2, SIDE // 2])
    graph = helper.make_graph(nodes, "residual", [images], [mask], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def random_feeds(count: int, batch: int = 2, seed: int = 0) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    shape = (batch, 3, SIDE, SIDE)
    return [{"images": generator.integers(0, 256, shape).astype(np.uint8)} for _ in range(count)]


def write_bundle(directory: Path, model: ModelProto, batch: int = 2) -> Path:
    """A bundle of `residual_network`, its manifest written by hand and commented."""
    directory.mkdir(parents=True)
    onnx.save(model, str(directory / "model.fp32.onnx"))
    digest = hashlib.sha256((directory / "model.fp32.onnx").read_bytes()).hexdigest()
    (directory / "model.yaml").write_text(
        f"""# a network of the tests
name: residual
version: "1"
licence: Apache-2.0
source: tests
inputs:
  - {{name: images, kind: images, shape: [{batch}, 3, {SIDE}, {SIDE}], dtype: uint8}}
files:   # what lies beside
  fp32: {{path: model.fp32.onnx, sha256: {digest}}}

# masks of two classes
heads:
  - {{name: lanes, decoder: segmentation, outputs: {{mask: mask}}, classes: [line, road]}}
"""
    )
    return directory
