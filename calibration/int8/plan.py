"""Decides which nodes run in INT8 and which tensors need a range. Knows nothing of numbers.

Rules, in this order:
1. A *layer* is a convolution (dense or depthwise) or a matrix product (Gemm, MatMul) with constant weights. It goes to
   INT8 unless it is *final*: unless another layer reads its result, directly or through other nodes. Final layers write
   the heads' outputs (heat, boxes, logits); they are a few per cent of the work and most of the sensitivity, so they
   stay in floating point. So do matrix products with few weights (`LEAST_PRODUCT_WEIGHTS`): their time is that of the
   conversions. So do transposed convolutions and PReLU, for which ONNX Runtime has no integer kernel on CPUs: it would
   turn their inputs to float, compute, and turn back (tests/benchmarks/int8_operators.py measures all this).
2. A `Relu` right behind an INT8 convolution is part of it: only its result is quantised.
3. *Companions* (additions, concatenations, pooling, resizing, ...) between INT8 convolutions go along, so that no
   tensor is turned to float and back on the way.
4. Companions that only move values (`MOVERS`) keep the scale of their input: the runtime then drops the pair around
   them.
5. An image input of uint8 that is only cast and scaled (Cast -> Mul or Div by one number) enters the graph as
   quantised data with that number as its scale: no float image is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import NodeProto, TensorProto

from calibration.int8.graph import Graph, attribute

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
#: Matrix products with fewer weights stay in floating point.
LEAST_PRODUCT_WEIGHTS = 512 * 512
#: Companions whose result is a selection of their input's values.
MOVERS = frozenset(
    {"MaxPool", "Resize", "Slice", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Gather", "Split"}
)
#: Companions with arithmetic that ONNX Runtime has quantised kernels for.
ARITHMETIC = frozenset({"Add", "Mul", "Concat", "Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool", "Relu"})


@dataclass(slots=True)
class QuantizedInput:
    """A uint8 graph input that enters as quantised data: the float tensor that it stands for, and its scale."""

    graph_input: str
    tensor: str  # the float tensor that the Cast and Mul made
    scale: float
    replaced: list[str]  # outputs of the nodes that disappear


@dataclass(slots=True)
class QuantizationPlan:
    """What goes to INT8. Tensor names are those of the prepared graph."""

    convolutions: list[str] = field(default_factory=list)  # node names (first output), in graph order
    matmuls: list[str] = field(default_factory=list)  # Gemm and MatMul nodes, likewise
    kept_float: list[str] = field(default_factory=list)
    companions: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)  # activations that get a quantise/dequantise pair, graph order
    shared: dict[str, str] = field(default_factory=dict)  # tensor -> the tensor whose scale it uses
    inputs: list[QuantizedInput] = field(default_factory=list)

    @property
    def layers(self) -> list[str]:
        """All that runs in INT8 with weights: what the search may leave in floating point."""
        return [*self.convolutions, *self.matmuls]

    @property
    def measured(self) -> list[str]:
        """Tensors whose range must be measured: those that neither share a scale nor come in quantised."""
        given = {item.tensor for item in self.inputs}
        return [name for name in self.tensors if name not in self.shared and name not in given]


def make_plan(graph: Graph, keep_float: frozenset[str] = frozenset()) -> QuantizationPlan:
    """Plan for a prepared graph. `keep_float` names further layers (by their output tensor) to leave alone."""
    feeding = _tensors_feeding_layers(graph)
    plan = QuantizationPlan()
    for node in graph.nodes:
        if not is_layer(graph, node):
            continue
        name = str(node.output[0])
        if name not in feeding or name in keep_float:
            plan.kept_float.append(name)
        else:
            (plan.convolutions if node.op_type == "Conv" else plan.matmuls).append(name)
    plan.inputs = _quantized_inputs(graph)
    quantised = _layer_tensors(graph, plan)
    _add_companions(graph, plan, quantised, feeding)
    plan.tensors = _in_graph_order(graph, quantised)
    return plan


def is_layer(graph: Graph, node: NodeProto) -> bool:
    """Whether ONNX Runtime has a fast integer kernel for this node and its weights are constant."""
    if node.op_type == "Conv":
        return node.input[1] in graph.constants
    if node.op_type not in ("Gemm", "MatMul") or node.input[1] not in graph.constants:
        return False
    plain = attribute(node, "transA", 0) == 0 and attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    weight = graph.constants[node.input[1]]
    constant_bias = len(node.input) < 3 or node.input[2] in graph.constants
    return plain and constant_bias and weight.ndim == 2 and weight.size >= LEAST_PRODUCT_WEIGHTS


def result_of(graph: Graph, layer: NodeProto) -> str:
    """The tensor that an INT8 layer writes: behind its ReLU, when that is its only reader."""
    reader = graph.only_consumer(layer.output[0])
    return str(reader.output[0] if reader is not None and reader.op_type == "Relu" else layer.output[0])


def _tensors_feeding_layers(graph: Graph) -> set[str]:
    """Every tensor from which some layer's data input is computed."""
    feeding: set[str] = set()
    # Nodes are in topological order, so one pass backwards sees every reader before its producer.
    for node in reversed(graph.nodes):
        is_reader = node.op_type in CONVOLUTIONS or is_layer(graph, node)
        if is_reader or any(name in feeding for name in node.output):
            feeding.update(graph.activations(node))
    return feeding


