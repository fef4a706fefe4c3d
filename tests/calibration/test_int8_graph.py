from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import ModelProto
from small_networks import random_feeds, residual_network

from calibration.int8.graph import MINIMUM_OPSET, Graph, opset_of, prepare


def outputs_of(model: ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def test_preparing_folds_batch_norm_without_changing_the_result() -> None:
    model = residual_network(with_norm=True)
    prepared = prepare(model)
    feed = random_feeds(1)[0]
    assert "BatchNormalization" not in [node.op_type for node in prepared.graph.node]
    np.testing.assert_allclose(outputs_of(prepared, feed), outputs_of(model, feed), atol=1e-5)


def test_preparing_raises_an_old_opset_and_keeps_tensor_names() -> None:
    model = residual_network(opset=11)
    prepared = prepare(model)
    assert opset_of(prepared) == MINIMUM_OPSET
    assert {"pixels", "a_relu", "pooled", "sum"} <= set(Graph(prepared).producer)
    feed = random_feeds(1)[0]
    np.testing.assert_allclose(outputs_of(prepared, feed), outputs_of(model, feed), atol=1e-6)


def test_preparing_twice_changes_nothing_more() -> None:
    once = prepare(residual_network(with_norm=True))
    assert prepare(once).graph.node == once.graph.node


def test_a_constant_node_becomes_a_constant_of_the_graph() -> None:
    graph = Graph(prepare(residual_network()))
    assert "factor" in graph.constants
    assert graph.activations(graph.producer["pixels"]) == ["cast"]
