"""Which operators ONNX Runtime runs faster in INT8 than in FP32 here: the facts behind `calibration.int8.plan`.

    python -m tests.benchmarks.int8_operators

Each operator stands between two quantise/dequantise pairs, as it would inside an INT8 network, and runs against itself
in floating point, both on one thread, taking turns. `kernel` is what ONNX Runtime made of it: a name without `QLinear`,
`QGemm` or `Integer` says that there is no integer kernel, and the tensor was turned to float and back.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

ROUNDS = 60
#: name: (operator, input shape, weight shape, attributes)
CASES: dict[str, tuple[str, list[int], list[int], dict[str, object]]] = {
    "3x3, 16 -> 16": ("Conv", [1, 16, 104, 104], [16, 16, 3, 3], {"pads": [1] * 4}),
    "3x3, 64 -> 64": ("Conv", [1, 64, 52, 52], [64, 64, 3, 3], {"pads": [1] * 4}),
    "1x1, 32 -> 32": ("Conv", [1, 32, 52, 52], [32, 32, 1, 1], {}),
    "1x1, 256 -> 256": ("Conv", [1, 256, 13, 13], [256, 256, 1, 1], {}),
    "3x3 depthwise, 64": ("Conv", [1, 64, 52, 52], [64, 1, 3, 3], {"pads": [1] * 4, "group": 64}),
    "2x2 transposed, 32 -> 16": ("ConvTranspose", [1, 32, 45, 80], [32, 16, 2, 2], {"strides": [2, 2]}),
    "PReLU, 64": ("PRelu", [1, 64, 90, 160], [64, 1, 1], {}),
    "product, 1 x 256 x 256": ("MatMul", [1, 256], [256, 256], {}),
    "product, 1 x 1024 x 1024": ("MatMul", [1, 1024], [1024, 1024], {}),
    "product, 64 x 512 x 512": ("MatMul", [64, 512], [512, 512], {}),
    "sigmoid, 64": ("Sigmoid", [1, 64, 52, 52], [], {}),
}


def network(operator: str, shape: list[int], weight_shape: list[int], attributes: dict[str, object], quantised: bool):  # type: ignore[no-untyped-def]
    """uint8 in, uint8 out when quantised; float in, float out when not."""
    generator = np.random.default_rng(0)
    weight = generator.normal(0, 0.1, weight_shape).astype(np.float32)
    constants: dict[str, np.ndarray] = {}
    nodes: list[NodeProto] = []
    names = ["data"]
    if quantised:
        constants = {"scale": np.float32(0.02), "zero": np.uint8(128), "weight_zero": np.int8(0)}
        nodes.append(helper.make_node("DequantizeLinear", ["data", "scale", "zero"], ["x"]))
        names = ["x"]
    if weight_shape and quantised and operator != "PRelu":
        constants |= {"w_q": np.clip(np.rint(weight / 0.004), -127, 127).astype(np.int8), "w_scale": np.float32(0.004)}
        nodes.append(helper.make_node("DequantizeLinear", ["w_q", "w_scale", "weight_zero"], ["w"]))
        names.append("w")
    elif weight_shape:
        constants["w"] = weight
        names.append("w")
    result = "y" if quantised else "result"
    nodes.append(helper.make_node(operator, names, [result], **attributes))
    if quantised:
        nodes.append(helper.make_node("QuantizeLinear", ["y", "scale", "zero"], ["result"]))
    kind = TensorProto.UINT8 if quantised else TensorProto.FLOAT
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    data = helper.make_tensor_value_info("data", kind, shape)
    out = helper.make_tensor_value_info("result", kind, None)
    graph = helper.make_graph(nodes, operator, [data], [out], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def session(model: ModelProto) -> onnxruntime.InferenceSession:
    """Open on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def kernels_of(model: ModelProto) -> str:
    """The operators that ONNX Runtime made of a model."""
    import tempfile
    from pathlib import Path

    import onnx

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    found = [node.op_type for node in nodes if node.op_type not in ("Transpose", "QuantizeLinear", "DequantizeLinear")]
    return ", ".join(found)


def measure(case: str) -> tuple[float, float, str]:
    """Median microseconds in FP32 and INT8, and the INT8 kernel's name."""
    floating, integer = (network(*CASES[case], quantised) for quantised in (False, True))
    sessions = [session(floating), session(integer)]
    generator = np.random.default_rng(1)
    shape = CASES[case][1]
    data = [
        generator.normal(0, 1, shape).astype(np.float32), generator.integers(0, 256, shape).astype(np.uint8)
    ]  # fmt: skip
    spent: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for index in (0, 1):
            started = time.perf_counter()
            sessions[index].run(None, {"data": data[index]})
            spent[index].append((time.perf_counter() - started) * 1e6)
    return statistics.median(spent[0]), statistics.median(spent[1]), kernels_of(integer)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description="INT8 against FP32, operator by operator.").parse_args()
    table = Table("operator", "FP32 µs", "INT8 µs", "times as fast", "kernel", title="INT8 by operator, one thread")
    for case in CASES:
        floating, integer, kernel = measure(case)
        table.add_row(case, f"{floating:.0f}", f"{integer:.0f}", f"{floating / integer:.2f}", kernel)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
