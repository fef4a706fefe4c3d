"""Turns a QDQ model with an FP32 body into one with an FP16 body, inputs and outputs unchanged.

TensorRT 11 has no flags that let it choose precisions: what the file says is what runs. So the file says FP16. Float
inputs are cast once where they enter, outputs where they leave; weights, biases and scales are stored in FP16. Scales
in FP16 need opset 19 (ONNX: QuantizeLinear-19), so the opset is raised to that. TensorRT 8.6 knows opset 17 at most:
there the file with the FP32 body is the one to use.

Some nodes stay in FP32, with casts around them, and each is named in `notes`:
- those in `FP32_OPERATORS`: exponentials and sums of squares leave FP16's range (largest 65504) on ordinary values;
- those with a constant that FP16 cannot hold: above 65504, or small enough to become zero (an epsilon of 1e-12 that
  guards a division, for instance).

What is not known is the range of tensors that were not measured; those that were must lie within FP16's range, or the
file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from calibration.int8.graph import GraphError, opset_of
from calibration.int8.ranges import Range, RangesError

FP16_OPSET = 19
LARGEST_FP16 = float(np.finfo(np.float16).max)
SMALLEST_FP16 = float(np.finfo(np.float16).tiny)
#: Head room: a value that was seen in calibration may be passed on the road.
HEADROOM = 2.0
FP32_OPERATORS = frozenset(
    {"Exp", "Log", "Pow", "ReduceL2", "ReduceSum", "ReduceSumSquare", "ReduceLogSumExp", "CumSum", "Softplus"}
    | {"InstanceNormalization", "LayerNormalization", "NonMaxSuppression", "TopK", "RoiAlign", "Range"}
)
#: Inputs that ONNX wants in float32 whatever the data is: (operator, position).
FP32_INPUTS = frozenset({("Resize", 1), ("Resize", 2), ("Upsample", 1)})


def check_ranges_fit(ranges: Mapping[str, Range]) -> None:
    """Raise `RangesError` when a measured tensor comes near the end of FP16."""
    limit = LARGEST_FP16 / HEADROOM
    for name, span in ranges.items():
        largest = max(abs(span.observed_low), abs(span.observed_high))
        if largest > limit:
            message = f"tensor {name} took values up to {largest:.6g}; FP16 with head room ends at {limit:.6g}"
            raise RangesError(f"{message}; use the FP32 body for this network")


def to_fp16_body(model: ModelProto, notes: list[str]) -> ModelProto:
    """An FP16 copy of a QDQ model; raises `GraphError` when the opset cannot be raised or a subgraph is in the way."""
    raised = _raise_opset(model)
    conversion = _Conversion(raised, notes)
    conversion.run()
    return conversion.result()


def _raise_opset(model: ModelProto) -> ModelProto:
    if opset_of(model) >= FP16_OPSET:
        copy = ModelProto()
        copy.CopyFrom(model)
        return copy
    try:
        raised = version_converter.convert_version(model, FP16_OPSET)
    except (RuntimeError, ValueError) as error:
        message = f"opset {opset_of(model)} cannot be raised to {FP16_OPSET}, which FP16 scales need ({error})"
        raise GraphError(f"{message}; export the network with opset {FP16_OPSET}, or use the FP32 body") from error
    raised.ir_version = max(raised.ir_version, 9)  # opset 19 came with IR 9
    return raised


class _Conversion:
    """One pass over the nodes. A float tensor is FP16 under its own name; `{name}_fp32` is its FP32 value."""

    def __init__(self, model: ModelProto, notes: list[str]) -> None:
        self._model = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
        self._notes = notes
        graph = self._model.graph
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._float = {name for name, kind in _element_types(self._model).items() if kind == TensorProto.FLOAT}
        self._outputs = {value.name for value in graph.output}
        self._inputs = {value.name for value in graph.input}
        self._nodes: list[NodeProto] = []
        self._kept: dict[str, NDArray[np.generic]] = {}
        self._have_fp32: set[str] = set()

    def run(self) -> None:
        for value in self._model.graph.input:
            if value.name in self._float and value.name not in self._constants:
                self._cast(value.name, f"{value.name}_fp16", TensorProto.FLOAT16)
        for node in self._model.graph.node:
            reason = self._reason_for_fp32(node)
            if reason:
                self._notes.append(f"{node.op_type} {node.name or node.output[0]} stays in FP32: {reason}")
            self._convert(node, keep_fp32=bool(reason))

    def result(self) -> ModelProto:
        for value in self._model.graph.output:
            if value.name in self._float and value.name not in self._have_fp32:
                self._cast(self._fp16_name(value.name), value.name, TensorProto.FLOAT)
        graph = self._model.graph
        for field in ("node", "initializer", "value_info"):
            graph.ClearField(field)
        graph.node.extend(self._nodes)
        graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in self._kept.items())
        return self._model

    def _reason_for_fp32(self, node: NodeProto) -> str | None:
        if not any(name in self._float for name in [*node.input, *node.output]):
            return None
        if node.op_type in FP32_OPERATORS:
            return "its result easily leaves FP16's range"
        for position, name in enumerate(node.input):
            if (node.op_type, position) in FP32_INPUTS or name not in self._constants or name not in self._float:
                continue
            fault = _unfit(self._constants[name])
            if fault:
                return f"constant {name} {fault}"
        return None

    def _convert(self, node: NodeProto, keep_fp32: bool) -> None:
        if any(item.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for item in node.attribute):
            message = f"{node.op_type} {node.name or node.output[0]} holds a subgraph, which cannot be made FP16"
            raise GraphError(f"{message}; use the FP32 body for this network")
        copy = NodeProto.FromString(node.SerializeToString())
        for position, name in enumerate(node.input):
            if name in self._constants:
                wide = keep_fp32 or (node.op_type, position) in FP32_INPUTS
                copy.input[position] = self._constant(name, wide)
            elif name in self._float:
                wide = keep_fp32 or (node.op_type, position) in FP32_INPUTS
                copy.input[position] = self._fp32_name(name) if wide else self._fp16_name(name)
        if not keep_fp32:
            _narrow_attributes(copy)
        results = [(position, name) for position, name in enumerate(node.output) if name in self._float]
        for position, name in results:
            copy.output[position] = self._own_fp32_name(name) if keep_fp32 else self._fp16_name(name)
        self._nodes.append(copy)
        if keep_fp32:
            for _position, name in results:
                self._have_fp32.add(name)
                self._cast(self._own_fp32_name(name), self._fp16_name(name), TensorProto.FLOAT16)

    def _constant(self, name: str, wide: bool) -> str:
        value = self._constants[name]
        if value.dtype != np.float32:
            self._kept[name] = value
            return name
        key = f"{name}_fp32" if wide else name
        self._kept[key] = value if wide else value.astype(np.float16)
        return key

    def _fp16_name(self, name: str) -> str:
        """Inputs and outputs keep their FP32 tensor under the public name."""
        return f"{name}_fp16" if name in self._outputs | self._inputs else name

    def _own_fp32_name(self, name: str) -> str:
        return name if name in self._outputs | self._inputs else f"{name}_fp32"

    def _fp32_name(self, name: str) -> str:
        """The FP32 value of a tensor, cast the first time that it is wanted."""
        result = self._own_fp32_name(name)
        if name not in self._have_fp32 and name not in self._inputs:
            self._cast(self._fp16_name(name), result, TensorProto.FLOAT)
            self._have_fp32.add(name)
        return result

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], f"{target}_cast", to=kind))


def _unfit(value: NDArray[np.generic]) -> str | None:
    """Why FP16 cannot hold a constant, None when it can."""
    numbers = np.abs(np.asarray(value, np.float64)).reshape(-1)
    finite = numbers[np.isfinite(numbers)]
    if finite.size and finite.max() > LARGEST_FP16:
        return f"holds {finite.max():.6g}, above FP16's largest number {LARGEST_FP16:.6g}"
    # One tiny weight among many may well become zero; a number on its own (an epsilon, a factor) may not.
    if finite.size == 1 and 0 < finite[0] < SMALLEST_FP16:
        return f"is {finite[0]:.3g}, below FP16's smallest normal number {SMALLEST_FP16:.3g}"
    return None


def _narrow_attributes(node: NodeProto) -> None:
    """Let a node that says its result's type in an attribute make FP16."""
    for item in node.attribute:
        if item.name in ("to", "dtype") and item.i == TensorProto.FLOAT:
            item.i = TensorProto.FLOAT16
        elif item.name == "value" and item.t.data_type == TensorProto.FLOAT:
            item.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item.t).astype(np.float16)))


def _element_types(model: ModelProto) -> dict[str, int]:
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.value_info, *graph.output]}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}
