"""Networks and QDQ files for the tests of TensorRT's file."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from small_networks import SIDE, _conv, _conv_weights, random_feeds

from calibration.int8.emit_trt import Body, emit_trt_qdq
from calibration.int8.graph import Graph, prepare
from calibration.int8.plan import QuantizationPlan, make_plan
from calibration.int8.ranges import Range, collect_ranges
from calibration.int8.trt_plan import trt_tensors


def measured(model: ModelProto, count: int = 3) -> tuple[Graph, QuantizationPlan, dict[str, Range]]:
    """A prepared network with its plan and the ranges that both files need."""
    prepared = prepare(model)
    graph = Graph(prepared)
    plan = make_plan(graph)
    tensors = [*plan.measured, *trt_tensors(graph, plan)]
    return graph, plan, collect_ranges(prepared, tensors, random_feeds(count), "minmax", 99.99)


def trt_file(model: ModelProto, body: Body = "fp32", notes: list[str] | None = None) -> ModelProto:
    return emit_trt_qdq(*measured(model), body, notes)


def shortcut_network() -> ModelProto:
    """A residual block as ResNet has it: conv a, ReLU -> conv b + shortcut, ReLU -> conv c, ReLU -> conv out."""
    generator = np.random.default_rng(11)
    constants = _conv_weights(generator, "a", 3, 8) + _conv_weights(generator, "b", 8, 8)
    constants += _conv_weights(generator, "c", 8, 8) + _conv_weights(generator, "out", 8, 2, 1)
    constants.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "factor"))
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "factor"], ["pixels"]),
        _conv("a", "pixels"),
        helper.make_node("Relu", ["a"], ["a_relu"]),
        _conv("b", "a_relu"),
        helper.make_node("Add", ["b", "a_relu"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["sum_relu"]),
        _conv("c", "sum_relu"),
        helper.make_node("Relu", ["c"], ["c_relu"]),
        _conv("out", "c_relu", 1),
    ]
    return _model(nodes, constants, "out", [2, 2, SIDE, SIDE])


def transposed_network(epsilon: float = 0.0) -> ModelProto:
    """A network that goes down and up again: conv a, ReLU, pool -> transposed conv up -> conv out -> Max `epsilon`."""
    generator = np.random.default_rng(12)
    constants = _conv_weights(generator, "a", 3, 8) + _conv_weights(generator, "out", 6, 2, 1)
    weight = generator.normal(0, 0.3, (8, 6, 2, 2)).astype(np.float32)
    constants += [numpy_helper.from_array(weight, "up.weight")]
    constants += [numpy_helper.from_array(np.array(1 / 255, np.float32), "factor")]
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "factor"], ["pixels"]),
        _conv("a", "pixels"),
        helper.make_node("Relu", ["a"], ["a_relu"]),
        helper.make_node("MaxPool", ["a_relu"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["pooled", "up.weight"], ["up"], "up", kernel_shape=[2, 2], strides=[2, 2]),
        _conv("out", "up", 1),
    ]
    result = "out"
    if epsilon:
        constants.append(numpy_helper.from_array(np.array(epsilon, np.float32), "epsilon"))
        nodes.append(helper.make_node("Max", ["out", "epsilon"], ["bounded"], "guard"))
        result = "bounded"
    return _model(nodes, constants, result, [2, 2, SIDE, SIDE])


def _model(nodes: list[onnx.NodeProto], constants: list[TensorProto], result: str, shape: list[int]) -> ModelProto:
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [2, 3, SIDE, SIDE])
    output = helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "network", [images], [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
