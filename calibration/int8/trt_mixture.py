"""Which of a network's first layers the files for TensorRT leave in floating point, though the CPU file does not.

Symmetric int8 has half the CPU file's steps for what is never negative: 127 for an image of 0..255, and for the large
maps right behind it, where noise starts that every head inherits. Layers are left out from the input on, until every
output agrees with the CPU file; with more than `MOST_LAYERS` it is not worth it, and all go to INT8. A GPU loses little
by it: convolutions with three input channels fill its integer units badly.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from calibration.int8.emit_trt import emit_trt_qdq
from calibration.int8.graph import Graph
from calibration.int8.plan import make_plan
from calibration.int8.ranges import Feed, RangesFile
from calibration.int8.trt_agreement import trt_agreement

GOOD_AGREEMENT = 0.999
#: What is asked on the samples at hand, so that others stay above `GOOD_AGREEMENT`.
AIM_AGREEMENT = 0.9992
MOST_LAYERS = 3


def first_layers_in_float(graph: Graph, ranges: RangesFile, cpu_model: bytes, feeds: Sequence[Feed]) -> tuple[str, ...]:
    """The fewest first layers without which every output agrees to `AIM_AGREEMENT`; none when that takes too many."""
    cpu = onnx.load_model_from_string(cpu_model)
    layers = make_plan(graph, frozenset(ranges.kept_float)).layers
    for count in range(min(MOST_LAYERS, len(layers) - 1) + 1):
        left = tuple(layers[:count])
        plan = make_plan(graph, frozenset((*ranges.kept_float, *left)))
        agreement = trt_agreement(cpu, emit_trt_qdq(graph, plan, ranges.tensors, "fp32"), feeds)
        if min(agreement.values()) >= AIM_AGREEMENT:
            return left
    return ()
