"""How much noise each layer's INT8 alone puts on the network's outputs, worst layer first.

For every layer a graph is emitted in which that layer (with its activation) is quantised and all else is in floating
point; it runs on a few samples, and its outputs are held against those of FP32. The *effect* of a layer is the noise it
adds in proportion to the signal, by channel and averaged, on the output that suffers most. That is cheap (a few runs a
layer, no decoding) and says which layers to leave in floating point first; whether that is enough is for the accuracy
gate to say. (Ranking layers by their own signal-to-noise ratio is usual: Wu et al., "Integer quantization for deep
learning inference", arXiv 2004.09602, section 6.1.)

Bounds: `MOST_FEEDS` samples, one graph in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.graph import Graph
from calibration.int8.plan import QuantizationPlan, make_plan
from calibration.int8.ranges import Feed, Range

MOST_FEEDS = 4
#: Channels with far less signal than the others count as if they had this share of their mean: noise on a class that
#: is nowhere in the samples is of no matter.
LEAST_SIGNAL_SHARE = 1e-3

Outputs = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class LayerEffect:
    """What INT8 of one layer does to the outputs."""

    layer: str  # its output tensor
    operator: str
    noise: float  # over signal, both as power; 0 is none
    output: str  # that suffers most

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise in decibels, 200 at most."""
        return float(-10.0 * np.log10(max(self.noise, 1e-20)))


def measure_effects(
    graph: Graph,
    plan: QuantizationPlan,
    ranges: Mapping[str, Range],
    feeds: Sequence[Feed],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LayerEffect]:
    """Effect of each layer of `plan`, worst first; of equals the earlier first."""
    chosen = spread(feeds, MOST_FEEDS)
    fp32 = _open(graph.model.SerializeToString())
    reference = [_run(fp32, feed) for feed in chosen]
    layers = plan.layers
    effects = []
    for done, layer in enumerate(layers, 1):
        alone = make_plan(graph, frozenset(layers) - {layer})
        session = _open(emit_cpu_qdq(graph, alone, ranges).SerializeToString())
        noise = noise_by_output(reference, [_run(session, feed) for feed in chosen])
        worst = max(noise, key=lambda name: noise[name])
        effects.append(LayerEffect(layer, graph.producer[layer].op_type, noise[worst], worst))
        progress(done, len(layers))
    return sorted(effects, key=lambda effect: -effect.noise)


def noise_by_output(reference: Sequence[Outputs], candidate: Sequence[Outputs]) -> dict[str, float]:
    """Noise over signal of each output, by channel and averaged over channels."""
    noise = {}
    for name in reference[0]:
        signal = np.mean([_power(outputs[name]) for outputs in reference], axis=0)
        error = np.mean(
            [_power(got[name] - true[name]) for true, got in zip(reference, candidate, strict=True)], axis=0
        )
        floor = max(float(signal.mean()) * LEAST_SIGNAL_SHARE, 1e-30)
        noise[name] = float(np.mean(error / np.maximum(signal, floor)))
    return noise


def spread(feeds: Sequence[Feed], most: int) -> list[Feed]:
    """At most so many feeds, evenly over all."""
    count = min(most, len(feeds))
    return [feeds[index * len(feeds) // count] for index in range(count)]


def _power(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean square by channel: axis 1 of maps `[N, C, H, W]`, the last axis of everything else."""
    axis = 1 if values.ndim == 4 else values.ndim - 1
    return np.asarray(np.mean(np.square(values), axis=tuple(index for index in range(values.ndim) if index != axis)))


def _open(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Integer kernels would be fused at a higher level: slower to open, and the noise is the same.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, feed: Feed) -> Outputs:
    names = [output.name for output in session.get_outputs()]
    return {name: np.asarray(v, np.float64) for name, v in zip(names, session.run(names, dict(feed)), strict=True)}
