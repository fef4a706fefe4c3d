from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto
from small_networks import random_feeds, residual_network
from trt_networks import trt_file

from calibration.int8.graph import (
    MINIMUM_OPSET,
    Graph,
    GraphError,
    fix_sizes,
    opset_of,
    preparation_notes,
    prepare,
)
from calibration.int8.trt_lint import lint_trt


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


def with_open_batch(batch: str) -> ModelProto:
    model = residual_network()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = batch
    return model


def test_sizes_that_the_export_left_open_are_fixed_everywhere_for_tensorrt() -> None:
    model = with_open_batch("batch")
    fixed = fix_sizes(prepare(model), {"images": (2, 3, 32, 32)})
    assert [dim.dim_value for dim in fixed.graph.output[0].type.tensor_type.shape.dim][:2] == [2, 2]
    assert "fixed sizes that the export left open as model.yaml has them: batch" in preparation_notes(model, fixed)
    assert lint_trt(trt_file(fixed)) == []
    feed = random_feeds(1)[0]
    np.testing.assert_array_equal(outputs_of(fixed, feed), outputs_of(model, feed))


def test_two_sizes_of_one_name_are_refused() -> None:
    model = with_open_batch("n")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "n"
    with pytest.raises(GraphError, match=r"size 'n' is 2 and 32; correct model\.yaml"):
        fix_sizes(prepare(model), {"images": (2, 3, 32, 32)})


def test_a_file_without_an_operator_set_is_refused_by_name() -> None:
    model = residual_network()
    del model.opset_import[:]
    with pytest.raises(GraphError, match="names no version of ONNX's operators"):
        prepare(model)


def test_what_onnx_cannot_make_sense_of_is_a_graph_error() -> None:
    model = residual_network()
    model.graph.node[-1].op_type = "NoSuchOperator"
    with pytest.raises(GraphError, match="NoSuchOperator"):
        prepare(model)
