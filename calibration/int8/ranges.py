"""Activation ranges: measured by running the FP32 network on samples, kept in `ranges.json`, read by every emission.

Two passes over the samples: the first finds each tensor's smallest and largest value, the second counts a histogram of
`HISTOGRAM_BINS` bins between them. `percentile` cuts both tails so that `percentile` per cent of the values lie below
the upper and above the lower end; `minmax` keeps everything. A range always contains zero, because zero (padding, ReLU)
must be exact.

The file holds what was measured and from what, so that it can be audited and emitted again:
`{"format": 1, "model_sha256", "method", "percentile", "samples", "sample_sha256", "seed", "tensors": {name: {"low",
"high", "observed_low", "observed_high"}}}`. Memory is bounded by one sample's activations plus the histograms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

HISTOGRAM_BINS = 4096
METHODS = ("percentile", "minmax")
FORMAT = 1

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

    def save(self, path: Path) -> None:
        document = {"format": FORMAT, **asdict(self)}
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> RangesFile:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document.pop("format") != FORMAT:
                raise RangesError(f"{path}: format is not {FORMAT}; calibrate again with this version")
            tensors = {name: Range(**value) for name, value in document.pop("tensors").items()}
            return RangesFile(tensors=tensors, **document)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise RangesError(f"{path}: not a ranges file ({error}); calibrate again") from error


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
    total = len(feeds) * (2 if method == "percentile" else 1)
    observed = _observe(session, tensors, feeds, lambda done: progress(done, total))
    if method == "minmax":
        return {name: _with_zero(low, high, low, high) for name, (low, high) in observed.items()}
    counts = _count(session, tensors, feeds, observed, lambda done: progress(len(feeds) + done, total))
    return {name: _cut(counts[name], *observed[name], percentile) for name in tensors}


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
    for done, feed in enumerate(feeds, 1):
        for name, value in _run(session, tensors, feed).items():
            low, high = observed[name]
            observed[name] = (min(low, float(value.min())), max(high, float(value.max())))
        progress(done)
    for name, (low, high) in observed.items():
        if not (np.isfinite(low) and np.isfinite(high)):
            raise RangesError(f"tensor {name} took the value {low} to {high}; the network overflows on these samples")
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
                counts[name] += np.histogram(value, bins=HISTOGRAM_BINS, range=(low, high))[0]
        progress(done)
    return counts


def _cut(counts: NDArray[np.int64], low: float, high: float, percentile: float) -> Range:
    total = int(counts.sum())
    if total == 0 or percentile >= 100.0:
        return _with_zero(low, high, low, high)
    width = (high - low) / HISTOGRAM_BINS
    share = np.cumsum(counts) / total
    upper = low + width * (int(np.searchsorted(share, percentile / 100.0)) + 1)
    lower = low + width * int(np.searchsorted(share, 1.0 - percentile / 100.0, side="right"))
    return _with_zero(lower, min(upper, high), low, high)


def _with_zero(low: float, high: float, observed_low: float, observed_high: float) -> Range:
    return Range(min(0.0, low), max(0.0, high), observed_low, observed_high)
