"""Makes bundles with many heads on the backbone of hydra_mini, as HydraNets have: for `thirty_heads.py`.

A head is real: convolutions of its own on the backbone's features, outputs of its own, and a decoder of the runtime.
Three kinds take turns, each on the stride that suits it: detection (3x3 on stride 16, heat and boxes), segmentation
(1x1 on stride 8, two planes) and classification (3x3 on stride 32, pooled over all cameras). The detection head comes
first, so that the bundle with one head has one. Weights are random, as cost does not depend on them; what decoding
costs depends on how much is found, so the bias of each detection head is set such that it finds about
`FOUND_PER_CAMERA` peaks in each image of real frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import yaml
from onnx import NodeProto, TensorProto, helper, numpy_helper

from runtime.composition import find_bundle

#: The backbone's features by stride, as hydra_mini's graph names them, with their channels.
FEATURES = {
    8: ("/network/backbone/Add_1_output_0", 64),
    16: ("/network/backbone/reduce16/reduce16.2/Relu_output_0", 64),
    32: ("/network/backbone/context32/context32.2/Relu_output_0", 128),
}
KINDS = ("detection", "segmentation", "classification")
WIDTH = 16  # channels of a head's own features
CLASSES = 3
FOUND_PER_CAMERA = 4
SCORE_THRESHOLD = 0.5
IMAGES = (8, 3, 192, 320)


class _Graph:
    """hydra_mini's backbone, with heads put on."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.backbone = onnx.load(str(find_bundle("hydra_mini") / "model.fp32.onnx"))
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.outputs: dict[str, Sequence[int]] = {}
        self.heads: list[dict[str, Any]] = []

    def convolution(self, source: str, name: str, channels: tuple[int, int], side: int, bias: float = 0.0) -> str:
        inside, outside = channels
        scale = np.sqrt(2.0 / (inside * side * side))
        self._constant(f"{name}.weight", self._random.normal(0.0, scale, (outside, inside, side, side)))
        self._constant(f"{name}.bias", np.full(outside, bias))
        pads = [side // 2] * 4
        self._node("Conv", [source, f"{name}.weight", f"{name}.bias"], name, kernel_shape=[side, side], pads=pads)
        return name

    def relu(self, source: str) -> str:
        return self._node("Relu", [source], f"{source}.relu")

    def sigmoid(self, source: str, output: str, shape: Sequence[int]) -> None:
        self.outputs[output] = shape
        self._node("Sigmoid", [source], output)

    def add(self, number: int, biases: Sequence[float]) -> None:
        kind, name = KINDS[number % len(KINDS)], f"head{number}"
        getattr(self, f"_{kind}")(name, biases[number])

    def _detection(self, name: str, bias: float) -> None:
        source, channels = FEATURES[16]
        own = self.relu(self.convolution(source, f"{name}.tower", (channels, WIDTH), 3))
        heat = self.convolution(own, f"{name}.heat", (WIDTH, CLASSES), 1, bias)
        box = self.relu(self.convolution(own, f"{name}.size", (WIDTH, 4), 1, 1.0))
        self.sigmoid(heat, f"{name}_heatmap", (8, CLASSES, 12, 20))
        self.outputs[f"{name}_box"] = (8, 4, 12, 20)
        self._node("Identity", [box], f"{name}_box")
        outputs = {"heatmap": f"{name}_heatmap", "box": f"{name}_box"}
        classes = [f"{name}_class{index}" for index in range(CLASSES)]
        head = {"name": name, "decoder": "hydra_detections", "outputs": outputs, "classes": classes}
        self.heads.append({**head, "score_threshold": SCORE_THRESHOLD, "iou_threshold": 0.55})

    def _segmentation(self, name: str, bias: float) -> None:
        source, channels = FEATURES[8]
        own = self.relu(self.convolution(source, f"{name}.tower", (channels, WIDTH), 1))
        self.sigmoid(self.convolution(own, f"{name}.out", (WIDTH, 2), 1), f"{name}_mask", (8, 2, 24, 40))
        classes = [f"{name}_class{index}" for index in range(2)]
        outputs = {"mask": f"{name}_mask"}
        self.heads.append({"name": name, "decoder": "segmentation", "outputs": outputs, "classes": classes})

    def _classification(self, name: str, bias: float) -> None:
        source, channels = FEATURES[32]
        own = self.relu(self.convolution(source, f"{name}.tower", (channels, WIDTH), 3))
        told = self.convolution(own, f"{name}.out", (WIDTH, CLASSES), 1)
        pooled = self._node("ReduceMean", [told], f"{name}.pooled", axes=[0, 2, 3], keepdims=0)
        self._row(pooled, f"{name}.logits")
        self.outputs[f"{name}_classes"] = (1, CLASSES)
        self._node("Softmax", [f"{name}.logits"], f"{name}_classes", axis=1)
        classes = [f"class{index}" for index in range(CLASSES)]
        outputs = {"probabilities": f"{name}_classes"}
        self.heads.append({"name": name, "decoder": "classification", "outputs": outputs, "classes": classes})

    def _row(self, vector: str, output: str) -> None:
        if not any(weight.name == "first_axis" for weight in self.weights):
            self.weights.append(numpy_helper.from_array(np.array([0], np.int64), "first_axis"))
        self._node("Unsqueeze", [vector, "first_axis"], output)

    def _constant(self, name: str, values: Any) -> None:
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def model(self) -> onnx.ModelProto:
        """Backbone and heads, without what none of the heads needs."""
        graph = self.backbone.graph
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.weights)
        del graph.output[:]
        graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self.outputs.items()
        )
        images = next(value for value in graph.input if value.name == "images")
        del graph.input[:]
        graph.input.append(images)
        _prune(graph)
        onnx.checker.check_model(self.backbone)
        return self.backbone


