"""Which backend runs, and that the reason is always said: the probe's first failing step, in the driver's own words."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from runtime.composition import CompositionError, ModelChoice, model_facts, open_network
from runtime.inference import backends
from runtime.inference.backend import BackendError
from runtime.inference.backends import BackendRequest, describe_tensorrt, open_backend
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.network import Network
from runtime.inference.rows import layout_for
from runtime.inference.tensorrt.driver import NoDriverError, open_driver
from runtime.inference.tensorrt.engine_cache import EngineCache
from runtime.inference.tensorrt.engine_making import make_engine
from runtime.inference.tensorrt.engine_recipe import make_recipe
from runtime.inference.tensorrt.probe import Platform, TensorrtUnavailableError, probe_tensorrt
from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, FakeCuda, has_compiler
from tests.runtime.inference.gpu.fake_platform import fake_platform, fresh_cuda
from tests.runtime.inference.gpu.fake_tensorrt import made_for
from tests.runtime.inference.tiny_networks import mean_manifest, mean_network, write_bundle

CAMERAS = ("camera_0", "camera_1")
needs_compiler = pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return load_bundle(write_bundle(tmp_path / "bundle", mean_manifest(2), {"fp32": mean_network(2)}))


@pytest.fixture
def cuda(tmp_path: Path) -> FakeCuda:
    return fresh_cuda(tmp_path)


def _no_driver() -> Platform:
    raise TensorrtUnavailableError("driver", "ctypes: libcuda.so.1: cannot open shared object file")


def _open(bundle: ModelBundle, request: BackendRequest, probe: Callable[[], Platform]) -> tuple[str, tuple[str, ...]]:
    backend, reasons = open_backend(request, bundle, layout_for(bundle.manifest, CAMERAS), CAMERAS, None, probe)
    backend.close()
    return backend.description.backend, reasons


def test_auto_falls_back_and_says_exactly_why(bundle: ModelBundle, tmp_path: Path) -> None:
    chosen, reasons = _open(bundle, BackendRequest("auto", engines=tmp_path), _no_driver)
    assert chosen == "onnx"
    assert reasons == ("not tensorrt: driver: ctypes: libcuda.so.1: cannot open shared object file",)


@pytest.mark.parametrize("backend", ["onnx", "auto"])
def test_without_a_folder_of_engines_the_gpu_is_left_alone(bundle: ModelBundle, backend: str) -> None:
    def never() -> Platform:
        raise AssertionError("the probe must not run")

    assert _open(bundle, BackendRequest(backend), never) == ("onnx", ())


def test_the_daemon_says_why_it_does_not_start(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.open_backend, "__defaults__", (None, _no_driver))
    with pytest.raises(CompositionError, match=r"backend tensorrt was asked for and cannot run: driver: ctypes"):
        open_network(ModelChoice(bundle.directory, "tensorrt"), CAMERAS)


def test_the_status_says_why_it_runs_on_the_cpu(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.open_backend, "__defaults__", (None, _no_driver))
    network = open_network(ModelChoice(bundle.directory, "auto", engines=tmp_path), CAMERAS)
    facts = model_facts(network)
    assert facts is not None
    assert facts["backend"] == "onnx"
    assert facts["backend_because"].startswith("not tensorrt: driver: ctypes: libcuda.so.1")
    network.close()


def test_tensorrt_asked_for_and_not_there_is_an_error(bundle: ModelBundle) -> None:
    with pytest.raises(BackendError, match=r"asked for and cannot run: driver: .*libcuda.*\(fix: "):
        _open(bundle, BackendRequest("tensorrt"), _no_driver)


def test_an_unknown_backend_is_refused(bundle: ModelBundle) -> None:
    with pytest.raises(BundleFitError, match=r"unknown backend 'tpu'.*auto, onnx, tensorrt"):
        _open(bundle, BackendRequest("tpu"), _no_driver)


def test_the_driver_is_looked_at_before_the_import() -> None:
    def no_driver() -> None:
        raise NoDriverError("nothing")

    def never(name: str) -> ModuleType:
        raise AssertionError(f"{name} must not be imported")

    with pytest.raises(TensorrtUnavailableError, match="driver: nothing"):
        probe_tensorrt(no_driver, never)  # type: ignore[arg-type]


def test_an_import_that_fails_is_named() -> None:
    def missing(name: str) -> ModuleType:
        raise ImportError("libnvinfer.so.10: cannot open shared object file")

    with pytest.raises(TensorrtUnavailableError, match=r"import: .*libnvinfer\.so\.10.*python3-libnvinfer"):
        probe_tensorrt(lambda: SimpleNamespace(), missing)  # type: ignore[arg-type,return-value]


def test_a_version_that_is_too_old_is_named(cuda: FakeCuda) -> None:
    with pytest.raises(TensorrtUnavailableError, match=r"version: TensorRT 8\.5\.2 is older than 8\.6"):
        probe_tensorrt(lambda: SimpleNamespace(), lambda _: made_for("8.5.2", cuda))  # type: ignore[arg-type,return-value]


def test_a_version_that_lacks_a_name_is_told_with_it(cuda: FakeCuda) -> None:
    module = made_for("12.0.0", cuda)
    del module.nptype
    with pytest.raises(TensorrtUnavailableError, match=r"version: TensorRT 12\.0\.0 lacks nptype$"):
        probe_tensorrt(lambda: SimpleNamespace(), lambda _: module)  # type: ignore[arg-type,return-value]


def test_a_binding_that_is_not_installed_is_passed_over_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.import_module

    def load(name: str) -> ModuleType:
        if name.endswith(("pycuda", "cuda_python")):
            raise ImportError(f"no {name.rpartition('_')[2]}")
        module = original(name)
        monkeypatch.setattr(module, "CtypesDriver", _no_library)
        return module

    monkeypatch.setattr("runtime.inference.tensorrt.driver.importlib", SimpleNamespace(import_module=load))
    with pytest.raises(NoDriverError, match=r"pycuda is not installed.*cuda-python is not.*ctypes: libcuda\.so\.1"):
        open_driver()


def _no_library(device_index: int) -> None:
    raise OSError("libcuda.so.1: cannot open shared object file")


@needs_compiler
def test_without_an_engine_the_way_to_one_is_said(bundle: ModelBundle, cuda: FakeCuda, tmp_path: Path) -> None:
    request = BackendRequest("auto", engines=tmp_path / "engines")
    chosen, (reason,) = _open(bundle, request, lambda: fake_platform(cuda))
    assert chosen == "onnx"
    assert "engine: no engine for means 1 (fp32)" in reason
    assert f"shadowrig model build {bundle.directory} --cache {tmp_path / 'engines'}" in reason


@needs_compiler
def test_with_an_engine_auto_runs_it(bundle: ModelBundle, cuda: FakeCuda, tmp_path: Path) -> None:
    platform = fake_platform(cuda)
    make_engine(bundle, "auto", platform, EngineCache(tmp_path / "engines"))
    assert _open(bundle, BackendRequest("auto", engines=tmp_path / "engines"), lambda: platform) == ("tensorrt", ())


@needs_compiler
def test_after_an_update_of_tensorrt_the_difference_is_named(
    bundle: ModelBundle, cuda: FakeCuda, tmp_path: Path
) -> None:
    make_engine(bundle, "auto", fake_platform(cuda, "10.3.0"), EngineCache(tmp_path))
    _, (reason,) = _open(bundle, BackendRequest("auto", engines=tmp_path), lambda: fake_platform(cuda, "10.7.0"))
    assert "nearest differs in tensorrt: 10.3.0 is now 10.7.0" in reason


@needs_compiler
def test_an_engine_that_does_not_load_is_a_reason(bundle: ModelBundle, cuda: FakeCuda, tmp_path: Path) -> None:
    platform = fake_platform(cuda)
    EngineCache(tmp_path).store(make_recipe(bundle, "auto", platform), b"fake engine{}\0of another world")
    _, (reason,) = _open(bundle, BackendRequest("auto", engines=tmp_path), lambda: platform)
    assert "refuses the engine: Serialization assertion" in reason
    assert "model build" in reason


@needs_compiler
def test_a_network_says_why_it_runs_where_it_runs(
    bundle: ModelBundle, cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.open_backend, "__defaults__", (None, lambda: fake_platform(cuda)))
    network = Network.open(bundle.directory, CAMERAS, "auto", engines=tmp_path)
    assert network.description.backend == "onnx"
    assert "model build" in network.backend_reasons[0]
    network.close()
    make_engine(bundle, "auto", fake_platform(cuda), EngineCache(tmp_path))
    network = Network.open(bundle.directory, CAMERAS, "auto", engines=tmp_path)
    assert (network.description.backend, network.backend_reasons) == ("tensorrt", ())
    assert "TensorRT 10.3.0 on Fake Orin (sm_87" in network.description.engine
    network.close()


def test_the_doctor_is_told_in_one_line() -> None:
    assert describe_tensorrt(_no_driver).startswith("not on this machine (driver: ctypes: libcuda")
