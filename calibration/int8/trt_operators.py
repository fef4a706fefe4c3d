"""Operators and settings of ONNX that TensorRT's parser does not take.

Taken as facts from the support matrix of onnx-tensorrt (github.com/onnx/onnx-tensorrt, docs/operators.md): an operator
is listed here when TensorRT 8.5 and 8.6 refuse it, so that a file that passes runs on every version that the runtime
supports.
"""

from __future__ import annotations

from onnx import NodeProto

from calibration.int8.graph import Graph, attribute

_DO_OUTSIDE = "do it outside the network, in a decoder"
_WRITE_OUT = "write it with basic operators in the exporter"
_FLOAT = "calibrate from the FP32 file: the pairs that shadowrig emits are QuantizeLinear and DequantizeLinear"

#: Operator -> what to do instead.
UNSUPPORTED: dict[str, str] = {
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear"), _FLOAT),
    **dict.fromkeys(
        ("BitShift", "BlackmanWindow", "HammingWindow", "HannWindow", "DFT", "STFT", "MelWeightMatrix"),
        _WRITE_OUT,
    ),
    **dict.fromkeys(("Det", "Hardmax"), _WRITE_OUT),
    **dict.fromkeys(("Compress", "Unique", "MaxUnpool", "MaxRoiPool", "Multinomial", "Bernoulli"), _DO_OUTSIDE),
    **dict.fromkeys(
        ("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
        "use tensors: it has no sequences",
    ),
    **dict.fromkeys(("SequenceLength", "SequenceMap", "SplitToSequence"), "use tensors: it has no sequences"),
    **dict.fromkeys(("Optional", "OptionalGetElement", "OptionalHasElement"), "use tensors: it has no optionals"),
    **dict.fromkeys(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), "export the network without its loss"),
    **dict.fromkeys(("StringNormalizer", "TfIdfVectorizer"), "it has no strings"),
}

RESIZE_COORDINATES = frozenset(
    {"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"}
)
RESIZE_ROUNDING = frozenset({"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"})
#: Inputs that must be initializers: operator -> (position, name).
CONSTANT_INPUTS = {"CumSum": (1, "axis"), "Squeeze": (1, "axes"), "Unsqueeze": (1, "axes"), "Slice": (3, "axes")}


def fault_of(graph: Graph, node: NodeProto) -> str | None:
    """What TensorRT does not take of an operator that it has, with the fix; None when it takes it."""
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        return f"writes indices ({node.output[1]}), which TensorRT does not; export it without return_indices"
    if node.op_type == "Resize":
        return _resize_fault(node)
    if node.op_type in CONSTANT_INPUTS:
        position, name = CONSTANT_INPUTS[node.op_type]
        tensor = node.input[position] if len(node.input) > position else ""
        if tensor and tensor not in graph.constants:
            return f"{name} {tensor} is computed; TensorRT wants it constant: export it with fixed shapes"
    return None


def _resize_fault(node: NodeProto) -> str | None:
    coordinates = _text(node, "coordinate_transformation_mode", "half_pixel")
    rounding = _text(node, "nearest_mode", "round_prefer_floor")
    if coordinates not in RESIZE_COORDINATES:
        return f"maps coordinates by {coordinates}, which TensorRT does not; use one of {sorted(RESIZE_COORDINATES)}"
    if _text(node, "mode", "nearest") == "nearest" and rounding not in RESIZE_ROUNDING:
        return f"rounds by {rounding}, which TensorRT does not; use one of {sorted(RESIZE_ROUNDING)}"
    return None


def _text(node: NodeProto, name: str, default: str) -> str:
    value = attribute(node, name, default)
    return value.decode() if isinstance(value, bytes) else str(value)
