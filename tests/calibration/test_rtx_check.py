"""Every kind of file that is emitted builds with tensorrt_rtx, and its convolutions run in INT8.

tensorrt_rtx builds without a GPU. Where it is not installed these tests skip: `pip install 'shadowrig[trt-check]'`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from small_networks import residual_network
from test_trt_lint import (
    with_float_weights,
    with_int32_bias,
    with_uint8,
    with_uncast_image,
    with_wrong_axis,
    with_zero_point,
)
from trt_networks import measured, shortcut_network, transposed_network, trt_file

from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.emit_trt import Body, emit_trt_qdq
from calibration.int8.graph import Graph, load_prepared
from calibration.int8.plan import make_plan
from calibration.int8.ranges import Feed, collect_ranges
from calibration.int8.rtx_check import BuildReport, RtxNotInstalledError, build_with_rtx, read_engine_log
from calibration.int8.trt_lint import lint_trt
from calibration.int8.trt_plan import trt_tensors

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: pip install 'shadowrig[trt-check]'")

HYDRA = Path(__file__).resolve().parents[2] / "runtime" / "models" / "hydra_mini" / "model.fp32.onnx"
BODIES: tuple[Body, ...] = ("fp32", "fp16")


def build(model: ModelProto, folder: Path) -> BuildReport:
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return build_with_rtx(path)


def random_feed(model: ModelProto) -> Feed:
    """Noise is enough here: whether a file builds does not hang on its scales."""
    generator, feed = np.random.default_rng(3), {}
    for value in model.graph.input:
        shape = [size.dim_value for size in value.type.tensor_type.shape.dim]
        pixels = generator.integers(0, 256, shape)
        is_bytes = value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        feed[value.name] = pixels.astype(np.uint8 if is_bytes else np.float32)
    return feed


def trt_file_of(path: Path, body: Body) -> tuple[ModelProto, int]:
    """A network's TensorRT file, and how many convolutions it has in INT8."""
    prepared = load_prepared(path)
    graph = Graph(prepared)
    plan = make_plan(graph)
    tensors = [*plan.measured, *trt_tensors(graph, plan)]
    ranges = collect_ranges(prepared, tensors, [random_feed(prepared)], "minmax", 100.0)
    return emit_trt_qdq(graph, plan, ranges, body), len(plan.convolutions)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("network", [residual_network, shortcut_network, transposed_network])
def test_a_small_network_builds_with_its_convolutions_in_int8(network, body: Body, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    report = build(trt_file(network(), body), tmp_path)
    assert report.errors == ()
    _graph, plan, _ranges = measured(network())
    assert len(report.int8_convolutions) == len(plan.convolutions)
    assert {"a"} <= set(report.int8_convolutions)


@pytest.mark.parametrize("body", BODIES)
def test_the_bundled_network_builds_with_fifteen_convolutions_in_int8(body: Body, tmp_path: Path) -> None:
    model, quantized = trt_file_of(HYDRA, body)
    report = build(model, tmp_path)
    assert report.errors == ()
    assert len(report.int8_convolutions) == quantized
    assert len(report.convolutions) == 18


@pytest.mark.real
@pytest.mark.parametrize(("name", "body"), [("yolox_nano", "fp32"), ("twinlitenet", "fp16")])
def test_networks_that_people_bring_build_with_their_convolutions_in_int8(
    name: str, body: Body, real_material: Path, tmp_path: Path
) -> None:
    model, quantized = trt_file_of(real_material / "models" / f"{name}.onnx", body)
    assert lint_trt(model) == []
    report = build(model, tmp_path)
    assert report.errors == ()
    # Where a planner learns to take transposed convolutions, the optimiser may make several kernels of one.
    assert len(report.int8_convolutions) >= 0.9 * quantized


def test_the_cpu_file_does_not_build_and_the_node_is_named(tmp_path: Path) -> None:
    report = build(emit_cpu_qdq(*measured(residual_network())), tmp_path)
    assert report.engine_bytes == 0
    assert "pixels_dequantize" in report.errors[0]


@pytest.mark.parametrize("put_in", [with_int32_bias, with_zero_point, with_uncast_image])
def test_the_builder_refuses_what_the_linter_refuses(put_in, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = trt_file(residual_network())
    put_in(model)
    assert lint_trt(model)
    report = build(model, tmp_path)
    assert report.errors
    assert report.engine_bytes == 0


@pytest.mark.parametrize(("put_in", "lost"), [(with_wrong_axis, "b"), (with_float_weights, "b")])
def test_the_builder_silently_leaves_int8_where_the_linter_warns(put_in, lost: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = trt_file(residual_network())
    assert lost in build(model, tmp_path).int8_convolutions
    put_in(model)
    assert lint_trt(model)
    report = build(model, tmp_path)
    assert report.errors == ()
    assert lost not in report.int8_convolutions


def test_the_builder_takes_uint8_for_int8_with_a_warning_only(tmp_path: Path) -> None:
    model = trt_file(residual_network())
    with_uint8(model)
    report = build(model, tmp_path)
    assert report.errors == ()  # and answers something else than ONNX Runtime: why the linter refuses it
    assert any("zero point" in warning.lower() or "int8" in warning.lower() for warning in report.warnings)


def test_an_engine_log_is_read_layer_by_layer() -> None:
    log = """Layers:
Name: a, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [1,3], Datatype: Int8, Format: (NHWC) }], Constants: [ { Name: w, Datatype: Int8 }, { Name: s, Datatype: Float }], Outputs: [ { Name: y, Datatype: Half }], Metadata: [ONNX Layer: conv1][ONNX Layer: relu1]
Name: b, LayerType: kgen, Inputs: [ { Name: y, Datatype: Half }], Constants: [], Outputs: [ { Name: z, Datatype: Int8 }], Metadata:
"""  # noqa: E501
    first, second = read_engine_log(log)
    assert first.onnx_nodes == ("conv1", "relu1")
    assert (first.inputs, first.constants, first.outputs) == (("Int8",), ("Int8", "Float"), ("Half",))
    assert first.is_int8
    assert first.convolves
    assert not second.convolves


def test_without_the_wheel_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "tensorrt_rtx", None)
    with pytest.raises(RtxNotInstalledError, match="trt-check"):
        build_with_rtx(tmp_path / "model.onnx")