def write_many_heads(folder: Path, count: int, frames: Sequence[np.ndarray], seed: int = 0) -> Path:
    """A bundle with `count` heads; `frames` (uint8 `[8, 3, 192, 320]`) are what detection heads are adjusted to."""
    folder.mkdir(parents=True)
    zero = [0.0] * count
    biases = _biases(_built(count, zero, seed).model(), count, frames)
    graph = _built(count, biases, seed)
    content = graph.model().SerializeToString()
    (folder / "model.fp32.onnx").write_bytes(content)
    manifest = {
        "name": f"heads_{count}",
        "version": "1",
        "licence": "Apache-2.0",
        "source": "made by tests/benchmarks on the backbone of hydra_mini; its heads are not trained",
        "inputs": [{"name": "images", "kind": "images", "shape": list(IMAGES), "dtype": "uint8"}],
        "heads": graph.heads,
        "files": {"fp32": {"path": "model.fp32.onnx", "sha256": hashlib.sha256(content).hexdigest()}},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder


def _built(count: int, biases: Sequence[float], seed: int) -> _Graph:
    graph = _Graph(seed)
    for number in range(count):
        graph.add(number, biases)
    return graph


def _biases(model: onnx.ModelProto, count: int, frames: Sequence[np.ndarray]) -> list[float]:
    """By head: what to add to its heat so that so many cells reach the threshold; a peak is a few cells wide."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    biases = [0.0] * count
    for number in range(0, count, len(KINDS)):
        name = f"head{number}_heatmap"
        heat = np.concatenate([session.run([name], {"images": images})[0] for images in frames])
        logits = np.log(heat / np.maximum(1.0 - heat, 1e-7) + 1e-7)
        share = FOUND_PER_CAMERA / (CLASSES * 12 * 20)
        biases[number] = -float(np.quantile(logits, 1.0 - share))
    return biases


def _prune(graph: onnx.GraphProto) -> None:
    """Take out nodes and weights that no output depends on."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [weight for weight in graph.initializer if weight.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    del graph.value_info[:]
