"""Activation ranges: measured by running the FP32 network on samples, kept in `ranges.json`, read by every emission.

Two passes over the samples: the first finds each tensor's smallest and largest value, the second counts a histogram
between them (not for `minmax`, which needs none). `histograms` says where each method cuts.

The file holds what was measured and from what, so that it can be audited and emitted again without any sample:
`{"format": 2, "model_sha256", "method", "percentile", "samples", "sample_sha256", "seed", "kept_float": [name],
"trt_float": [name], "refused": [role], "tensors": {name: {"low", "high", "observed_low", "observed_high"}}}`.
`kept_float` are the layers (by output tensor) that the search left in floating point, `trt_float` those that only
files for TensorRT leave there, `refused` the files for TensorRT that failed the accuracy gate and are not emitted
again; files of format 1 had none of them and are read as such. Memory is bounded by one sample's activations plus the
histograms.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from calibration.int8.graph import Graph
from calibration.int8.histograms import HISTOGRAM_BINS, METHODS, cut

FORMAT = 2
READABLE_FORMATS = (1, 2)
SILU_IS_ZERO_BELOW = -8.0

Feed = Mapping[str, NDArray[np.generic]]


class RangesError(ValueError):
    """A ranges file or a request for ranges is wrong."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a tensor's values are mapped from, and what was seen."""

    low: float
    high: float
    observed_low: float
    observed_high: float

    def __post_init__(self) -> None:
        ends = (self.low, self.high, self.observed_low, self.observed_high)
        if not all(isinstance(end, (int, float)) and math.isfinite(end) for end in ends):
            raise TypeError(f"a range has the ends {ends}, which are not all finite numbers")
        if not self.low <= 0.0 <= self.high or self.observed_low > self.observed_high:
            raise TypeError(f"{self.low} to {self.high} is no range with zero in it")


@dataclass(frozen=True, slots=True)
class RangesFile:
    """`ranges.json`; see the module's head."""

    model_sha256: str
    method: str
    percentile: float | None
    samples: int
    sample_sha256: str
    seed: int
    tensors: dict[str, Range]
    kept_float: tuple[str, ...] = ()
    trt_float: tuple[str, ...] = ()  # further layers that only the files for TensorRT leave in floating point
    refused: tuple[str, ...] = ()  # roles of files that failed the accuracy gate

    def __post_init__(self) -> None:
        for name in (self.model_sha256, *self.tensors, *self.kept_float):
            if not isinstance(name, str):
                raise TypeError(f"{name!r} stands where a hash or a tensor's name belongs")

    def save(self, path: Path) -> None:
        document = {"format": FORMAT, **asdict(self)}
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> RangesFile:
        try:
            document = _read_document(path)
            found = document.pop("format")
            if found not in READABLE_FORMATS:
                readable = " and ".join(map(str, READABLE_FORMATS))
                raise RangesError(f"{path}: format is {found!r}, this version reads {readable}; calibrate again")
            tensors = {name: Range(**value) for name, value in document.pop("tensors").items()}
            kept, trt, refused = (tuple(document.pop(name, ())) for name in ("kept_float", "trt_float", "refused"))
            return RangesFile(tensors=tensors, kept_float=kept, trt_float=trt, refused=refused, **document)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise RangesError(f"{path}: not a ranges file ({error}); calibrate again") from error


def _read_document(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RangesError(f"{path}: cannot be read as JSON ({error}); calibrate again") from error


def collect_ranges(
    model: ModelProto,
    tensors: Sequence[str],
    feeds: Sequence[Feed],
    method: str,
    percentile: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Range]:
    """Ranges of `tensors` over `feeds`; `progress(done, total)` counts network runs."""
    _check_request(method, percentile, feeds)
    session = _session_with_outputs(model, tensors)
    total = len(feeds) * (1 if method == "minmax" else 2)
    observed = _observe(session, tensors, feeds, lambda done: progress(done, total))
    if method == "minmax":
        return {name: Range(min(0.0, low), max(0.0, high), low, high) for name, (low, high) in observed.items()}
    counts = _count(session, tensors, feeds, observed, lambda done: progress(len(feeds) + done, total))
    return {name: Range(*cut(method, counts[name], *observed[name], percentile), *observed[name]) for name in tensors}


def _check_request(method: str, percentile: float, feeds: Sequence[Feed]) -> None:
    if method not in METHODS:
        raise RangesError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    if not 90.0 <= percentile <= 100.0:
        raise RangesError(f"percentile is {percentile}; it must be 90 to 100 (99.99 is a good start)")
    if not feeds:
        raise RangesError("no samples; give at least one drive or image")


def _session_with_outputs(model: ModelProto, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    watched = ModelProto()
    watched.CopyFrom(model)
    present = {output.name for output in watched.graph.output}
    inputs = {value.name for value in watched.graph.input}
    extra = [name for name in tensors if name not in present | inputs]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in extra)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, tensors: Sequence[str], feed: Feed) -> dict[str, NDArray[np.generic]]:
    computed = [name for name in tensors if name not in feed]
    values = dict(zip(computed, session.run(computed, dict(feed)), strict=True))
    return {name: feed[name] if name in feed else values[name] for name in tensors}


