"""Small real networks for each way in which a network may take its inputs, and what plain ONNX Runtime says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from runtime.rig import Rig, RigCamera
from runtime.rotations import looking
from tests.runtime.inference.tiny_networks import ELEMENT_TYPES, SIDE, mean_manifest

CHANNELS = 4  # of the ConvGRU's hidden state
LEAK = 0.75


def separate_network(cameras: int, dtype: str = "uint8") -> onnx.ModelProto:
    """`mean_network` with an input `image_i` [1, 3, SIDE, SIDE] for each camera instead of one batch."""
    names = [f"image_{index}" for index in range(cameras)]
    nodes = [
        helper.make_node("Concat", names, ["images"], axis=0),
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["means"], ["scene"], axes=[0], keepdims=1),
        helper.make_node("Concat", ["scene", "speed_mps"], ["control"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], [1, 3, SIDE, SIDE]) for name in names]
    inputs.append(helper.make_tensor_value_info("speed_mps", TensorProto.FLOAT, [1, 1]))
    outputs = [_floats("means", [cameras, 3]), _floats("control", [1, 4])]
    return build(nodes, inputs, outputs)


def separate_manifest(cameras: int, **images: object) -> dict[str, object]:
    """The manifest of `separate_network`, without files."""
    manifest = mean_manifest(1, **images)
    first, speed = manifest["inputs"]  # type: ignore[misc]
    manifest["inputs"] = [*({**first, "name": f"image_{index}"} for index in range(cameras)), speed]
    return manifest


def leaky_network(batch: int) -> onnx.ModelProto:
    """A leaky integrator: `seen_next` = LEAK * `seen` + (1 - LEAK) * channel means, all `[batch, 3]`."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["seen", "leak"], ["kept"]),
        helper.make_node("Mul", ["means", "gain"], ["new"]),
        helper.make_node("Add", ["kept", "new"], ["seen_next"]),
        helper.make_node("Mul", ["seen_next", "two"], ["twice"]),
    ]
    constants = [_constant("leak", LEAK), _constant("gain", 1.0 - LEAK), _constant("two", 2.0)]
    inputs = [_images(batch), _floats("seen", [batch, 3])]
    return build(nodes, inputs, [_floats("seen_next", [batch, 3]), _floats("twice", [batch, 3])], constants)


