"""Writes `model.trt.qdq.onnx` and `model.trt.fp16.qdq.onnx`: the FP32 graph with pairs as TensorRT wants them.

Activations are symmetric int8 per tensor, weights symmetric int8 per output channel, every zero point is 0, biases stay
in floating point (TensorRT refuses an int32 bias behind a DequantizeLinear). Weights are stored in floating point with
QuantizeLinear and DequantizeLinear behind them: the only form that TensorRT 8.6, 10 and 11 all take; TensorRT folds it
into int8 weights while it builds. The ranges are those of `ranges.json`: scale = max(|low|, |high|) / 127.

The result has the same inputs and outputs, names, shapes and types, as the FP32 file. A uint8 image input stays one: it
goes through its Cast, which is how TensorRT takes uint8.

`body="fp16"` computes in FP16 what is not INT8 (see fp16_body.py). What had to be bent for that, and every clamped
scale, is said in `notes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.int8.emit import SMALLEST_SCALE
from calibration.int8.fp16_body import SMALLEST_FP16, check_ranges_fit, to_fp16_body
from calibration.int8.graph import Graph, GraphError, attribute
from calibration.int8.plan import QuantizationPlan
from calibration.int8.ranges import Range, RangesError
from calibration.int8.trt_plan import TrtPlan, make_trt_plan

INT8_LIMIT = 127
#: A tensor that never leaves zero has no scale of its own; any will do.
SCALE_OF_ZERO = 1.0
#: Axis of the output channels in the weights.
OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}

Body = Literal["fp32", "fp16"]


def emit_trt_qdq(
    graph: Graph,
    plan: QuantizationPlan,
    ranges: Mapping[str, Range],
    body: Body = "fp32",
    notes: list[str] | None = None,
) -> ModelProto:
    """The quantised model for TensorRT; `notes` takes what a person should know about it.

    Raises:
        RangesError: a tensor's range is missing, or does not fit into FP16 when the body is FP16.
        GraphError: the weights of an INT8 convolution are not constant, or the opset cannot be raised.
    """
    said = notes if notes is not None else []
    trt = make_trt_plan(graph, plan)
    scales = activation_scales(graph, plan, trt, ranges)
    if body == "fp16":
        check_ranges_fit(ranges)
    emitter = _Emitter(graph, trt, scales, SMALLEST_FP16 if body == "fp16" else SMALLEST_SCALE, said)
    emitter.run()
    model = emitter.model()
    if body == "fp16":
        model = to_fp16_body(model, said)
    model.doc_string = f"INT8 (QDQ) for TensorRT, {body.upper()} body; emitted by shadowrig calibrate int8"
    onnx.checker.check_model(model, full_check=True)
    return model


def symmetric_scale(span: Range) -> float:
    """Scale that maps the calibrated range onto -127..127 with zero exact."""
    largest = max(abs(span.low), abs(span.high))
    return largest / INT8_LIMIT if largest > 0 else SCALE_OF_ZERO


def activation_scales(
    graph: Graph, plan: QuantizationPlan, trt: TrtPlan, ranges: Mapping[str, Range]
) -> dict[str, float]:
    """Scale by tensor for every pair; raises `RangesError` naming the tensors that have no range."""
    given = {item.tensor: 255.0 * item.scale / INT8_LIMIT for item in plan.inputs}  # a byte image spans 0..255 steps
    scales: dict[str, float] = {}
    missing = []
    for tensor in trt.pairs:
        source = plan.shared.get(tensor, tensor)
        if source in given:
            scales[tensor] = given[source]
        elif source in ranges:
            scales[tensor] = symmetric_scale(ranges[source])
        else:
            missing.append(tensor)
    if missing:
        some = ", ".join(missing[:5])
        hint = "measure plan.measured and trt_tensors(graph, plan) of this model"
        raise RangesError(f"no range for {some} ({len(missing)} tensors); {hint}")
    return scales


class _Emitter:
    """Builds the quantised graph node by node."""

    def __init__(
        self, graph: Graph, trt: TrtPlan, scales: Mapping[str, float], smallest_scale: float, notes: list[str]
    ) -> None:
        self._graph = graph
        self._trt = trt
        self._scales = scales
        self._smallest = smallest_scale
        self._notes = notes
        self._raised: list[str] = []
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, NDArray[np.generic]] = {}

    def run(self) -> None:
        """Emit every node in order, each quantised tensor's pair right behind its producer."""
        for value in self._graph.model.graph.input:
            self._pair_if_wanted(value.name)
        for node in self._graph.nodes:
            self._emit(node)
            for name in node.output:
                self._pair_if_wanted(name)
        self._note_raised()

    def model(self) -> ModelProto:
        """The model with the new nodes and constants; unread constants are left out."""
        model = ModelProto()
        model.CopyFrom(self._graph.model)
        read = {name for node in self._nodes for name in node.input} | self._graph.outputs
        constants = [TensorProto.FromString(t.SerializeToString()) for t in model.graph.initializer if t.name in read]
        constants += [numpy_helper.from_array(np.asarray(value), name) for name, value in self._constants.items()]
        for field in ("node", "initializer", "value_info"):
            model.graph.ClearField(field)
        model.graph.node.extend(self._nodes)
        model.graph.initializer.extend(constants)
        return model

    def _emit(self, node: NodeProto) -> None:
        copy = NodeProto.FromString(node.SerializeToString())
        for position, name in enumerate(copy.input):
            if self._trt.reads_quantized(self._graph, name, node):
                copy.input[position] = f"{name}_dequantized"
        if node.output[0] in self._trt.weighted:
            copy.input[1] = self._quantized_weight(node)
        self._nodes.append(copy)

    def _pair_if_wanted(self, tensor: str) -> None:
        if tensor in self._scales:
            scale = self._usable(np.array(self._scales[tensor]), f"activation {tensor}")
            self._pair(tensor, scale, None)

    def _pair(self, tensor: str, scale: NDArray[np.float32], axis: int | None) -> str:
        """A pair behind `tensor`; its result's name. Scales with one entry per slice of `axis`, or a scalar."""
        names = [f"{tensor}_scale", f"{tensor}_zero_point"]
        self._constants[names[0]] = scale
        self._constants[names[1]] = np.zeros(scale.shape, np.int8)
        quantized, result = f"{tensor}_quantized", f"{tensor}_dequantized"
        options: dict[str, Any] = {} if axis is None else {"axis": axis}
        ends = [("QuantizeLinear", tensor, quantized), ("DequantizeLinear", quantized, result)]
        for kind, source, target in ends:
            name = f"{tensor}_{'quantize' if kind == 'QuantizeLinear' else 'dequantize'}"
            self._nodes.append(helper.make_node(kind, [source, *names], [target], name, **options))
        return result

    def _quantized_weight(self, node: NodeProto) -> str:
        """The dequantised weights of an INT8 convolution; its own copy, so that shared weights are quantised once."""
        name = node.input[1]
        if name not in self._graph.constants:
            raise GraphError(f"{node.op_type} {node.output[0]}: weights {name} are not constant; keep it in float")
        if f"{name}_scale" in self._constants:
            return f"{name}_dequantized"
        weight = self._graph.constants[name].astype(np.float32)
        axis = _output_axis(node)
        others = tuple(index for index in range(weight.ndim) if index != axis)
        largest = np.abs(weight).max(axis=others)
        scale = np.where(largest > 0, largest / INT8_LIMIT, SCALE_OF_ZERO)
        return self._pair(name, self._usable(scale, f"weights of {node.op_type} {node.output[0]}"), axis)

    def _usable(self, scale: NDArray[np.floating], place: str) -> NDArray[np.float32]:
        """The scale with entries too small for the body raised to the smallest that it holds in full."""
        small = int((scale < self._smallest).sum())
        if small:
            self._raised.append(f"{place} ({small} of {scale.size}, smallest {float(scale.min()):.3g})")
        return np.asarray(np.maximum(scale, self._smallest), np.float32)

    def _note_raised(self) -> None:
        """One note for all: dead channels make many such scales, and cost nothing."""
        if self._raised:
            some = "; ".join(self._raised[:3])
            self._notes.append(
                f"scales below {self._smallest:.3g} were raised to it in {len(self._raised)} tensors, whose values "
                f"below {INT8_LIMIT * self._smallest:.3g} lose resolution: {some}"
            )


def _output_axis(node: NodeProto) -> int:
    """Axis of the output channels in a node's weights."""
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    if node.op_type not in OUTPUT_AXIS:
        raise GraphError(f"{node.op_type} {node.output[0]}: has no INT8 form in TensorRT; keep it in float")
    return OUTPUT_AXIS[node.op_type]
