"""`shadowrig model build`: what it says and how it ends, on machines with and without TensorRT."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.cli import main
from runtime.inference.tensorrt import probe
from runtime.inference.tensorrt.engine_cache import EngineCache
from runtime.inference.tensorrt.probe import Platform, TensorrtUnavailableError
from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, has_compiler
from tests.runtime.inference.gpu.fake_platform import fake_platform, fresh_cuda
from tests.runtime.inference.tiny_networks import mean_manifest, mean_network, write_bundle

needs_compiler = pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", mean_manifest(2), {"fp32": mean_network(2)})


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    found = fake_platform(fresh_cuda(tmp_path))
    monkeypatch.setattr(probe, "probe_tensorrt", lambda: found)
    return found


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> Platform:
        raise TensorrtUnavailableError("driver", "ctypes: libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(probe, "probe_tensorrt", nothing)


@needs_compiler
def test_it_builds_once_and_says_where(
    bundle: Path, platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["model", "build", str(bundle), "--cache", str(tmp_path / "engines")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "TensorRT 10.3.0 on Fake Orin (sm_87" in said
    assert f"means 1, fp32 (fp32): built, 0.0 MB in {tmp_path / 'engines'}" in said
    assert main(command) == 0
    assert "is there already" in capsys.readouterr().out
    assert len(EngineCache(tmp_path / "engines").keys()) == 1


@needs_compiler
def test_a_build_that_fails_names_the_node_and_ends_with_1(
    bundle: Path, platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.trt.fails.add("build")
    assert main(["model", "build", str(bundle), "--cache", str(tmp_path / "engines")]) == 1
    error = capsys.readouterr().err
    assert "conv_7" in error
    assert "are untouched" in error


@needs_compiler
def test_a_configuration_says_what_to_build_and_where(
    bundle: Path, platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "rig.yaml"
    config.write_text(
        f"""\
vehicle: {{id: test}}
state_directory: {tmp_path / "state"}
cameras: {{front: {{source: {{kind: rtsp, address: "rtsp://10.0.0.1/front"}}}}}}
model: {{bundle: {bundle}, backend: tensorrt, precision: fp16}}
"""
    )
    assert main(["model", "build", "--config", str(config)]) == 0
    assert f"means 1, fp32 (fp16): built, 0.0 MB in {tmp_path / 'state' / 'engines'}" in capsys.readouterr().out


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_says_so_and_a_unit_may_go_on(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["model", "build", str(bundle), "--cache", str(tmp_path / "engines")]
    assert main(command) == 1
    assert "TensorRT cannot run here: driver: ctypes: libcuda.so.1" in capsys.readouterr().err
    assert main([*command, "--if-possible"]) == 0
    assert "no engine: driver" in capsys.readouterr().out


def test_a_bundle_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "build"]) == 2
    assert "no bundle is named" in capsys.readouterr().err
