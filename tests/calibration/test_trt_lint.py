"""The linter names what TensorRT refuses: one fault is put into a good file at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from small_networks import residual_network
from trt_networks import measured, trt_file

from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.trt_lint import lint_trt
from runtime.cli import main


def set_constant(model: ModelProto, name: str, value: np.ndarray) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    raise KeyError(name)


def node_of(model: ModelProto, output: str) -> NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def with_int32_bias(model: ModelProto) -> None:
    bias = numpy_helper.from_array(np.ones(8, np.int32), "bias_integers")
    scale = numpy_helper.from_array(np.full(8, 0.01, np.float32), "bias_scale")
    model.graph.initializer.extend([bias, scale])
    pair = helper.make_node("DequantizeLinear", ["bias_integers", "bias_scale"], ["bias_float"], "bias_dq", axis=0)
    model.graph.node.insert(0, pair)
    node_of(model, "a").input[2] = "bias_float"


def with_zero_point(model: ModelProto) -> None:
    set_constant(model, "pixels_zero_point", np.array(5, np.int8))


def with_uint8(model: ModelProto) -> None:
    set_constant(model, "pixels_zero_point", np.array(0, np.uint8))


def with_channel_scales(model: ModelProto) -> None:
    set_constant(model, "pixels_scale", np.full(3, 0.01, np.float32))
    set_constant(model, "pixels_zero_point", np.zeros(3, np.int8))


def with_wrong_axis(model: ModelProto) -> None:
    set_constant(model, "b.weight_scale", np.full(8, 0.01, np.float32))
    for name in ("b.weight_quantized", "b.weight_dequantized"):
        node_of(model, name).attribute[0].i = 1


def with_zero_scale(model: ModelProto) -> None:
    set_constant(model, "pixels_scale", np.array(0, np.float32))


def with_negative_scale(model: ModelProto) -> None:
    set_constant(model, "pixels_scale", np.array(-0.5, np.float32))


def with_subnormal_scale(model: ModelProto) -> None:
    scale = np.full(8, 0.01, np.float32)
    scale[2] = 1e-40
    set_constant(model, "b.weight_scale", scale)


def with_infinite_scale(model: ModelProto) -> None:
    set_constant(model, "pixels_scale", np.array(np.inf, np.float32))


def with_dynamic_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def with_unknown_operator(model: ModelProto) -> None:
    node_of(model, "mask").op_type = "Hardmax"


def with_foreign_operator(model: ModelProto) -> None:
    node_of(model, "mask").domain = "com.microsoft"


def with_int64_output(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


def with_uncast_image(model: ModelProto) -> None:
    node_of(model, "cast").op_type = "Identity"
    del node_of(model, "cast").attribute[:]


def with_float_weights(model: ModelProto) -> None:
    node_of(model, "b").input[1] = "b.weight"


def with_computed_weights(model: ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Neg", ["b.weight"], ["negative"], "negate"))
    node_of(model, "b.weight_quantized").input[0] = "negative"


def with_pool_indices(model: ModelProto) -> None:
    node_of(model, "pooled").output.append("indices")


def with_two_scales_in_a_pair(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "other"))
    node_of(model, "pixels_dequantized").input[1] = "other"


FAULTS: list[tuple[Callable[[ModelProto], None], str]] = [
    (with_int32_bias, "DequantizeLinear bias_dq: dequantises int32 .* keep the bias in floating point"),
    (with_zero_point, "QuantizeLinear pixels_quantize: zero point is 5; .* zero point 0"),
    (with_uint8, "QuantizeLinear pixels_quantize: quantises to uint8; .* emit the TensorRT file"),
    (with_channel_scales, "QuantizeLinear pixels_quantize: has 3 scales for a computed tensor; .* per tensor"),
    (with_wrong_axis, "Conv b: weights are quantised along axis 1 .* axis 0"),
    (with_zero_scale, "QuantizeLinear pixels_quantize: scale is 0; it must be positive"),
    (with_negative_scale, "QuantizeLinear pixels_quantize: scale is -0.5; it must be positive"),
    (with_subnormal_scale, "QuantizeLinear b.weight_quantize: scale is 1e-40, below .* raise it"),
    (with_infinite_scale, "QuantizeLinear pixels_quantize: scale is inf .* FP32 body"),
    (with_dynamic_batch, "input images: axis 0 is batch; .* fixed shapes"),
    (with_unknown_operator, "Hardmax mask: TensorRT has no Hardmax; write it"),
    (with_foreign_operator, "Sigmoid mask: belongs to com.microsoft, .* ONNX's own"),
    (with_int64_output, "output mask: type int64, .* Cast"),
    (with_uncast_image, "input images: uint8 is read by Identity cast; .* put a Cast between"),
    (with_float_weights, "Conv b: data is INT8 but weights b.weight are not; .* quantise both"),
    (with_computed_weights, "Conv b: weights b.weight_dequantized are computed; .* keep it in float"),
    (with_pool_indices, r"MaxPool pooled: writes indices \(indices\), .* return_indices"),
    (with_two_scales_in_a_pair, "DequantizeLinear pixels_dequantize: scale differs .* same constant"),
]


@pytest.mark.parametrize(("put_in", "expected"), FAULTS, ids=[put_in.__name__ for put_in, _ in FAULTS])
def test_a_fault_is_named_with_its_node_its_value_and_its_fix(
    put_in: Callable[[ModelProto], None], expected: str
) -> None:
    model = trt_file(residual_network())
    assert lint_trt(model) == []
    put_in(model)
    findings = lint_trt(model)
    assert any(_matches(expected, finding) for finding in findings), findings


def _matches(expected: str, finding: str) -> bool:
    place, _, rest = expected.partition(": ")
    return finding.startswith(f"{place}: ") and re.search(rest, finding) is not None


def test_the_cpu_file_is_refused_for_its_bytes_and_its_biases() -> None:
    findings = "\n".join(lint_trt(emit_cpu_qdq(*measured(residual_network()))))
    assert "quantises to uint8" in findings
    assert "dequantises int32" in findings


def test_the_command_prints_findings_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    onnx.save(trt_file(residual_network()), str(good))
    onnx.save(emit_cpu_qdq(*measured(residual_network())), str(bad))
    assert main(["calibrate", "lint", str(good)]) == 0
    assert "nothing that TensorRT refuses" in capsys.readouterr().out
    assert main(["calibrate", "lint", str(bad)]) == 1
    assert "DequantizeLinear" in capsys.readouterr().out


def test_a_file_that_is_no_onnx_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no protobuf at all")
    assert main(["calibrate", "lint", str(path)]) == 2
    assert "broken.onnx" in capsys.readouterr().err


def test_a_file_without_a_graph_or_without_its_weights_is_not_called_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, external = tmp_path / "empty.onnx", tmp_path / "external.onnx"
    empty.touch()
    onnx.save_model(
        residual_network(), str(external), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "weights.bin").unlink()
    for path, word in ((empty, "holds no ONNX graph"), (external, "weights.bin")):
        assert main(["calibrate", "lint", str(path)]) == 2
        assert word in capsys.readouterr().err
