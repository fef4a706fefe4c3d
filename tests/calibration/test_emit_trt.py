"""What the file for TensorRT holds, and that it says what the network and the CPU file say."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper
from small_networks import random_feeds, residual_network
from trt_networks import measured, shortcut_network, transposed_network, trt_file

from calibration.int8.emit_trt import emit_trt_qdq, symmetric_scale
from calibration.int8.emulation import emulate
from calibration.int8.graph import Graph, attribute
from calibration.int8.plan import make_plan
from calibration.int8.ranges import Range, RangesError
from calibration.int8.trt_lint import lint_trt
from calibration.int8.trt_plan import make_trt_plan, trt_tensors

NETWORKS = {"residual": residual_network, "shortcut": shortcut_network, "transposed": transposed_network}
BODIES = ("fp32", "fp16")


def interface(model: ModelProto) -> list[tuple[str, int, list[int]]]:
    values = [*model.graph.input, *model.graph.output]
    shapes = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in values]
    return [(v.name, v.type.tensor_type.elem_type, shape) for v, shape in zip(values, shapes, strict=True)]


def outputs_of(model: ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("body", BODIES)
def test_it_says_what_the_network_says_through_the_same_inputs_and_outputs(name: str, body: str) -> None:
    model = NETWORKS[name]()
    quantized = trt_file(model, body)
    assert interface(quantized) == interface(model)
    for feed in random_feeds(2, seed=5):
        for exact, emulated in zip(outputs_of(model, feed), emulate(quantized, feed).values(), strict=True):
            assert np.corrcoef(exact.ravel(), emulated.ravel())[0, 1] > 0.998


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("body", BODIES)
def test_it_holds_nothing_that_the_linter_refuses(name: str, body: str) -> None:
    assert lint_trt(trt_file(NETWORKS[name](), body)) == []


def test_biases_stay_in_floating_point_and_weights_have_a_scale_for_each_output_channel() -> None:
    model = trt_file(transposed_network())
    graph = Graph(model)
    for node, axis, channels in (("a", 0, 8),):
        conv = graph.producer[node]
        pair = graph.producer[conv.input[1]]
        assert (attribute(pair, "axis"), graph.constants[pair.input[1]].shape) == (axis, (channels,))
        assert graph.constants[conv.input[2]].dtype == np.float32


def test_a_transposed_convolution_is_quantised_along_its_second_axis() -> None:
    graph, plan, ranges = measured(transposed_network())
    if "up" not in plan.convolutions:  # the planner may leave it in float; the emitter must know it all the same
        plan.convolutions.append("up")
    model = emit_trt_qdq(graph, plan, ranges | {"pooled": ranges.get("pooled", ranges["a_relu"])})
    emitted = Graph(model)
    pair = emitted.producer[emitted.producer["up"].input[1]]
    assert (attribute(pair, "axis"), emitted.constants[pair.input[1]].shape) == (1, (6,))
    assert lint_trt(model) == []


def test_the_shortcut_of_a_residual_addition_is_quantised_and_the_convolution_stays_bare() -> None:
    graph, plan, _ranges = measured(shortcut_network())
    assert "a_relu" in make_trt_plan(graph, plan).pairs
    emitted = Graph(trt_file(shortcut_network()))
    assert list(emitted.producer["sum"].input) == ["b", "a_relu_dequantized"]
    assert list(emitted.producer["sum_relu"].input) == ["sum"]  # no pair between addition and ReLU


def test_a_convolution_left_in_float_reads_the_float_value_of_a_tensor_that_others_read_quantised() -> None:
    graph, _plan, ranges = measured(shortcut_network())
    plan = make_plan(graph, frozenset({"b"}))
    model = emit_trt_qdq(graph, plan, ranges)
    emitted = Graph(model)
    assert emitted.producer["b"].input[0] == "a_relu"
    assert list(emitted.producer["sum"].input) == ["b_dequantized", "a_relu_dequantized"]
    assert lint_trt(model) == []


def test_no_pair_stands_between_a_convolution_and_its_relu() -> None:
    for build in NETWORKS.values():
        graph = Graph(trt_file(build()))
        for relu in (node for node in graph.nodes if node.op_type == "Relu"):
            producer = graph.producer[relu.input[0]]
            assert producer.op_type in ("Conv", "Add"), producer.op_type


def test_pooling_between_int8_convolutions_runs_on_bytes_of_one_scale() -> None:
    graph = Graph(trt_file(residual_network()))
    pool = graph.producer["pooled"]
    before, behind = graph.producer[pool.input[0]], graph.consumers["pooled"][0]
    assert (before.op_type, behind.op_type) == ("DequantizeLinear", "QuantizeLinear")
    assert graph.constants[before.input[1]] == graph.constants[behind.input[1]]


def test_tensors_beyond_the_cpu_plan_are_named_and_a_missing_range_is_refused() -> None:
    graph, plan, ranges = measured(residual_network())
    wanted = {*plan.measured, *trt_tensors(graph, plan)}
    assert wanted <= set(ranges)
    name = next(iter(ranges))
    with pytest.raises(RangesError, match=name):
        emit_trt_qdq(graph, plan, {key: value for key, value in ranges.items() if key != name})


def test_the_scale_is_symmetric() -> None:
    assert symmetric_scale(Range(-2.54, 1.0, -3.0, 1.0)) == pytest.approx(0.02)
    assert symmetric_scale(Range(0.0, 0.0, 0.0, 0.0)) == 1.0


def test_a_half_body_stores_half_weights_and_half_scales() -> None:
    model = trt_file(residual_network(), "fp16")
    kinds = {tensor.name: numpy_helper.to_array(tensor).dtype for tensor in model.graph.initializer}
    assert kinds["a.weight"] == kinds["a.weight_scale"] == kinds["a.bias"] == np.float16
    onnx.checker.check_model(model, full_check=True)


def test_a_constant_that_half_precision_cannot_hold_keeps_its_node_in_single() -> None:
    notes: list[str] = []
    model = trt_file(transposed_network(epsilon=1e-12), "fp16", notes)
    assert any("guard" in note and "1e-12" in note for note in notes)
    guard = next(node for node in model.graph.node if node.name == "guard")
    constants = Graph(model).constants
    assert next(constants[name] for name in guard.input if name in constants).dtype == np.float32


def test_a_tensor_too_large_for_half_precision_is_refused_by_name() -> None:
    graph, plan, ranges = measured(residual_network())
    wide = Range(0.0, 50_000.0, 0.0, 50_000.0)
    with pytest.raises(RangesError, match=r"a_relu .*50000.*FP32 body"):
        emit_trt_qdq(graph, plan, ranges | {"a_relu": wide}, "fp16")


def test_a_dead_channel_gets_a_scale_that_the_body_holds_and_a_note() -> None:
    model = residual_network()
    for tensor in model.graph.initializer:
        if tensor.name == "a.weight":
            weight = numpy_helper.to_array(tensor).copy()
            weight[3] = 1e-30
            tensor.CopyFrom(numpy_helper.from_array(weight, "a.weight"))
    for body in BODIES:
        notes: list[str] = []
        assert lint_trt(trt_file(model, body, notes)) == []
        assert any("Conv a (1 of 8" in note for note in notes)
