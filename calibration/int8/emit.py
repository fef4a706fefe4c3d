"""Writes `model.cpu.qdq.onnx`: the FP32 graph with quantise/dequantise pairs, for ONNX Runtime on x86-64 and Arm CPUs.

Activations are uint8 with a zero point, weights int8 per output channel without one, biases int32 with the product of
both scales: what ONNX Runtime fuses into QLinearConv and runs with VNNI, AMX or dot-product instructions. (Processors
without VNNI add pairs of 16-bit products with saturation; `weight_bits=7` avoids that at the price of precision.)

The result has the same inputs and outputs as the FP32 file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.int8.graph import Graph, attribute
from calibration.int8.plan import QuantizationPlan
from calibration.int8.ranges import Range, RangesError

#: A scale smaller than this would make bias integers overflow; such a tensor is constant zero.
SMALLEST_SCALE = 1e-8


class _Emitter:
    """Builds the quantised graph node by node."""

    def __init__(self, graph: Graph, plan: QuantizationPlan, ranges: Mapping[str, Range], weight_bits: int) -> None:
        self.graph = graph
        self.plan = plan
        self.layers = frozenset(plan.layers)
        self.weight_limit = 2 ** (weight_bits - 1) - 1
        self.scales = _activation_scales(plan, ranges)
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}
        self.renamed: dict[str, str] = {}

    def run(self) -> None:
        """Emit every node in order, each quantised tensor's pair right behind its producer."""
        replaced = {name for item in self.plan.inputs for name in item.replaced}
        for item in self.plan.inputs:
            self._dequantize(item.graph_input, item.tensor)
        for value in self.graph.model.graph.input:
            if value.name in self.scales:
                self._pair(value.name)
        for node in self.graph.nodes:
            if node.output[0] in replaced:
                continue
            self._emit(node)
            for name in node.output:
                if name in self.scales:
                    self._pair(name)

    def _emit(self, node: NodeProto) -> None:
        copy = NodeProto.FromString(node.SerializeToString())
        if node.output[0] in self.layers:
            self._quantize_weights(copy)
        for position, name in enumerate(copy.input):
            copy.input[position] = self.renamed.get(name, name)
        self.nodes.append(copy)

    def _pair(self, tensor: str) -> None:
        quantized = f"{tensor}_quantized"
        parameters = self._parameters(tensor)
        self.nodes.append(helper.make_node("QuantizeLinear", [tensor, *parameters], [quantized], f"{tensor}_quantize"))
        self._dequantize(quantized, tensor)

    def _dequantize(self, quantized: str, tensor: str) -> None:
        result = f"{tensor}_dequantized"
        parameters = self._parameters(tensor)
        self.nodes.append(
            helper.make_node("DequantizeLinear", [quantized, *parameters], [result], f"{tensor}_dequantize")
        )
        self.renamed[tensor] = result

    def _parameters(self, tensor: str) -> tuple[str, str]:
        scale, zero_point = self.scales[tensor]
        names = (f"{tensor}_scale", f"{tensor}_zero_point")
        self.constants[names[0]] = np.array(scale, np.float32)
        self.constants[names[1]] = np.array(zero_point, np.uint8)
        return names

    def _quantize_weights(self, layer: NodeProto) -> None:
        """Replace a layer's weight and bias inputs by dequantised integers."""
        weight = self.graph.constants[layer.input[1]].astype(np.float32)
        axis = output_axis(layer)
        input_scale = self.scales[layer.input[0]][0]
        others = tuple(index for index in range(weight.ndim) if index != axis)
        scale = np.maximum(np.abs(weight).max(axis=others) / self.weight_limit, SMALLEST_SCALE).astype(np.float32)
        steps = np.rint(weight / np.expand_dims(scale, others))
        integers = np.clip(steps, -self.weight_limit, self.weight_limit).astype(np.int8)
        key = layer.output[0]
        inputs = [layer.input[0], self._constant_pair(f"{key}_weight", integers, scale, axis)]
        if len(layer.input) > 2 and layer.input[2]:
            bias = self.graph.constants[layer.input[2]].astype(np.float64)
            bias_scale = (scale.astype(np.float64) * input_scale).astype(np.float32)
            limit = np.iinfo(np.int32)
            bias_steps = np.broadcast_to(np.rint(bias.reshape(-1) / bias_scale), scale.shape)
            bias_integers = np.clip(bias_steps, limit.min, limit.max).astype(np.int32)
            inputs.append(self._constant_pair(f"{key}_bias", bias_integers, bias_scale, 0))
        del layer.input[:]
        layer.input.extend(inputs)

    def _constant_pair(self, name: str, integers: NDArray[np.generic], scale: NDArray[np.float32], axis: int) -> str:
        self.constants[f"{name}_quantized"] = integers
        self.constants[f"{name}_scale"] = scale
        self.constants[f"{name}_zero_point"] = np.zeros(scale.shape, integers.dtype)
        inputs = [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"]
        self.nodes.append(
            helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantized"], f"{name}_dequantize", axis=axis)
        )
        return f"{name}_dequantized"


def output_axis(layer: NodeProto) -> int:
    """The axis of a layer's weights that counts its output channels."""
    return 0 if layer.op_type == "Conv" or attribute(layer, "transB", 0) else 1


def emit_cpu_qdq(graph: Graph, plan: QuantizationPlan, ranges: Mapping[str, Range], weight_bits: int = 8) -> ModelProto:
    """The quantised model for ONNX Runtime's CPU kernels. Raises `RangesError` when a tensor's range is missing."""
    missing = [name for name in plan.measured if name not in ranges]
    if missing:
        some = ", ".join(missing[:5])
        raise RangesError(f"no range for {some} ({len(missing)} tensors); the ranges belong to another model")
    emitter = _Emitter(graph, plan, ranges, weight_bits)
    emitter.run()
    model = _assemble(graph, emitter)
    onnx.checker.check_model(model)
    return model


def _activation_scales(plan: QuantizationPlan, ranges: Mapping[str, Range]) -> dict[str, tuple[float, int]]:
    scales = {item.tensor: (item.scale, 0) for item in plan.inputs}
    for name in plan.measured:
        scales[name] = scale_and_zero_point(ranges[name])
    scales.update({name: scales[source] for name, source in plan.shared.items()})
    return scales


def scale_and_zero_point(span: Range) -> tuple[float, int]:
    """uint8 scale and zero point that map `span` onto 0..255 with zero exact."""
    scale = max((span.high - span.low) / 255.0, SMALLEST_SCALE)
    return float(np.float32(scale)), int(np.clip(np.rint(-span.low / scale), 0, 255))


def _assemble(graph: Graph, emitter: _Emitter) -> ModelProto:
    """Put the new nodes and constants into a copy of the model and restore the names of quantised graph outputs."""
    model = ModelProto()
    model.CopyFrom(graph.model)
    nodes = emitter.nodes
    read = {name for node in nodes for name in node.input} | graph.outputs
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    constants += [numpy_helper.from_array(np.asarray(value), name) for name, value in emitter.constants.items()]
    node_copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    constant_copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in constants]
    del model.graph.node[:]
    model.graph.node.extend(node_copies)
    del model.graph.initializer[:]
    model.graph.initializer.extend(constant_copies)
    del model.graph.value_info[:]
    model.doc_string = "INT8 (QDQ) for ONNX Runtime on CPUs; emitted by shadowrig calibrate int8"
    return model
