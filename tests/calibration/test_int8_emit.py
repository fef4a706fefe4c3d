from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto
from small_networks import random_feeds, residual_network

from calibration.int8.emit import emit_cpu_qdq, scale_and_zero_point
from calibration.int8.graph import Graph, prepare
from calibration.int8.plan import make_plan
from calibration.int8.ranges import Range, RangesError, collect_ranges


def quantised(model: ModelProto) -> ModelProto:
    prepared = prepare(model)
    graph = Graph(prepared)
    plan = make_plan(graph)
    return emit_cpu_qdq(graph, plan, collect_ranges(prepared, plan.measured, random_feeds(4), "minmax", 99.99))


def run(model: ModelProto, feed: dict[str, np.ndarray], optimised: Path | None = None) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def test_int8_answers_like_fp32_on_samples_it_has_not_seen() -> None:
    model = residual_network()
    feed = random_feeds(1, seed=99)[0]
    assert np.abs(run(quantised(model), feed) - run(model, feed)).max() < 0.02


def test_onnx_runtime_fuses_every_planned_convolution_and_the_addition(tmp_path: Path) -> None:
    run(quantised(residual_network()), random_feeds(1)[0], tmp_path / "optimised.onnx")
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node]
    assert kinds.count("QLinearConv") == 2
    assert kinds.count("QLinearAdd") == 1
    assert "QuantizeLinear" not in kinds  # the image enters as it is, and nothing is quantised twice


def test_inputs_and_outputs_stay_what_they_were() -> None:
    model, int8 = residual_network(), quantised(residual_network())
    assert int8.graph.input == model.graph.input
    assert int8.graph.output == model.graph.output


def test_weights_are_int8_by_channel_and_biases_int32() -> None:
    types = {tensor.name: tensor for tensor in quantised(residual_network()).graph.initializer}
    assert types["a_weight_quantized"].data_type == onnx.TensorProto.INT8
    assert list(types["a_weight_scale"].dims) == [8]
    assert types["a_bias_quantized"].data_type == onnx.TensorProto.INT32
    assert "a.weight" not in types  # the floats that nobody reads any more are gone
    assert "out.weight" in types


def test_a_missing_range_is_named() -> None:
    graph = Graph(prepare(residual_network()))
    with pytest.raises(RangesError, match="a_relu"):
        emit_cpu_qdq(graph, make_plan(graph), {})


@pytest.mark.parametrize(
    ("low", "high", "zero_point"), [(0.0, 2.55, 0), (-2.55, 0.0, 255), (-1.0, 1.0, 128), (0.0, 0.0, 0)]
)
def test_zero_is_exact_in_every_range(low: float, high: float, zero_point: int) -> None:
    scale, found = scale_and_zero_point(Range(low, high, low, high))
    assert found == zero_point
    assert scale > 0
