"""The file for TensorRT says what the CPU file says, on the bundled network and instants it was not calibrated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.int8.command import DEFAULT_PERCENTILE
from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.emit_trt import emit_trt_qdq
from calibration.int8.graph import Graph, load_prepared
from calibration.int8.plan import make_plan
from calibration.int8.ranges import Feed, collect_ranges
from calibration.int8.trt_agreement import trt_agreement
from calibration.int8.trt_plan import trt_tensors
from calibration.training import dataset
from replay.synthetic import labelled_instants

NETWORK = Path(__file__).resolve().parents[2] / "runtime" / "models" / "hydra_mini" / "model.fp32.onnx"
LOWEST_COSINE = 0.999
CALIBRATED, HELD_OUT = 5, 1


@pytest.fixture(scope="module")
def feeds() -> list[Feed]:
    count = CALIBRATED + HELD_OUT
    data = dataset.pack(labelled_instants(seed=9912, count=count, size=dataset.SOURCE_SIZE), 9912, count)
    speeds = [np.array([[speed]], np.float32) for speed in data.scalars["speed_mps"]]
    return [{"images": np.asarray(data.images[i]), "speed_mps": speed} for i, speed in enumerate(speeds)]


def test_every_output_of_the_bundled_network_agrees_with_the_cpu_file(feeds: list[Feed]) -> None:
    prepared = load_prepared(NETWORK)
    graph = Graph(prepared)
    plan = make_plan(graph)
    tensors = [*plan.measured, *trt_tensors(graph, plan)]
    ranges = collect_ranges(prepared, tensors, feeds[:CALIBRATED], "percentile", DEFAULT_PERCENTILE)
    cpu = emit_cpu_qdq(graph, plan, ranges)
    for body in ("fp32", "fp16"):
        found = trt_agreement(cpu, emit_trt_qdq(graph, plan, ranges, body), feeds[CALIBRATED:])
        assert set(found) == {output.name for output in prepared.graph.output}
        assert {name: value for name, value in found.items() if value < LOWEST_COSINE} == {}, body


def test_without_feeds_there_is_no_agreement() -> None:
    model = load_prepared(NETWORK)
    with pytest.raises(ValueError, match="held-out"):
        trt_agreement(model, model, [])
