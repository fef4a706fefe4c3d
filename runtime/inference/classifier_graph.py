"""What a learned trigger's ONNX file may be: checked from its bytes, before anything of it runs.

    input    float32 [1, rows * D]  every row of the embedding, one after another (zero without a new image), or
             float32 [rows, D]      each row by itself; the first size may be left open, so that it fits any rig
    output   float32 [1] or [1, 1], or [rows] or [rows, 1]: a probability, of which the largest over the rows counts

The file is small (16 MB), whole (no weights elsewhere), of an opset that every supported ONNX Runtime knows, and made
of operators from a list: arithmetic, matrix products, activations, normalisation, linear and tree models. No loops and
no branches, whose cost nobody can tell; no randomness, because a replay must fire alike; no custom operators, because
their code is not in the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError

from runtime.inference.embedding import EmbeddingSpace
from runtime.inference.graph import GraphError, TensorSpec, tensor_spec
from runtime.inference.heads.decoder import TensorShape, describe, fits

MAX_BYTES = 16 * 1000 * 1000
MAX_NODES = 1000
#: Larger intermediate results cost more than a tick has.
MAX_ELEMENTS = 4 * 1024 * 1024
#: By domain. ONNX Runtime 1.20, the oldest supported one, guarantees these.
OPSETS: Mapping[str, tuple[int, int]] = {"": (9, 21), "ai.onnx": (9, 21), "ai.onnx.ml": (1, 4)}

_OPERATORS = """
    Abs Add ArgMax AveragePool BatchNormalization Cast Clip Concat Constant Conv Div Dropout Elu Equal Erf Exp Flatten
    Gather Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid Identity LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max Mean Min Mul Neg Not Pow PRelu QuantizeLinear DequantizeLinear
    Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Selu Shape Sigmoid
    Sign Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where
    """
_ML_OPERATORS = """
    ArrayFeatureExtractor Binarizer Imputer LinearClassifier LinearRegressor Normalizer Scaler SVMClassifier
    SVMRegressor TreeEnsembleClassifier TreeEnsembleRegressor
    """
ALLOWED: Mapping[str, frozenset[str]] = {
    "": frozenset(_OPERATORS.split()),
    "ai.onnx": frozenset(_OPERATORS.split()),
    "ai.onnx.ml": frozenset(_ML_OPERATORS.split()),
}


@dataclass(frozen=True, slots=True)
class ClassifierFault:
    """One thing that is wrong with a file, and what to do."""

    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class ClassifierSurface:
    """How to feed a good file."""

    input_name: str
    output_name: str
    input_shape: tuple[int, int]
    per_row: bool


def read_classifier(data: bytes, space: EmbeddingSpace) -> tuple[ClassifierSurface | None, list[ClassifierFault]]:
    """The surface of a classifier for embeddings of `space`; None with everything that is wrong."""
    if len(data) > MAX_BYTES:
        return None, [ClassifierFault(f"is larger than {MAX_BYTES // 1_000_000} MB", "train a smaller classifier")]
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError):
        return None, [ClassifierFault("is not an ONNX file, or is cut short", "export it again")]
    try:
        faults = [*_content_faults(model), *_opset_faults(model), *_size_faults(model)]
        surface, surface_faults = _surface(model.graph, space)
    except GraphError as error:
        return None, [ClassifierFault(str(error), "export a classifier of one float32 input and output")]
    faults += surface_faults
    return (None if faults else surface), faults


def _content_faults(model: onnx.ModelProto) -> Iterator[ClassifierFault]:
    graph = model.graph
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(graph)):
        yield ClassifierFault("keeps weights in another file, which no hash would cover", "save it as one file")
    if not graph.node or len(graph.node) > MAX_NODES:
        yield ClassifierFault(f"has {len(graph.node)} operators, 1 to {MAX_NODES} are allowed", "export a smaller one")
    refused = {
        f"{node.domain or 'ai.onnx'}:{node.op_type}"
        for node in graph.node
        if node.op_type not in ALLOWED.get(node.domain, frozenset())
        or any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    }
    refused.update(f"{function.domain}:{function.name}" for function in model.functions)
    if refused:
        listed = ", ".join(sorted(refused)[:8])
        fix = "use plain layers, linear or tree models; no custom operators, loops, branches or randomness"
        yield ClassifierFault(f"uses operators that a learned trigger may not: {listed}", fix)
    if graph.sparse_initializer:
        yield ClassifierFault("has sparse weights", "save them dense")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _opset_faults(model: onnx.ModelProto) -> Iterator[ClassifierFault]:
    for opset in model.opset_import:
        low, high = OPSETS.get(opset.domain, (0, -1))
        if opset.domain in OPSETS and not low <= opset.version <= high:
            name = opset.domain or "ai.onnx"
            message = f"has opset {opset.version} of {name}, {low} to {high} are supported"
            yield ClassifierFault(message, f"export it with opset {high} or lower, at least {low}")


def _size_faults(model: onnx.ModelProto) -> Iterator[ClassifierFault]:
    """Intermediate results that are known to be huge: a small file must not ask for gigabytes."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        yield ClassifierFault(f"has contradictory shapes: {str(error).splitlines()[0][:200]}", "export it again")
        return
    for value in inferred.value_info:
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.dim_value > 0]
        if math.prod(sizes) > MAX_ELEMENTS:
            yield ClassifierFault(f"has an intermediate result {value.name!r} of {sizes}", "export a smaller one")
            return


def _surface(graph: onnx.GraphProto, space: EmbeddingSpace) -> tuple[ClassifierSurface | None, list[ClassifierFault]]:
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [tensor_spec(value) for value in graph.input if value.name not in stored]
    outputs = [tensor_spec(value) for value in graph.output]
    flat: TensorShape = (1, space.rows * space.dimension)
    by_row: TensorShape = (space.rows, space.dimension)
    if len(inputs) != 1 or inputs[0].dtype != "float32" or not any(fits(inputs[0].shape, s) for s in (flat, by_row)):
        needs = f"one float32 input of {describe(flat)} or {describe(by_row)} (model {space.model})"
        return None, [ClassifierFault(f"takes {_listed(inputs)}, it must take {needs}", "export it for this model")]
    per_row = not fits(inputs[0].shape, flat)
    allowed = _output_shapes(space.rows if per_row else 1)
    if len(outputs) != 1 or outputs[0].dtype != "float32" or not any(fits(outputs[0].shape, s) for s in allowed):
        needs = f"one float32 output of {' or '.join(describe(shape) for shape in allowed)}: a probability"
        fix = "export the probability alone, without label and dictionary (scikit-learn: zipmap off, keep column 1)"
        return None, [ClassifierFault(f"gives {_listed(outputs)}, it must give {needs}", fix)]
    shape = (space.rows, space.dimension) if per_row else (1, space.rows * space.dimension)
    return ClassifierSurface(inputs[0].name, outputs[0].name, shape, per_row), []


def _output_shapes(count: int) -> tuple[TensorShape, ...]:
    return (count,), (count, 1)


def _listed(tensors: Iterable[TensorSpec]) -> str:
    return ", ".join(str(tensor) for tensor in tensors) or "nothing"