def conv_gru_network(batch: int) -> onnx.ModelProto:
    """A convolutional GRU (Ballas et al., 2016) over the image: `hidden` -> `hidden_next`, and `mean_hidden`."""
    generator = np.random.default_rng(5)
    shape = (CHANNELS, 3 + CHANNELS, 3, 3)
    constants = [
        numpy_helper.from_array(generator.normal(0, 0.4, shape).astype(np.float32), f"{gate}_weight")
        for gate in ("update", "reset", "candidate")
    ]
    constants += [_constant("scale", 1 / 255), _constant("one", 1.0)]

    def conv(gate: str, source: str) -> onnx.NodeProto:
        return helper.make_node("Conv", [source, f"{gate}_weight"], [f"{gate}_sum"], kernel_shape=[3, 3], pads=[1] * 4)

    nodes = [
        helper.make_node("Cast", ["images"], ["raw"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["raw", "scale"], ["pixels"]),
        helper.make_node("Concat", ["pixels", "hidden"], ["both"], axis=1),
        conv("update", "both"),
        helper.make_node("Sigmoid", ["update_sum"], ["update"]),
        conv("reset", "both"),
        helper.make_node("Sigmoid", ["reset_sum"], ["reset"]),
        helper.make_node("Mul", ["reset", "hidden"], ["remembered"]),
        helper.make_node("Concat", ["pixels", "remembered"], ["reminded"], axis=1),
        conv("candidate", "reminded"),
        helper.make_node("Tanh", ["candidate_sum"], ["candidate"]),
        helper.make_node("Mul", ["update", "hidden"], ["old"]),
        helper.make_node("Sub", ["one", "update"], ["share"]),
        helper.make_node("Mul", ["share", "candidate"], ["new"]),
        helper.make_node("Add", ["old", "new"], ["hidden_next"]),
        helper.make_node("ReduceMean", ["hidden_next"], ["mean_hidden"], axes=[2, 3], keepdims=0),
    ]
    hidden = [batch, CHANNELS, SIDE, SIDE]
    outputs = [_floats("hidden_next", hidden), _floats("mean_hidden", [batch, CHANNELS])]
    return build(nodes, [_images(batch), _floats("hidden", hidden)], outputs, constants)


def flag_network(batch: int, dtype: str) -> onnx.ModelProto:
    """Turns each element of a state [3] of this type over: `shown` says the state as it came in, as numbers."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["pixels"], ["seen"]),
        helper.make_node("Cast", ["state"], ["shown"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "shown"], ["turned"]),
        helper.make_node("Cast", ["turned"], ["state_next"], to=element),
    ]
    inputs = [_images(batch), helper.make_tensor_value_info("state", element, [3])]
    outputs = [
        _floats("shown", [3]),
        helper.make_tensor_value_info("state_next", element, [3]),
        _floats("seen", [batch, 3, SIDE, SIDE]),
    ]
    return build(nodes, inputs, outputs, [_constant("one", 1.0)])


def recurrent_manifest(
    batch: int, state: Mapping[str, object], outputs: Sequence[str], **more: object
) -> dict[str, object]:
    """A manifest for networks with one state, whose `outputs` are handed on raw."""
    manifest = mean_manifest(batch)
    images, _ = manifest["inputs"]  # type: ignore[misc]
    manifest["inputs"] = [images, {"kind": "state", **state, **more}]
    manifest["heads"] = [{"name": name, "decoder": "raw", "outputs": {"tensor": name}} for name in outputs]
    return manifest


def leaky_manifest(batch: int, outputs: Sequence[str] = ("twice",), **more: object) -> dict[str, object]:
    return recurrent_manifest(batch, {"name": "seen", "output": "seen_next", "shape": [batch, 3]}, outputs, **more)


def conv_gru_manifest(batch: int, outputs: Sequence[str] = ("mean_hidden",), **more: object) -> dict[str, object]:
    shape = [batch, CHANNELS, SIDE, SIDE]
    return recurrent_manifest(batch, {"name": "hidden", "output": "hidden_next", "shape": shape}, outputs, **more)


def calibrated_network(batch: int) -> onnx.ModelProto:
    """Says the matrices that it was given: `matrices` [batch, 9 + 16 + 12]."""
    sizes = {"intrinsics": (3, 3), "extrinsics": (4, 4), "projection": (3, 4)}
    nodes = [helper.make_node("Flatten", [name], [f"{name}_flat"], axis=1) for name in sizes]
    nodes += [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Concat", [f"{name}_flat" for name in sizes], ["matrices"], axis=1),
    ]
    inputs = [_images(batch), *(_floats(name, [batch, *size]) for name, size in sizes.items())]
    return build(nodes, inputs, [_floats("matrices", [batch, 37]), _floats("means", [batch, 3])])


def calibrated_manifest(batch: int, **more: object) -> dict[str, object]:
    manifest = mean_manifest(batch)
    images, _ = manifest["inputs"]  # type: ignore[misc]
    sizes = {"intrinsics": (3, 3), "extrinsics": (4, 4), "projection": (3, 4)}
    manifest["inputs"] = [
        images,
        *(
            {"name": name, "kind": "calibration", "what": name, "shape": [batch, *size], **more}
            for name, size in sizes.items()
        ),
    ]
    manifest["heads"] = [
        {"name": name, "decoder": "raw", "outputs": {"tensor": name}} for name in ("matrices", "means")
    ]
    return manifest


def rig_of(cameras: Sequence[str], width: int = 160, height: int = 120) -> Rig:
    """Cameras that all look somewhere else, with their own focal lengths."""
    return Rig(
        "bench",
        tuple(
            RigCamera(
                name=name,
                role="",
                width=width,
                height=height,
                fx=100.0 + index,
                fy=110.0 + index,
                cx=width / 2 + index,
                cy=height / 2 - index,
                distortion=(0.0,) * 5,
                rotation=looking(30.0 * index, 2.0),
                translation_m=(1.0, 0.1 * index, 1.4),
                rate_hz=20.0,
            )
            for index, name in enumerate(cameras)
        ),
    )


def plain_loop(
    path: Path, feeds: Sequence[Mapping[str, np.ndarray]], states: Mapping[str, str], initial: Mapping[str, np.ndarray]
) -> list[dict[str, np.ndarray]]:
    """What a user writes by hand: a loop that puts state outputs back in (`states`: input -> output)."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    held, said = dict(initial), []
    for feed in feeds:
        outputs = dict(zip(names, session.run(names, {**feed, **held}), strict=True))
        held = {name: outputs[output] for name, output in states.items()}
        said.append(outputs)
    return said


def build(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "inputs", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _images(batch: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, 3, SIDE, SIDE])


def _floats(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _constant(name: str, value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)
