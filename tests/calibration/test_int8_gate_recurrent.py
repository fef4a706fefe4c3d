"""A network with a state is run along the lead-in with its own states: `h' = gain * h + mean(image)`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.int8 import sampling
from calibration.int8.gate import AccuracyGate
from calibration.int8.sampling import Sample, from_arrays
from runtime.inference.manifest import Manifest

SIDE = 8
LEAD_IN = 4
FP32_GAIN, CANDIDATE_GAIN = 0.9, 0.8


def leaky_network(gain: float, batch: int) -> bytes:
    factor = numpy_helper.from_array(np.array([[gain]], np.float32), "gain")
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["means", "one_by_one"], ["mean"]),
        helper.make_node("Mul", ["held", "gain"], ["kept"]),
        helper.make_node("Add", ["kept", "mean"], ["next"]),
        helper.make_node("Mul", ["next", "zero"], ["nothing"]),
        helper.make_node("Concat", ["next", "nothing"], ["control"], axis=1),
    ]
    constants = [
        factor,
        numpy_helper.from_array(np.array([1, 1], np.int64), "one_by_one"),
        numpy_helper.from_array(np.zeros((1, 1), np.float32), "zero"),
    ]
    inputs = [
        helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, 3, SIDE, SIDE]),
        helper.make_tensor_value_info("held", TensorProto.FLOAT, [1, 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("control", TensorProto.FLOAT, [1, 2]),
        helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 1]),
    ]
    graph = helper.make_graph(nodes, "leaky", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def manifest(batch: int) -> Manifest:
    state = {"name": "held", "kind": "state", "output": "next", "shape": [1, 1]}
    images = {"name": "images", "kind": "images", "shape": [batch, 3, SIDE, SIDE], "dtype": "uint8"}
    return Manifest.model_validate(
        {
            "name": "leaky",
            "version": "1",
            "licence": "Apache-2.0",
            "source": "made by a test",
            "inputs": [images, state],
            "heads": [{"name": "control", "decoder": "control", "outputs": {"control": "control"}}],
            "files": {"fp32": {"path": "model.onnx", "sha256": "0" * 64}},
        }
    )


def sample(rows: int, value: int = 1) -> Sample:
    images = np.full((rows, 3, SIDE, SIDE), value, np.uint8)
    past = [sampling.Instant(images, np.ones(rows, np.bool_), {}) for _ in range(LEAD_IN)]
    return from_arrays(images, {}, "constant", lead_in=past)


def settled(gain: float) -> float:
    """What the state is after the lead-in and the sample, from zero on."""
    return sum(gain**step for step in range(LEAD_IN + 1))


@pytest.mark.parametrize(("batch", "rows"), [(2, 2), (1, 2)])
def test_what_a_file_does_to_its_states_adds_up(tmp_path: Path, batch: int, rows: int) -> None:
    fp32 = tmp_path / "model.onnx"
    fp32.write_bytes(leaky_network(FP32_GAIN, batch))
    gate = AccuracyGate(fp32, manifest(batch), [sample(rows)])
    score = next(
        score for score in gate.measure(leaky_network(CANDIDATE_GAIN, batch)).scores if score.metric == "accel_error"
    )
    assert score.value == pytest.approx(settled(FP32_GAIN) - settled(CANDIDATE_GAIN), rel=1e-5)
    assert score.count == (1 if batch > 1 else rows)
    assert not score.passes
    assert gate.measure(fp32).passes


def test_instants_without_any_camera_leave_the_state_alone(tmp_path: Path) -> None:
    fp32 = tmp_path / "model.onnx"
    fp32.write_bytes(leaky_network(FP32_GAIN, 2))
    gap = sample(2)
    gap.lead_in[1].present[:] = False
    gate = AccuracyGate(fp32, manifest(2), [gap])
    (score,) = (s for s in gate.measure(leaky_network(CANDIDATE_GAIN, 2)).scores if s.metric == "accel_error")
    shorter = [sum(gain**step for step in range(LEAD_IN)) for gain in (FP32_GAIN, CANDIDATE_GAIN)]
    assert score.value == pytest.approx(shorter[0] - shorter[1], rel=1e-5)
