"""The GPU check: clean without a GPU, honest over a driver that runs the kernel's source on the CPU."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_kernel import SOURCE, host_libcuda
from tiny_bundle import write_tiny_bundle

from deploy.gpu_check import device_images, engine
from deploy.gpu_check.device_images import device_prepares_as_the_cpu
from deploy.gpu_check.engine import judge, least_cosines
from deploy.gpu_check.outcome import FailedError, NotRunError, Outcome, exit_code, perform
from runtime.capture.source_frames import SourcePicture
from runtime.formats.source_image import SourceImage, SourceMemory
from runtime.inference.bundle import load_bundle
from runtime.inference.onnx_backend import OnnxBackend
from runtime.inference.rows import layout_for
from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, has_compiler
from tests.runtime.inference.gpu.fake_platform import fake_platform, fresh_cuda, with_kernel

ROOT = Path(__file__).parents[2]


def _check(tmp_path: Path, libcuda: Path | None) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Exit code, outcomes by name, and what was printed."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "deploy.gpu_check", "--json", str(report)]
    command += ["--launches", "3", "--seconds", "0.1", "--shrink", "16"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    if libcuda is not None:
        environment["LD_LIBRARY_PATH"] = str(libcuda.parent)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", timeout=100)
    assert done.stderr == ""
    written = json.loads(report.read_text())
    assert written["exit_code"] == done.returncode
    return done.returncode, {check["name"]: check for check in written["checks"]}, done.stdout


def test_without_a_gpu_every_check_says_what_is_missing(tmp_path: Path) -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        code, checks, printed = _check(tmp_path, None)
    else:
        pytest.skip("there is a CUDA driver here")
    assert code == 2
    software = {"pycuda", "tensorrt", "nvrtc"}  # may be installed without a GPU
    assert {check["state"] for name, check in checks.items() if name not in software} == {"not run"}
    assert "libcuda.so.1: cannot open shared object file" in checks["device"]["detail"]
    assert checks["kernel = NumPy"]["detail"] == "no CUDA device was opened (see 'device')"
    assert "GPU check" in printed


def test_the_checks_pass_where_the_kernel_does_what_its_source_says(tmp_path: Path) -> None:
    code, checks, _ = _check(tmp_path, host_libcuda(tmp_path))
    kernel_checks = ("device", "kernel loads", "kernel = NumPy", "graph = launch", "stays the same", "steadiness")
    assert {name: checks[name]["state"] for name in kernel_checks} == dict.fromkeys(kernel_checks, "passed")
    assert checks["kernel loads"]["figures"]["image"] == "preprocess.cuda12.sm_87.cubin"
    assert checks["stays the same"]["figures"]["device_bytes_lost"] == 0
    assert checks["steadiness"]["figures"]["contended"]["p99_9_over_p50"] >= 1.0
    assert checks["engine = ONNX"]["state"] == "not run"
    assert code == 2, "what could not run is told by the exit code"


def test_a_kernel_that_is_one_step_off_fails(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.cu"
    source = SOURCE.read_text()
    assert source.count("0), 255)") == 1
    wrong.write_text(source.replace("0), 255)", "0), 254)"))
    code, checks, _ = _check(tmp_path, host_libcuda(tmp_path, wrong))
    assert code == 1
    assert checks["kernel = NumPy"]["state"] == "failed"
    assert (
        "elements differ from NumPy (uint8, 320x192 rgb stretch, absent row None)" in checks["kernel = NumPy"]["detail"]
    )
    assert checks["graph = launch"]["state"] == "failed"


def test_the_exit_code_tells_failed_from_not_run() -> None:
    def failed() -> Any:
        raise FailedError("differs")

    def not_run() -> Any:
        raise NotRunError("missing")

    def broken() -> Any:
        raise KeyError("a mistake in the check itself")

    passed = Outcome("a", "passed", "", 0.0)
    assert exit_code([passed]) == 0
    assert exit_code([passed, perform("b", not_run, ())]) == 2
    assert exit_code([perform("b", not_run, ()), perform("c", failed, ())]) == 1
    with pytest.raises(KeyError):
        perform("d", broken, ())


def test_an_engine_agrees_when_every_output_points_the_same_way() -> None:
    right = {"boxes": np.array([[1.0, 2.0], [3.0, 4.0]]), "empty": np.zeros(3)}
    near = {"boxes": right["boxes"] * 1.001, "empty": np.zeros(3)}
    detail, figures = judge(least_cosines([(right, right), (near, right)]), "trt_int8 of a network")
    assert "least cosine 1.000000" in detail
    assert figures == {"cosine": {"boxes": 1.0, "empty": 1.0}}
    turned = {"boxes": right["boxes"][::-1], "empty": np.ones(3)}
    with pytest.raises(FailedError, match=r"cosine below 0.999 against ONNX Runtime: boxes 0\.\d+, empty 0.000000"):
        judge(least_cosines([(right, right), (turned, right)]), "trt_int8 of a network")
    with pytest.raises(FailedError, match="boxes nan"):
        judge(least_cosines([({"boxes": np.array([np.nan, 1.0])}, {"boxes": np.ones(2)})]), "a network")


def test_the_bundled_network_can_be_given_to_an_engine() -> None:
    """All but the engine itself: the framesets fit the network, and ONNX Runtime runs them."""
    bundle = load_bundle(ROOT / "runtime/models/hydra_mini")
    cameras = [f"camera_{row}" for row in range(bundle.manifest.rows)]
    framesets = engine._framesets(bundle, cameras, np.random.default_rng(1))
    peer = OnnxBackend(bundle, "fp32", layout_for(bundle.manifest, cameras), cameras)
    outputs = [engine.run(peer, frameset) for frameset in framesets[:2]]
    assert min(least_cosines([(outputs[0], outputs[0])]).values()) == pytest.approx(1.0)
    assert any(not np.array_equal(outputs[0][name], outputs[1][name]) for name in outputs[0])


def _probe(folder: Path) -> Any:
    cuda = with_kernel(fresh_cuda(folder))
    return lambda: fake_platform(cuda)


@pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
def test_images_and_outputs_of_the_device_are_judged_against_the_cpu(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", cameras=3)
    driver: Any = None  # the probe brings its own
    detail, figures = device_prepares_as_the_cpu(driver, bundle, 1, 8, _probe(tmp_path))
    assert "of the CPU's" in detail
    assert figures["largest_step"] <= 1
    assert set(figures["cosine"]) == {"control"}


@pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
def test_a_device_that_prepares_other_images_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", cameras=3)
    monkeypatch.setattr(device_images, "_left", lambda picture, memory: _darkened(picture, memory))
    driver: Any = None
    with pytest.raises(FailedError, match=r"differs from the CPU's by \d+ steps"):
        device_prepares_as_the_cpu(driver, bundle, 1, 8, _probe(tmp_path))


def _darkened(picture: SourcePicture, memory: SourceMemory) -> SourceImage:
    slot = memory.take(picture.size_bytes)
    picture.copy(slot)
    slot //= 2
    return SourceImage(slot, picture.format)
