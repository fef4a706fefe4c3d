"""An FP32 ONNX graph made ready for quantisation, with the questions that planning and emission ask of it.

`prepare` is deterministic and idempotent: the tensor names it leaves are the names in `ranges.json`. It
- raises the opset to 13 at least (per-channel QuantizeLinear came with 13) by ONNX's own converter,
- turns Constant nodes into initializers, drops Identity nodes,
- folds BatchNormalization into the convolution before it,
- infers shapes,
- on request fixes the sizes that the export left open (`fix_sizes`): files for TensorRT are built for one size.

A graph that cannot be brought there is refused with `GraphError`, which names the node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, numpy_helper, shape_inference, version_converter

MINIMUM_OPSET = 13
#: What ONNX raises of a graph that it does not understand; each of them is a plain Exception.
ONNX_ERRORS: tuple[type[Exception], ...] = (
    checker.ValidationError,
    shape_inference.InferenceError,
    version_converter.ConvertError,
    RuntimeError,
    ValueError,
)


class GraphError(ValueError):
    """A graph cannot be prepared or quantised; the message names the node and what to do."""


class Graph:
    """Producers, consumers and constants of a prepared model."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants: dict[str, NDArray[np.generic]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self.outputs = {output.name for output in model.graph.output}
        self.producer: dict[str, NodeProto] = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                if name:
                    self.consumers[name].append(node)
        self._types = _element_types(model)

    def activations(self, node: NodeProto) -> list[str]:
        """Inputs of a node that are computed, not constant."""
        return [name for name in node.input if name and name not in self.constants]

    def only_consumer(self, tensor: str) -> NodeProto | None:
        """The one node that reads `tensor`, when there is exactly one and it is not a graph output."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def is_float(self, tensor: str) -> bool:
        """True for float32 tensors (and for those whose type is not known, which ONNX leaves out after odd nodes)."""
        return self._types.get(tensor, TensorProto.FLOAT) == TensorProto.FLOAT

    def element_type(self, tensor: str) -> int | None:
        """ONNX element type, None where shape inference could not tell."""
        return self._types.get(tensor)


def load_prepared(path: Path) -> ModelProto:
    """Read an FP32 ONNX file and `prepare` it."""
    return prepare(onnx.load(str(path)))


def prepare(model: ModelProto) -> ModelProto:
    """A prepared copy of `model`; see the module's head. Raises `GraphError`."""
    prepared = _raise_opset(model)
    constants_to_initializers(prepared)
    _drop_identities(prepared)
    _fold_batch_norms(prepared)
    return _inferred(prepared)


def fix_sizes(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> ModelProto:
    """A copy whose inputs have the given shapes, by name, and whatever has a size of the same name, that size too.

    Raises:
        GraphError: sizes of one name differ.
    """
    fixed = ModelProto()
    fixed.CopyFrom(model)
    sizes: dict[str, int] = {}
    for value in fixed.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if dim.dim_param and sizes.setdefault(dim.dim_param, size) != size:
                found = f"{sizes[dim.dim_param]} and {size}"
                raise GraphError(f"input {value.name}: size {dim.dim_param!r} is {found}; correct model.yaml")
            dim.dim_value = size
    for value in fixed.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    for value in fixed.graph.value_info if sizes else ():
        value.type.tensor_type.ClearField("shape")  # inferred for open sizes; types stay
    return _inferred(fixed)


def _inferred(model: ModelProto) -> ModelProto:
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
        checker.check_model(inferred)
    except ONNX_ERRORS as error:
        raise GraphError(f"ONNX finds fault with the graph ({error}); export the model again") from error
    return inferred


def preparation_notes(before: ModelProto, after: ModelProto) -> list[str]:
    """What `prepare` did to a model, in sentences for a report."""
    notes = []
    if opset_of(before) != opset_of(after):
        notes.append(f"raised the opset from {opset_of(before)} to {opset_of(after)}")
    fixed = open_sizes(before) - open_sizes(after)
    if fixed:
        notes.append(f"fixed sizes that the export left open as model.yaml has them: {', '.join(sorted(fixed))}")
    had, has = (Counter(str(node.op_type) for node in model.graph.node) for model in (before, after))
    norms = had["BatchNormalization"]
    if norms:
        folded = norms - has["BatchNormalization"]
        notes.append(f"folded {folded} of {norms} batch normalisations into the convolutions before them")
    if had["Constant"] > has["Constant"]:
        notes.append(f"turned {had['Constant'] - has['Constant']} Constant nodes into initializers")
    if had["Identity"] > has["Identity"]:
        notes.append(f"dropped {had['Identity'] - has['Identity']} Identity nodes")
    return notes


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    """Value of a node's attribute, or `default`."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def opset_of(model: ModelProto) -> int:
    """The version of the default operator set. Raises `GraphError` where the file names none."""
    versions = [int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise GraphError("the file names no version of ONNX's operators (opset_import); export the model again")
    return versions[0]


def open_sizes(model: ModelProto) -> set[str]:
    """Sizes of inputs that are not numbers: the name of each, or where it is."""
    return {
        dim.dim_param or f"axis {axis} of {value.name}"
        for value in model.graph.input
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if dim.dim_value <= 0
    }


def _raise_opset(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    if opset_of(copy) >= MINIMUM_OPSET:
        return copy
    try:
        return version_converter.convert_version(copy, MINIMUM_OPSET)
    except ONNX_ERRORS as error:
        message = f"opset {opset_of(model)} cannot be raised to {MINIMUM_OPSET} ({error})"
        raise GraphError(f"{message}; export the model again with opset 17") from error


def constants_to_initializers(model: ModelProto) -> None:
    """Turn Constant nodes into initializers, in place."""
    kept = []
    for node in model.graph.node:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, TensorProto):
            constant = TensorProto()
            constant.CopyFrom(value)
            constant.name = node.output[0]
            model.graph.initializer.append(constant)
        else:
            kept.append(node)
    _replace_nodes(model, kept)


def _drop_identities(model: ModelProto) -> None:
    outputs = {output.name for output in model.graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _replace_nodes(model, kept)


def _fold_batch_norms(model: ModelProto) -> None:
    graph = Graph(model)
    folded: set[str] = set()
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        conv = graph.producer.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or graph.only_consumer(conv.output[0]) is not norm:
            continue
        if any(name not in graph.constants for name in [conv.input[1], *norm.input[1:5]]):
            continue
        _fold_one(model, graph, conv, norm)
        folded.add(norm.output[0])
    kept = [n for n in model.graph.node if not (n.op_type == "BatchNormalization" and n.output[0] in folded)]
    _replace_nodes(model, kept)


def _fold_one(model: ModelProto, graph: Graph, conv: NodeProto, norm: NodeProto) -> None:
    gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in norm.input[1:5])
    epsilon = attribute(norm, "epsilon", 1e-5)
    factor = gamma / np.sqrt(variance + float(str(epsilon)))
    weight = graph.constants[conv.input[1]].astype(np.float64)
    bias = graph.constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros(weight.shape[0])
    names = (f"{norm.output[0]}_folded_weight", f"{norm.output[0]}_folded_bias")
    values = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * factor + beta)
    for name, value in zip(names, values, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    del conv.input[1:]
    conv.input.extend(names)
    conv.output[0] = norm.output[0]


def _replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _element_types(model: ModelProto) -> dict[str, int]:
    infos = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    types = {info.name: int(info.type.tensor_type.elem_type) for info in infos}
    types.update({tensor.name: int(tensor.data_type) for tensor in model.graph.initializer})
    return types
