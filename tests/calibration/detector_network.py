"""A small YOLOv8-like detector of ONNX operators: a backbone of SiLU convolutions and one decoupled head."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

HEIGHT, WIDTH, STRIDE = 64, 96, 8
CLASSES = ("car", "person", "sign")
CELLS = (HEIGHT // STRIDE) * (WIDTH // STRIDE)


def detector_network() -> ModelProto:
    """`images` [1, 3, 64, 96] in 0..1 to `output0` [1, 4 + 3, 96]; weights are random but always the same."""
    builder = _Builder()
    x = "images"
    for place, (inputs, outputs, stride) in enumerate(((3, 8, 2), (8, 16, 2), (16, 16, 2), (16, 16, 1))):
        x = builder.silu(builder.conv(f"block{place}", x, inputs, outputs, 3, stride))
    boxes = builder.conv("boxes", x, 16, 4, 1, 1, 0.3)
    scores = builder.conv("scores", x, 16, len(CLASSES), 1, 1, 1.2, bias=-2.0)
    flat_boxes = builder.flat(boxes, 4)
    offset = builder.node("Sigmoid", builder.node("Slice", flat_boxes, *builder.numbers((0,), (2,), (1,))))
    size = builder.node("Exp", builder.node("Slice", flat_boxes, *builder.numbers((2,), (4,), (1,))))
    centre = builder.node("Mul", builder.node("Add", offset, builder.floats(_grid())), builder.floats(STRIDE))
    wide = builder.node("Mul", size, builder.floats(2.0 * STRIDE))
    found = builder.node("Sigmoid", builder.flat(scores, len(CLASSES)))
    builder.nodes.append(helper.make_node("Concat", [centre, wide, found], ["output0"], axis=1))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + len(CLASSES), CELLS])
    graph = helper.make_graph(builder.nodes, "detector", [images], [output], builder.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _grid() -> np.ndarray:
    y, x = np.mgrid[0 : HEIGHT // STRIDE, 0 : WIDTH // STRIDE]
    return np.stack((x.reshape(-1), y.reshape(-1)))[None].astype(np.float32)


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self._generator = np.random.default_rng(11)

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def conv(
        self,
        name: str,
        source: str,
        inputs: int,
        outputs: int,
        side: int,
        stride: int,
        gain: float = 1.6,
        bias: float = 0,
    ) -> str:
        weight = self._generator.normal(0, gain / np.sqrt(inputs * side * side), (outputs, inputs, side, side))
        self._keep(weight.astype(np.float32), f"{name}.weight")
        self._keep(np.full(outputs, bias, np.float32), f"{name}.bias")
        arguments = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "strides": [stride, stride]}
        names = [source, f"{name}.weight", f"{name}.bias"]
        self.nodes.append(helper.make_node("Conv", names, [name], name=name, **arguments))
        return name

    def silu(self, source: str) -> str:
        return self.node("Mul", source, self.node("Sigmoid", source))

    def flat(self, source: str, channels: int) -> str:
        return self.node("Reshape", source, *self.numbers((1, channels, CELLS)))

    def floats(self, value: object) -> str:
        return self._keep(np.asarray(value, np.float32), f"float{len(self.constants)}")

    def numbers(self, *values: tuple[int, ...]) -> list[str]:
        return [self._keep(np.array(value, np.int64), f"number{len(self.constants)}") for value in values]

    def _keep(self, value: np.ndarray, name: str) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name
