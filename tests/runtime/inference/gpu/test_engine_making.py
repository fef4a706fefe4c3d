"""Building engines on a virtual TensorRT of each version: flags, shapes, failures, and what stays in the cache."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.tensorrt.engine_builder import EngineError
from runtime.inference.tensorrt.engine_cache import EngineCache
from runtime.inference.tensorrt.engine_making import make_engine
from runtime.inference.tensorrt.engine_recipe import make_recipe
from runtime.inference.tensorrt.probe import Platform
from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, FakeCuda, has_compiler
from tests.runtime.inference.gpu.fake_platform import fake_platform, fresh_cuda, open_backend_on
from tests.runtime.inference.tiny_networks import frameset_of, mean_manifest, mean_network, noise, write_bundle

pytestmark = pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)

EXPLICIT_BATCH, STRONGLY_TYPED = 1 << 0, 1 << 1
FP16, INT8, TF32 = 0, 1, 7


@pytest.fixture
def cuda(tmp_path: Path) -> FakeCuda:
    return fresh_cuda(tmp_path)


@pytest.fixture
def platform(cuda: FakeCuda) -> Platform:
    return fake_platform(cuda)


def _bundle(folder: Path, *roles: str, network: onnx.ModelProto | None = None) -> ModelBundle:
    files = dict.fromkeys(roles or ("fp32",), network or mean_network(2))
    return load_bundle(write_bundle(folder / "bundle", mean_manifest(2), files))


@pytest.mark.parametrize(
    ("version", "role", "network_flags", "builder_flags"),
    [
        ("8.6.1", "trt_int8", EXPLICIT_BATCH, {INT8}),
        ("10.3.0", "trt_int8", STRONGLY_TYPED, set()),
        ("10.3.0", "trt_int8_fp16", STRONGLY_TYPED, set()),
        ("11.4.0", "trt_int8_fp16", STRONGLY_TYPED, set()),
    ],
)
def test_networks_are_strongly_typed_where_the_version_has_it(
    cuda: FakeCuda, tmp_path: Path, version: str, role: str, network_flags: int, builder_flags: set[int]
) -> None:
    platform = fake_platform(cuda, version)
    make_engine(_bundle(tmp_path, "fp32", role), "int8", platform, EngineCache(tmp_path / "engines"))
    flags, config = platform.trt.builds[0]
    assert (flags, config.flags) == (network_flags, builder_flags)
    assert config.max_aux_streams == 0
    assert config.cleared == set()


def test_fp32_is_not_tf32(platform: Platform, tmp_path: Path) -> None:
    make_engine(_bundle(tmp_path), "fp32", platform, EngineCache(tmp_path / "engines"))
    assert platform.trt.builds[0][1].cleared == {TF32}


def test_fp16_of_an_fp32_file_needs_a_version_with_weak_types(cuda: FakeCuda, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    assert make_recipe(bundle, "fp16", fake_platform(cuda, "10.3.0")).builder_flags == ("FP16",)
    with pytest.raises(BundleFitError, match=r"11\.4\.0.*cannot make FP16.*fix"):
        make_recipe(bundle, "fp16", fake_platform(cuda, "11.4.0"))


def test_the_best_file_is_chosen(platform: Platform, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, "fp32", "trt_int8", "trt_int8_fp16")
    assert [make_recipe(bundle, precision, platform).role for precision in ("auto", "int8", "fp32")] == [
        "trt_int8_fp16",
        "trt_int8_fp16",
        "fp32",
    ]
    with pytest.raises(BundleFitError, match=r"no trt_int8_fp16 or trt_int8 file, only fp32 .*calibrate int8"):
        make_recipe(_bundle(tmp_path / "other"), "int8", platform)


def test_what_needs_opset_19_is_not_for_8_6(cuda: FakeCuda, tmp_path: Path) -> None:
    bundle, old = _bundle(tmp_path, "fp32", "trt_int8", "trt_int8_fp16"), fake_platform(cuda, "8.6.1")
    assert [make_recipe(bundle, precision, old).role for precision in ("auto", "int8")] == ["trt_int8", "trt_int8"]
    only_fp16 = _bundle(tmp_path / "other", "fp32", "trt_int8_fp16")
    assert make_recipe(only_fp16, "auto", old).role == "fp32"
    with pytest.raises(BundleFitError, match=r"no trt_int8 file, only fp32, trt_int8_fp16"):
        make_recipe(only_fp16, "int8", old)


def test_an_engine_is_built_once_and_again_when_asked(platform: Platform, tmp_path: Path) -> None:
    cache, bundle = EngineCache(tmp_path / "engines"), _bundle(tmp_path)
    made = [make_engine(bundle, "auto", platform, cache, anew).was_cached for anew in (False, False, True)]
    assert made == [False, True, False]
    assert len(platform.trt.builds) == 2
    assert cache.last_good() == make_recipe(bundle, "auto", platform).key


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("parse", "node 4: Q/DQ zero point must be 0.*calibrate lint"),
        ("build", "Could not find any implementation for node conv_7"),
        ("load", "refuses the engine: Serialization assertion"),
        ("context", "no memory for the engine: Requested amount"),
    ],
)
def test_a_failed_build_says_why_and_leaves_the_last_good_engine(
    platform: Platform, tmp_path: Path, step: str, words: str
) -> None:
    cache = EngineCache(tmp_path / "engines")
    old = _bundle(tmp_path / "old")
    make_engine(old, "auto", platform, cache)
    new = _bundle(tmp_path / "new", "fp32", "trt_int8", network=mean_network(2))
    platform.trt.fails.add(step)
    with pytest.raises(EngineError, match=words):
        make_engine(new, "int8", platform, cache)
    platform.trt.fails.clear()
    assert cache.last_good() == make_recipe(old, "auto", platform).key
    assert make_engine(old, "auto", platform, cache).was_cached


def test_an_engine_that_does_not_run_is_not_kept(cuda: FakeCuda, platform: Platform, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    cuda.fail("cuStreamSynchronize", 719)
    with pytest.raises(EngineError, match=r"does not run.*LAUNCH_FAILED"):
        make_engine(_bundle(tmp_path), "auto", platform, cache)
    assert cache.keys() == []


def test_a_cached_engine_that_no_longer_loads_is_built_again(platform: Platform, tmp_path: Path) -> None:
    cache, bundle = EngineCache(tmp_path / "engines"), _bundle(tmp_path)
    cache.store(make_recipe(bundle, "auto", platform), b"fake engine{}\0from before")
    said: list[str] = []
    assert not make_engine(bundle, "auto", platform, cache, say=said.append).was_cached
    assert "refuses the engine" in said[0]


def test_open_sizes_become_those_of_the_manifest(platform: Platform, tmp_path: Path) -> None:
    network = mean_network(2)
    for value in (*network.graph.input[:1], *network.graph.output):
        if value.name != "control":
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    bundle = _bundle(tmp_path, network=network)
    backend = open_backend_on(platform, bundle, ("camera_0", "camera_1"))
    assert platform.trt.builds[0][1].profiles[0].shapes == {"images": (2, 3, 8, 8)}
    assert backend.infer(frameset_of(noise(2)), None).tensors["means"].shape == (2, 3)
    backend.close()


def test_an_engine_of_another_network_is_refused(platform: Platform, tmp_path: Path) -> None:
    from runtime.inference.backend import BackendError
    from runtime.inference.rows import layout_for
    from runtime.inference.tensorrt.trt_backend import TensorrtBackend
    from tests.runtime.inference.gpu.fake_platform import built

    other = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["images"], ["means"])],
            "other",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [2, 3])],
            [helper.make_tensor_value_info("means", TensorProto.FLOAT, [2, 3])],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    bundle = _bundle(tmp_path)
    data, recipe = built(platform, bundle)
    stamp = data.partition(b"\0")[0]
    layout = layout_for(bundle.manifest, ("a", "b"))
    with pytest.raises(BackendError, match=r"not this network's: inputs .*images.*speed_mps.*missing outputs.*control"):
        TensorrtBackend(platform, stamp + b"\0" + other.SerializeToString(), recipe, bundle, layout, ("a", "b"))
