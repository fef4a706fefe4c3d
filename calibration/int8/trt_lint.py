"""Finds what TensorRT refuses, or silently runs in floating point, in an ONNX file. Needs no TensorRT.

    for finding in lint_trt(onnx.load("model.trt.qdq.onnx")):
        print(finding)      # DequantizeLinear bias_dequantize: dequantises int32 ...; keep the bias in floating point

Every finding names the node, the value and the fix. The rules are those of NVIDIA's documents (operators.md of
onnx-tensorrt; "Working with Quantized Types" of the TensorRT documentation), tried where that is possible on the
builder of `tensorrt_rtx` (tests/calibration/test_rtx_check.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, shape_inference

from calibration.int8.graph import Graph, attribute, constants_to_initializers
from calibration.int8.trt_operators import UNSUPPORTED, fault_of

QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Types of network inputs and outputs that TensorRT 8.6, 10 and 11 share.
IO_TYPES = frozenset(
    {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL}
)
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})


def lint_trt(model: ModelProto) -> list[str]:
    """Findings in graph order, inputs and outputs first; empty when TensorRT should take the file."""
    findings = []
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)  # a copy
    except shape_inference.InferenceError as error:
        findings.append(f"model: ONNX cannot infer its types ({error}); repair it first")
        inferred = ModelProto.FromString(model.SerializeToString())
    constants_to_initializers(inferred)
    graph = Graph(inferred)
    findings += [*_lint_inputs(graph), *_lint_outputs(graph)]
    for node in graph.nodes:
        findings.extend(_lint_operator(graph, node))
        if node.op_type in QUANTIZERS:
            findings.extend(f"{_place(node)}: {fault}" for fault in _lint_quantizer(graph, node))
        if node.op_type in WEIGHTED:
            findings.extend(f"{_place(node)}: {fault}" for fault in _lint_weighted(graph, node))
    return findings


def _place(node: NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]}"


def _type_name(kind: int) -> str:
    if kind == TensorProto.UNDEFINED:
        return "unknown"
    return str(helper.tensor_dtype_to_string(kind)).removeprefix("TensorProto.").lower()


def _lint_inputs(graph: Graph) -> Iterator[str]:
    for value in graph.model.graph.input:
        if value.name in graph.constants:
            continue
        yield from _lint_io(value, "input")
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            for reader in graph.consumers.get(value.name, []):
                if reader.op_type != "Cast" or attribute(reader, "to") not in FLOATS:
                    fault = f"is read by {_place(reader)}; TensorRT takes uint8 through a Cast to float or float16 only"
                    yield f"input {value.name}: uint8 {fault}: put a Cast between"


def _lint_outputs(graph: Graph) -> Iterator[str]:
    for value in graph.model.graph.output:
        yield from _lint_io(value, "output")


def _lint_io(value: ValueInfoProto, kind: str) -> Iterator[str]:
    tensor = value.type.tensor_type
    if tensor.elem_type not in IO_TYPES:
        name = _type_name(tensor.elem_type)
        yield f"{kind} {value.name}: type {name}, which not every TensorRT has; make it float, int32 or bool by a Cast"
    for axis, size in enumerate(tensor.shape.dim):
        if not size.HasField("dim_value") or size.dim_value <= 0:
            shown = size.dim_param or "unknown"
            yield f"{kind} {value.name}: axis {axis} is {shown}; engines are built for fixed shapes: export it with one"


def _lint_operator(graph: Graph, node: NodeProto) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"{_place(node)}: belongs to {node.domain}, unknown to TensorRT; export with ONNX's own operators"
    elif node.op_type in UNSUPPORTED:
        yield f"{_place(node)}: TensorRT has no {node.op_type}; {UNSUPPORTED[node.op_type]}"
    else:
        fault = fault_of(graph, node)
        if fault:
            yield f"{_place(node)}: {fault}"


def _lint_quantizer(graph: Graph, node: NodeProto) -> Iterator[str]:
    yield from _lint_zero_point(graph, node)
    yield from _lint_data(graph, node)
    scale = graph.constants.get(node.input[1])
    if scale is None:
        yield f"scale {node.input[1]} is computed; TensorRT wants it constant: store it as an initializer"
        return
    yield from _lint_scale(np.asarray(scale))
    if scale.size > 1 and not _is_constant_chain(graph, node.input[0]):
        yield f"has {scale.size} scales for a computed tensor; activations have one: quantise per tensor"
    if node.op_type == "DequantizeLinear":
        yield from _lint_pair(graph, node, np.asarray(scale))


def _lint_zero_point(graph: Graph, node: NodeProto) -> Iterator[str]:
    if len(node.input) < 3 or not node.input[2]:
        if node.op_type == "QuantizeLinear" and not attribute(node, "output_dtype", 0):
            yield "has no zero point, which ONNX reads as uint8; give it an int8 zero point of 0"
        return
    zero_point = graph.constants.get(node.input[2])
    if zero_point is None:
        yield f"zero point {node.input[2]} is computed; TensorRT wants the constant 0"
        return
    wrong = zero_point[zero_point != 0] if zero_point.ndim else zero_point.reshape(1)[zero_point.reshape(1) != 0]
    if wrong.size:
        yield f"zero point is {int(wrong.reshape(-1)[0])}; TensorRT is symmetric: calibrate with zero point 0"
    if zero_point.dtype != np.int8 and zero_point.dtype != np.int32:
        yield f"quantises to {zero_point.dtype}; TensorRT has int8 only: emit the TensorRT file, not the CPU file"


def _lint_data(graph: Graph, node: NodeProto) -> Iterator[str]:
    """The integers that a DequantizeLinear reads."""
    constant = graph.constants.get(node.input[0])
    if node.op_type != "DequantizeLinear":
        return
    kind = str(constant.dtype) if constant is not None else _type_name(graph.element_type(node.input[0]) or 0)
    if kind == "int32":
        yield f"dequantises int32 ({node.input[0]}, a bias); TensorRT refuses it: keep the bias in floating point"
    elif kind == "uint8":
        yield f"dequantises uint8 ({node.input[0]}); TensorRT has int8 only: cast and scale it in floating point"


def _lint_scale(scale: NDArray[np.generic]) -> Iterator[str]:
    values = scale.astype(np.float64).reshape(-1)
    smallest = float(np.finfo(np.float16 if scale.dtype == np.float16 else np.float32).tiny)
    broken = values[~np.isfinite(values)]
    low = values[np.isfinite(values) & (values <= 0)]
    small = values[(values > 0) & (values < smallest)]
    if broken.size:
        yield f"scale is {broken[0]} in {scale.dtype}; the range left the type: use the FP32 body for this network"
    if low.size:
        yield f"scale is {low[0]:g}; it must be positive: a tensor that is always 0 takes 1"
    if small.size:
        fix = f"raise it to {smallest:.3g} or keep this layer in floating point"
        yield f"scale is {small.min():.3g}, below the smallest normal {scale.dtype} {smallest:.3g}: {fix}"


def _lint_pair(graph: Graph, node: NodeProto, scale: NDArray[np.generic]) -> Iterator[str]:
    quantize = graph.producer.get(node.input[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return
    other = graph.constants.get(quantize.input[1])
    if other is not None and not np.array_equal(other, scale):
        values = f"{np.asarray(other).reshape(-1)[0]:g} and {scale.reshape(-1)[0]:g}"
        yield f"scale differs from that of {_place(quantize)} ({values}); a pair has one scale: use the same constant"


def _lint_weighted(graph: Graph, node: NodeProto) -> Iterator[str]:
    data, weight = graph.producer.get(node.input[0]), graph.producer.get(node.input[1])
    is_data_quantized = data is not None and data.op_type == "DequantizeLinear"
    if len(node.input) > 2 and node.input[2]:
        bias = graph.producer.get(node.input[2])
        if bias is not None and bias.op_type == "DequantizeLinear":
            yield f"bias {node.input[2]} is dequantised; TensorRT refuses it: keep the bias in floating point"
    if weight is None or weight.op_type != "DequantizeLinear":
        if is_data_quantized and node.op_type != "MatMul":
            yield f"data is INT8 but weights {node.input[1]} are not; it runs in floating point: quantise both or none"
        return
    if not _is_constant_chain(graph, node.input[1]):
        # Products of two activations (attention) have a pair on both sides, and one scale each.
        if node.op_type != "MatMul":
            yield f"weights {node.input[1]} are computed; TensorRT quantises constant weights only: keep it in float"
        return
    if not is_data_quantized:
        yield f"weights are INT8 but data {node.input[0]} is not; it runs in floating point: quantise both or none"
    yield from _lint_axis(graph, node, weight)


def _lint_axis(graph: Graph, node: NodeProto, dequantize: NodeProto) -> Iterator[str]:
    scale = graph.constants.get(dequantize.input[1])
    shape = _constant_shape(graph, dequantize)
    if scale is None or scale.size <= 1 or shape is None:
        return
    axis = int(str(attribute(dequantize, "axis", 1))) % len(shape)
    wanted = {"Conv": 0, "ConvTranspose": 1, "MatMul": len(shape) - 1}.get(node.op_type)
    if wanted is None:
        wanted = 0 if attribute(node, "transB", 0) else 1
    if axis != wanted:
        fix = f"the output channels of {node.op_type} are axis {wanted}"
        yield f"weights are quantised along axis {axis} ({_place(dequantize)}); {fix}: quantise along that"
    elif scale.size != shape[axis]:
        yield f"weights have {scale.size} scales for {shape[axis]} channels ({_place(dequantize)}); give each one scale"


def _is_constant_chain(graph: Graph, tensor: str) -> bool:
    """Whether a tensor comes from a constant through a pair at most."""
    for _step in range(3):
        if tensor in graph.constants:
            return True
        producer = graph.producer.get(tensor)
        if producer is None or producer.op_type not in QUANTIZERS:
            return False
        tensor = producer.input[0]
    return False


def _constant_shape(graph: Graph, dequantize: NodeProto) -> tuple[int, ...] | None:
    tensor = dequantize.input[0]
    producer = graph.producer.get(tensor)
    constant = graph.constants.get(producer.input[0] if producer is not None else tensor)
    return tuple(int(size) for size in constant.shape) if constant is not None else None
