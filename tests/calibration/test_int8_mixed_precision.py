from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_networks import random_feeds, residual_network

from calibration.int8 import mixed_precision
from calibration.int8.bundle_files import needed_tensors
from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.gate import GateResult, HeadScore
from calibration.int8.graph import Graph, prepare
from calibration.int8.mixed_precision import AIM_HEADROOM, MOST_RUNS, Candidate, fidelity, search, search_both
from calibration.int8.plan import QuantizationPlan, make_plan
from calibration.int8.player import NetworkFile
from calibration.int8.ranges import Range, collect_ranges, saturate
from calibration.int8.sensitivity import measure_effects, spread
from calibration.int8.trade import TradePoint, choose, time_in_turns, trade_table
from calibration.int8.trade_plot import draw, nice_ticks, write_plot


@pytest.fixture
def graph() -> Graph:
    return Graph(prepare(residual_network()))


def ranges_of(graph: Graph) -> dict[str, Range]:
    return collect_ranges(graph.model, needed_tensors(graph, make_plan(graph)), random_feeds(4), "minmax", 100.0)


def result(passes: bool, value: float = 0.99) -> GateResult:
    score = HeadScore("lanes", "iou_mean", "fp32", value, 0.9, passes)
    return GateResult(4, (score,), {"mask": value}, (), ())


def mixture(kept: list[str], passes: bool, value: float = 0.99) -> Candidate:
    return Candidate(tuple(kept), QuantizationPlan(), b"", result(passes, value))


def point(name: str, passes: bool, latency_ms: float, headroom: float = 0.5, is_fp32: bool = False) -> TradePoint:
    return TradePoint(name, 3, 2, 0.97, headroom, passes, latency_ms, 10.0 / latency_ms, is_fp32)


def test_the_layer_with_the_ruined_range_is_the_most_sensitive(graph: Graph) -> None:
    ranges = ranges_of(graph)
    ranges["b_relu"] = replace(ranges["b_relu"], high=ranges["b_relu"].high * 400)
    effects = measure_effects(graph, make_plan(graph), ranges, random_feeds(6))
    assert [effect.layer for effect in effects] == ["b", "a"]
    assert effects[0].sqnr_db < effects[1].sqnr_db - 10
    assert effects[0].output == "mask"


def test_samples_are_spread_over_all() -> None:
    feeds = random_feeds(9)
    places = {id(feed): place for place, feed in enumerate(feeds)}
    assert [places[id(feed)] for feed in spread(feeds, 3)] == [0, 3, 6]
    assert len(spread(feeds[:2], 4)) == 2


@pytest.mark.parametrize("needed", [0, 1, 5, 37, 99])
def test_the_search_finds_the_smallest_number_of_layers_in_float(monkeypatch: pytest.MonkeyPatch, needed: int) -> None:
    def fake(graph: object, ranges: object, gate: object, kept: list[str]) -> SimpleNamespace:
        return mixture(kept, len(kept) >= needed)

    monkeypatch.setattr(mixed_precision, "try_mixture", fake)
    tried = search(None, {}, None, [f"layer{index}" for index in range(100)])  # type: ignore[arg-type]
    passing = [candidate for candidate in tried if candidate.result.passes]
    assert len(passing[0].kept_float) == needed
    assert len(tried) <= MOST_RUNS


def test_a_search_that_finds_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(graph: object, ranges: object, gate: object, kept: list[str]) -> SimpleNamespace:
        return mixture(kept, False)

    monkeypatch.setattr(mixed_precision, "try_mixture", fake)
    tried = search(None, {}, None, [f"layer{index}" for index in range(3000)])  # type: ignore[arg-type]
    assert len(tried) == MOST_RUNS


