"""Decides where quantise/dequantise pairs go in a file for TensorRT. Knows nothing of numbers.

Both files run the same convolutions in INT8 (`plan.convolutions`), but they want their pairs in different places. ONNX
Runtime wants every tensor between two INT8 kernels quantised. TensorRT fuses a convolution with what follows it
(activation, residual addition, activation again) only where no pair stands between them, and moves pairs across pooling
and the like by itself. So, after NVIDIA's placement rules ("Working with Quantized Types", section Q/DQ layer-placement
recommendations; the same in TensorRT 8.6, 10 and 11):

1. The data input of every INT8 convolution gets a pair; its result gets none of its own.
2. A *residual addition* that leads to an INT8 convolution takes quantised inputs, except one that comes straight from
   an INT8 convolution read by nobody else: that one stays bare, so that convolution and addition become one kernel. A
   pair there would split them; no pair on the other input would make the kernel write floating point.
3. Pooling, resizing and reshaping on the way to an INT8 convolution take quantised inputs, those that only move values
   with the scale of their result, so that they run on bytes.
4. Concatenations get the pair behind them only, which TensorRT moves in front of every input with one common scale:
   then nothing is copied. An input that has a pair of its own (because a convolution reads it too) is requantised.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from calibration.int8.graph import Graph
from calibration.int8.plan import MOVERS, QuantizationPlan

POOLING = frozenset({"AveragePool", "GlobalAveragePool"})
#: What TensorRT fuses into the convolution before it; these read its result as it is.
ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Mul"})
#: Layers that run in floating point from end to end when their weights do.
FLOAT_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm"})
#: Nodes between an addition and a quantised tensor that end up inside a kernel, or that pairs are moved across.
PASSED = ACTIVATIONS | {"BatchNormalization", "Concat"}


@dataclass(frozen=True, slots=True)
class TrtPlan:
    """Where pairs go. Tensor names are those of the prepared graph."""

    weighted: frozenset[str]  # INT8 convolutions, by their first output
    pairs: tuple[str, ...]  # activations that get a pair, in graph order
    fused: tuple[str, ...] = ()  # results that go bare into an addition, for as long as their convolution is INT8

    def reads_quantized(self, graph: Graph, tensor: str, reader: NodeProto) -> bool:
        """Whether `reader` gets the dequantised value of `tensor` and not the float one.

        A layer that was left in floating point gets the latter, although another reader has given the tensor a pair:
        what it was left out for is the loss of that very rounding.
        """
        if reader.op_type in FLOAT_LAYERS and reader.output[0] not in self.weighted:
            return False
        producer = graph.producer.get(tensor)
        behind_weighted = producer is not None and producer.output[0] in self.weighted
        return tensor in self.pairs and not (behind_weighted and reader.op_type in ACTIVATIONS)


def make_trt_plan(graph: Graph, plan: QuantizationPlan) -> TrtPlan:
    """Where pairs go so that `plan.convolutions` run in INT8 in TensorRT."""
    weighted = frozenset(plan.convolutions)
    wanted: set[str] = set()  # get a pair
    leading: set[str] = set()  # become one of `wanted` through nodes that are fused or moved across
    fused: list[str] = []
    # Nodes are in topological order, so one pass backwards sees every reader before its producer.
    for node in reversed(graph.nodes):
        outputs = set(node.output)
        data = [name for name in graph.activations(node) if graph.is_float(name)]
        if node.output[0] in weighted:
            wanted.add(node.input[0])
        elif node.op_type in PASSED and outputs & (wanted | leading):
            leading.update(data)
        elif node.op_type == "Add" and outputs & (wanted | leading) and len(data) == 2:
            bare = _fused_input(graph, weighted, data)
            wanted.update(name for name in data if name != bare)
            fused += [] if bare is None else [bare]
        elif node.op_type in MOVERS | POOLING and outputs & wanted:
            wanted.update(_inputs_to_quantize(plan, data))
    return TrtPlan(weighted, tuple(name for name in _tensors_in_order(graph) if name in wanted), tuple(fused))


def trt_tensors(graph: Graph, plan: QuantizationPlan) -> list[str]:
    """Tensors whose range the TensorRT file needs beside `plan.measured`, whatever the search leaves in float."""
    known = {*plan.measured, *plan.shared, *(item.tensor for item in plan.inputs)}
    trt = make_trt_plan(graph, plan)
    return [name for name in dict.fromkeys((*trt.pairs, *trt.fused)) if name not in known]


def _fused_input(graph: Graph, weighted: frozenset[str], data: list[str]) -> str | None:
    """The input of an addition that TensorRT adds inside the convolution making it; None when there is none."""
    for name in reversed(data):  # exporters write the branch first or last; the later one is computed last
        producer = graph.producer.get(name)
        if producer is not None and producer.output[0] in weighted and graph.only_consumer(name) is not None:
            return name
    return None


def _inputs_to_quantize(plan: QuantizationPlan, data: list[str]) -> list[str]:
    """Inputs of a pooling or moving node that are quantised with it: those whose scale is known or shared."""
    scaled = {*plan.tensors, *(item.tensor for item in plan.inputs)}
    return [name for name in data if name in scaled]


def _tensors_in_order(graph: Graph) -> list[str]:
    order = [value.name for value in graph.model.graph.input]
    return order + [name for node in graph.nodes for name in node.output]
