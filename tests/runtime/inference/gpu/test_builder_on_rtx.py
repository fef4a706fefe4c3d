"""The engine builder against real bindings: TensorRT-RTX has TensorRT's API and builds on machines without a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.inference.bundle import load_bundle
from runtime.inference.tensorrt.driver import DeviceFacts
from runtime.inference.tensorrt.engine_builder import EngineError, build_engine
from runtime.inference.tensorrt.engine_recipe import EngineRecipe, make_recipe
from runtime.inference.tensorrt.probe import Platform, probe_tensorrt
from tests.runtime.inference.tiny_networks import mean_manifest, mean_network, write_bundle

rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed (pip install tensorrt_rtx)")


@pytest.fixture
def platform() -> Platform:
    driver = SimpleNamespace(device=DeviceFacts("a vehicle's GPU", (8, 7), (12, 6), 1 << 33))
    return Platform(driver, rtx, (10, 3))  # type: ignore[arg-type]


@pytest.fixture
def recipe(platform: Platform, tmp_path: Path) -> EngineRecipe:
    bundle = load_bundle(write_bundle(tmp_path / "bundle", mean_manifest(2), {"fp32": mean_network(2)}))
    return make_recipe(bundle, "fp32", platform)


def test_the_probe_finds_every_name_that_it_requires() -> None:
    class Fresh(SimpleNamespace):
        """RTX counts its versions from 1; everything else is its own."""

    module = Fresh(**{**vars(rtx), "__version__": "10.3"})
    found = probe_tensorrt(lambda: SimpleNamespace(), lambda _: module)  # type: ignore[arg-type,return-value]
    assert found.version == (10, 3)


def test_the_bundled_network_becomes_an_engine(platform: Platform) -> None:
    bundle = load_bundle(Path(__file__).parents[4] / "runtime/models/hydra_mini")
    recipe = make_recipe(bundle, "fp32", platform)
    assert recipe.network_flags == ("STRONGLY_TYPED",)
    assert len(build_engine(rtx, bundle.file("fp32"), recipe)) > 1_000_000


def test_open_sizes_are_fixed_by_a_profile(recipe: EngineRecipe, tmp_path: Path) -> None:
    network = mean_network(2)
    for value in (network.graph.input[0], network.graph.output[0], network.graph.output[2]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    path = tmp_path / "open.onnx"
    path.write_bytes(network.SerializeToString())
    assert build_engine(rtx, path, recipe)


def test_what_the_parser_says_is_told(recipe: EngineRecipe, tmp_path: Path) -> None:
    path = tmp_path / "nonsense.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(EngineError, match=r"cannot parse .*nonsense\.onnx: node .*ONNX model.*another opset"):
        build_engine(rtx, path, recipe)
    with pytest.raises(EngineError, match="calibrate lint"):
        build_engine(rtx, path, replace(recipe, precision="int8"))
