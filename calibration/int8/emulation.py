"""Runs a file for TensorRT with ONNX Runtime on the CPU, as the pairs say and not as ONNX Runtime would like to.

Optimisation is off: from level "basic" on, ONNX Runtime quantises the float biases of such a file by itself (to int32,
with the product of the scales, which underflows in FP16) and answers something that no TensorRT would. What this shows
is the arithmetic of the file. TensorRT sums in the same integers, but may round where kernels are fused differently.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto


class EmulatedNetwork:
    """A TensorRT file, open for running on the CPU."""

    def __init__(self, model: ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feed: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Outputs by name."""
        return dict(zip(self._names, self._session.run(self._names, dict(feed)), strict=True))


def emulate(model: ModelProto, feed: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Outputs of one run."""
    return EmulatedNetwork(model).run(feed)
