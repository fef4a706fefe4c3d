from __future__ import annotations

import pytest
from small_networks import residual_network

from calibration.int8.graph import Graph, prepare
from calibration.int8.plan import make_plan


@pytest.fixture
def graph() -> Graph:
    return Graph(prepare(residual_network()))


def test_the_last_convolution_stays_in_floating_point(graph: Graph) -> None:
    plan = make_plan(graph)
    assert plan.convolutions == ["a", "b"]
    assert plan.kept_float == ["out"]


def test_a_relu_behind_a_convolution_is_quantised_with_it(graph: Graph) -> None:
    tensors = make_plan(graph).tensors
    assert "a_relu" in tensors
    assert "a" not in tensors


def test_pooling_keeps_the_scale_of_its_input_and_is_not_measured(graph: Graph) -> None:
    plan = make_plan(graph)
    assert plan.shared["pooled"] == "a_relu"
    assert "pooled" not in plan.measured


def test_scaled_uint8_images_enter_as_quantised_data(graph: Graph) -> None:
    plan = make_plan(graph)
    (entry,) = plan.inputs
    assert (entry.graph_input, entry.tensor) == ("images", "pixels")
    assert entry.scale == pytest.approx(1 / 255)
    assert "pixels" not in plan.measured


def test_a_named_convolution_can_be_kept_in_floating_point(graph: Graph) -> None:
    plan = make_plan(graph, keep_float=frozenset({"b"}))
    assert plan.convolutions == ["a"]
    assert plan.kept_float == ["b", "out"]