def _layer_tensors(graph: Graph, plan: QuantizationPlan) -> set[str]:
    tensors: set[str] = set()
    for name in plan.layers:
        layer = graph.producer[name]
        tensors.add(layer.input[0])
        tensors.add(result_of(graph, layer))
    return tensors


def _add_companions(graph: Graph, plan: QuantizationPlan, quantised: set[str], feeding: set[str]) -> None:
    """Pull companions in while every float input of theirs is quantised and they lead to a convolution."""
    fused = set(plan.layers)
    for node in graph.nodes:
        if node.op_type not in MOVERS | ARITHMETIC or not any(name in feeding for name in node.output):
            continue
        data = [name for name in graph.activations(node) if graph.is_float(name)]
        if not data or any(name not in quantised for name in data) or data[0] in fused - quantised:
            continue
        if node.op_type == "Resize" and not _is_nearest(node):
            continue
        plan.companions.append(node.output[0])
        quantised.update(name for name in node.output if graph.is_float(name))
        if node.op_type in MOVERS:
            plan.shared.update({name: plan.shared.get(data[0], data[0]) for name in node.output})


def _is_nearest(node: NodeProto) -> bool:
    mode = next((item.s for item in node.attribute if item.name == "mode"), b"nearest")
    return bool(mode == b"nearest")


def _quantized_inputs(graph: Graph) -> list[QuantizedInput]:
    found = []
    for value in graph.model.graph.input:
        if value.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        cast = graph.only_consumer(value.name)
        scaling = graph.only_consumer(cast.output[0]) if cast is not None and cast.op_type == "Cast" else None
        scale = _scale_of(graph, scaling) if scaling is not None else None
        if cast is not None and scaling is not None and scale is not None:
            found.append(QuantizedInput(value.name, scaling.output[0], scale, [cast.output[0], scaling.output[0]]))
    return found


def _scale_of(graph: Graph, node: NodeProto) -> float | None:
    """The positive number that a Mul or Div node scales by, None when it does something else."""
    factors = [graph.constants[name] for name in node.input if name in graph.constants]
    if node.op_type not in ("Mul", "Div") or len(factors) != 1 or factors[0].size != 1:
        return None
    factor = float(factors[0].reshape(-1)[0])
    if factor <= 0 or (node.op_type == "Div" and node.input[1] not in graph.constants):
        return None
    return factor if node.op_type == "Mul" else 1.0 / factor


def _in_graph_order(graph: Graph, tensors: set[str]) -> list[str]:
    order = [value.name for value in graph.model.graph.input]
    order += [name for node in graph.nodes for name in node.output]
    return [name for name in order if name in tensors]
