"""Small learned triggers for tests, and the rules that name them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


@dataclass(frozen=True)
class AQuery:
    vector: Sequence[float]
    model: str = "tiny"
    camera: str | None = None


@dataclass(frozen=True)
class AClassifier:
    path: Path
    sha256: str


@dataclass(frozen=True)
class SomeRules:
    queries: Mapping[str, AQuery] = field(default_factory=dict)
    classifiers: Mapping[str, AClassifier] = field(default_factory=dict)


def logistic(
    weights: np.ndarray, bias: float = 0.0, rows: int | str = 1, outputs: Sequence[int | str] | None = None
) -> onnx.ModelProto:
    """sigmoid(x @ weights + bias) for x [rows, len(weights)]."""
    stored = [
        onnx.numpy_helper.from_array(np.asarray(weights, np.float32).reshape(-1, 1), "weights"),
        onnx.numpy_helper.from_array(np.array([bias], np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "weights", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    return graph_model(nodes, [rows, len(weights)], [rows, 1] if outputs is None else outputs, stored)


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[int | str],
    outputs: Sequence[int | str],
    stored: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
    element: int = TensorProto.FLOAT,
    more_opsets: Sequence[onnx.OperatorSetIdProto] = (),
) -> onnx.ModelProto:
    """A model `x` -> `probability` of these nodes."""
    graph = helper.make_graph(
        list(nodes),
        "classifier",
        [helper.make_tensor_value_info("x", element, list(inputs))],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, list(outputs))],
        list(stored),
    )
    opsets = [helper.make_opsetid("", opset), *more_opsets]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def saved(path: Path, model: onnx.ModelProto | bytes) -> AClassifier:
    """Write the file and name it as rules do."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    path.write_bytes(content)
    return AClassifier(path, hashlib.sha256(content).hexdigest())