def test_the_search_wants_headroom_and_not_just_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes by a hair where it was chosen fails half the time elsewhere."""

    def fake(graph: object, ranges: object, gate: object, kept: list[str]) -> Candidate:
        return mixture(kept, True, min(1.0, 0.901 + 0.01 * len(kept)))

    monkeypatch.setattr(mixed_precision, "try_mixture", fake)
    tried = search(None, {}, None, [f"layer{index}" for index in range(30)])  # type: ignore[arg-type]
    first = next(candidate for candidate in tried if candidate.meets_aim)
    assert tried[0].result.passes
    assert not tried[0].meets_aim
    assert len(first.kept_float) == 4  # 0.941: headroom 0.41 of a limit of 0.9
    assert first.result.headroom >= AIM_HEADROOM


def test_mixtures_without_the_worst_and_without_the_first_layers_are_both_tried(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(graph: object, ranges: object, gate: object, kept: list[str]) -> Candidate:
        return mixture(kept, "a" in kept)

    monkeypatch.setattr(mixed_precision, "try_mixture", fake)
    tried = search_both(graph, {}, None, ["b", "a"])  # type: ignore[arg-type]
    assert [(entry.kept_float, entry.from_input, entry.meets_aim) for entry in tried] == [
        ((), False, False),
        (("b",), False, False),
        (("a",), True, True),
    ]
    assert [entry.name for entry in tried] == ["all INT8", "1 in float", "first 1 in float"]


def test_where_all_in_int8_meets_the_aim_nothing_else_is_tried(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "try_mixture", lambda *given: mixture(given[3], True))
    assert len(search_both(graph, {}, None, ["b", "a"])) == 1  # type: ignore[arg-type]


def test_fidelity_is_that_of_the_worst_head() -> None:
    heads = [SimpleNamespace(name="lanes", decoder="segmentation")]
    assert fidelity(result(True, 0.93), heads) == pytest.approx(0.93)  # type: ignore[arg-type]
    assert fidelity(replace(result(True), broken=("mask",)), heads) == 0.0  # type: ignore[arg-type]


def test_the_first_that_passes_is_chosen_unless_another_is_clearly_faster() -> None:
    points = [point("FP32", True, 10, is_fp32=True), point("INT8", False, 4), point("one", True, 8)]
    assert choose([*points, point("two", True, 7.9)]) == 2
    assert choose([*points, point("two", True, 6.0)]) == 3


def test_without_any_that_passes_the_nearest_is_told() -> None:
    points = [point("FP32", True, 10, is_fp32=True), point("a", False, 4, -3.0), point("b", False, 8, -1.0)]
    assert choose(points) == 2
    assert trade_table(points, 2).row_count == 3


def test_all_files_take_turns(graph: Graph) -> None:
    """A clock on which every odd call took 5 ms shows that each file is timed once a round."""
    ticks = count(0, 0.005)
    network = NetworkFile(graph.model.SerializeToString())
    medians = time_in_turns([network, network], random_feeds(2), 3, lambda: next(ticks))
    assert medians == [pytest.approx(5.0), pytest.approx(5.0)]


def test_the_picture_shows_every_point(tmp_path: Path) -> None:
    points = [point("FP32", True, 10, is_fp32=True), point("INT8", False, 4), point("INT8, 1 in float", True, 6)]
    write_plot(tmp_path / "a" / "trade.png", points, 2, "small")
    picture = cv2.imread(str(tmp_path / "a" / "trade.png"))
    assert picture.shape == (620, 1040, 3)
    assert not np.array_equal(picture, draw(points[:2], 1, "small"))


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.9), (14.2, 29.9), (3.0, 3.0), (1200, 4000)])
def test_ticks_are_few_round_and_hold_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9


def test_what_silu_makes_nothing_of_gets_no_steps() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Sigmoid", ["y"], ["s"]),
        helper.make_node("Mul", ["y", "s"], ["z"]),
    ]
    weights = [numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 4, 4]) for name in ("x", "z")]
    silu = Graph(helper.make_model(helper.make_graph(nodes, "silu", ends[:1], ends[1:], weights)))
    seen = {name: Range(-40.0, 9.0, -40.0, 9.0) for name in ("x", "y")}
    saturated = saturate(silu, seen)
    assert saturated["x"] == seen["x"]
    assert saturated["y"] == Range(-8.0, 9.0, -40.0, 9.0)


def product_network(width: int) -> onnx.ModelProto:
    """x -> Gemm (transposed weights, bias) -> Relu -> MatMul -> final Gemm."""
    generator = np.random.default_rng(2)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], transB=1),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["h2"]),
        helper.make_node("Gemm", ["h2", "w3", "b3"], ["y"]),
    ]
    shapes = {"w1": (width, 512), "b1": (width,), "w2": (width, 512), "w3": (512, 512), "b3": (512,)}
    weights = [
        numpy_helper.from_array(generator.normal(0, 0.05, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 512]) for name in ("x", "y")]
    body = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_large_matrix_products_go_to_int8_and_stay_close() -> None:
    products = Graph(prepare(product_network(768)))
    plan: QuantizationPlan = make_plan(products)
    assert plan.matmuls == ["h1", "h2"]
    assert plan.kept_float == ["y"]
    feeds = [{"x": np.random.default_rng(index).normal(0, 1, (1, 512)).astype(np.float32)} for index in range(8)]
    ranges = collect_ranges(products.model, needed_tensors(products, plan), feeds, "minmax", 100.0)
    candidate = NetworkFile(emit_cpu_qdq(products, plan, ranges).SerializeToString())
    expected, got = (
        network.run(feeds[0])["y"] for network in (NetworkFile(products.model.SerializeToString()), candidate)
    )
    cosine = float(np.vdot(expected, got) / np.linalg.norm(expected) / np.linalg.norm(got))
    assert cosine > 0.999


def test_small_matrix_products_stay_in_float() -> None:
    assert make_plan(Graph(prepare(product_network(64)))).layers == []