def _observe(
    session: onnxruntime.InferenceSession,
    tensors: Sequence[str],
    feeds: Sequence[Feed],
    progress: Callable[[int], None],
) -> dict[str, tuple[float, float]]:
    observed = dict.fromkeys(tensors, (np.inf, -np.inf))
    others = [output.name for output in session.get_outputs() if output.name not in observed]
    for done, feed in enumerate(feeds, 1):
        values = _run(session, [*tensors, *others], feed)
        for name in tensors:
            value = values[name]
            if value.size == 0:
                raise RangesError(f"tensor {name} holds nothing in sample {done}; such a network cannot be quantised")
            smallest, largest = float(value.min()), float(value.max())
            # Not one sample may pass: min() and max() of Python would lose a NaN on the way.
            if not (math.isfinite(smallest) and math.isfinite(largest)):
                took = f"took the values {smallest} to {largest} in sample {done}"
                raise RangesError(f"tensor {name} {took}; the network overflows there: repair it, or run it in FP32")
            low, high = observed[name]
            observed[name] = (min(low, smallest), max(high, largest))
        for name in others:
            if np.isnan(values[name]).any():
                raise RangesError(f"output {name} is not a number in sample {done}: the FP32 network itself is broken")
        progress(done)
    return observed


def _count(
    session: onnxruntime.InferenceSession,
    tensors: Sequence[str],
    feeds: Sequence[Feed],
    observed: Mapping[str, tuple[float, float]],
    progress: Callable[[int], None],
) -> dict[str, NDArray[np.int64]]:
    counts = {name: np.zeros(HISTOGRAM_BINS, np.int64) for name in tensors}
    for done, feed in enumerate(feeds, 1):
        for name, value in _run(session, tensors, feed).items():
            low, high = observed[name]
            if high > low:
                counts[name] += histogram(value, low, high)
        progress(done)
    return counts


def histogram(value: NDArray[np.generic], low: float, high: float) -> NDArray[np.int64]:
    """Counts in equal bins from `low` to `high`. OpenCV's is some ten times as fast as NumPy's."""
    data = np.ascontiguousarray(value, np.float32).reshape(-1, 1)
    # The upper end is not part of OpenCV's last bin.
    above = float(np.nextafter(np.float32(high), np.float32(np.inf)))
    return np.rint(cv2.calcHist([data], [0], None, [HISTOGRAM_BINS], [low, above])).astype(np.int64).reshape(-1)


def saturate(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges without what an activation behind the tensor makes nothing of anyway.

    SiLU (`x * sigmoid(x)`) of everything below -8 is within 0.003 of zero: steps spent there, and networks with SiLU
    reach far down, are lost to the values that count.
    """
    saturated = dict(ranges)
    for name, span in ranges.items():
        if span.low < SILU_IS_ZERO_BELOW and is_silu_input(graph, name):
            saturated[name] = replace(span, low=SILU_IS_ZERO_BELOW)
    return saturated


def is_silu_input(graph: Graph, tensor: str) -> bool:
    """Whether nothing reads the tensor but a SiLU, written as Sigmoid and Mul."""
    readers = graph.consumers.get(tensor, [])
    if tensor in graph.outputs or sorted(node.op_type for node in readers) != ["Mul", "Sigmoid"]:
        return False
    product, gate = sorted(readers, key=lambda node: str(node.op_type))
    return gate.output[0] in product.input
