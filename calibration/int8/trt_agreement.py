"""How far a file for TensorRT says what the CPU file says, output by output.

Both come from one `ranges.json`, so they differ in resolution only: the CPU file maps a range onto 256 steps wherever
it lies, TensorRT's symmetric int8 onto 127 each side of zero, of which a tensor behind a ReLU uses one side. Where
outliers stretch the ranges (`minmax` on the bundled network: to 61 where 99.999 % of the values lie below 17) that half
is missed, and the outputs drift apart to 0.997; with percentile 99.999 they stay above 0.999.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from calibration.int8.emulation import EmulatedNetwork
from calibration.int8.ranges import Feed


def trt_agreement(cpu: ModelProto, trt: ModelProto, feeds: Sequence[Feed]) -> dict[str, float]:
    """Mean cosine by output: the CPU file as it is run, the TensorRT file emulated; ValueError without feeds."""
    if not feeds:
        raise ValueError("no held-out feeds to compare the TensorRT file on; ask for more samples")
    session = onnxruntime.InferenceSession(cpu.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    network = EmulatedNetwork(trt)
    found: dict[str, list[float]] = {name: [] for name in names}
    for feed in feeds:
        answers = network.run(feed)
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            found[name].append(_cosine(value, answers[name]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _cosine(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    a, b = np.asarray(first, np.float64).reshape(-1), np.asarray(second, np.float64).reshape(-1)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else float(np.array_equal(a, b))
