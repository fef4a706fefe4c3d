"""Where images are prepared: `model.preprocess`, what it falls back to, and why."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from runtime.config.rig_config import load_config
from runtime.formats.documents import DocumentError
from runtime.inference.backend import BackendError
from runtime.inference.backends import BackendRequest, open_backend
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.rows import layout_for
from runtime.inference.tensorrt.engine_cache import EngineCache
from runtime.inference.tensorrt.engine_making import make_engine
from runtime.inference.tensorrt.kernel_image import KERNEL_NAME
from runtime.inference.tensorrt.preprocess_block import CAMERA
from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, FakeCuda, has_compiler
from tests.runtime.inference.gpu.fake_platform import fake_platform, fresh_cuda, with_kernel
from tests.runtime.inference.tiny_networks import mean_manifest, mean_network, write_bundle

pytestmark = pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)
CAMERAS = ("camera_0", "camera_1")


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return load_bundle(write_bundle(tmp_path / "bundle", mean_manifest(2), {"fp32": mean_network(2)}))


@pytest.fixture
def cuda(tmp_path: Path) -> FakeCuda:
    return fresh_cuda(tmp_path)


def _choice(cuda: FakeCuda, bundle: ModelBundle, folder: Path, preprocess: str) -> tuple[str, tuple[str, ...]]:
    """Backend and place of preparation, and the reasons."""
    platform = fake_platform(cuda)
    make_engine(bundle, "auto", platform, EngineCache(folder / "engines"))
    request = BackendRequest("auto", engines=folder / "engines", preprocess=preprocess)
    layout = layout_for(bundle.manifest, CAMERAS)
    backend, reasons = open_backend(request, bundle, layout, CAMERAS, None, lambda: platform)
    where = "host" if backend.sources is None else "device"
    backend.close()
    assert cuda.count("cuMemFree_v2") == cuda.count("cuMemAlloc_v2")
    return f"{backend.description.backend} {where}", reasons


@pytest.mark.parametrize(("preprocess", "where"), [("auto", "device"), ("device", "device"), ("host", "host")])
def test_with_a_kernel_that_proves_right(
    cuda: FakeCuda, bundle: ModelBundle, tmp_path: Path, preprocess: str, where: str
) -> None:
    assert _choice(with_kernel(cuda), bundle, tmp_path, preprocess) == (f"tensorrt {where}", ())


def test_without_a_kernel_auto_prepares_on_the_cpu_and_says_why(
    cuda: FakeCuda, bundle: ModelBundle, tmp_path: Path
) -> None:
    where, (reason,) = _choice(cuda, bundle, tmp_path, "auto")
    assert where == "tensorrt host"
    assert "images are prepared on the CPU: the preprocessing kernel cannot be loaded" in reason


def test_a_kernel_that_is_subtly_wrong_is_not_believed(cuda: FakeCuda, bundle: ModelBundle, tmp_path: Path) -> None:
    with_kernel(cuda)
    right = cuda.callbacks[-1]

    def one_bit_off(parameters: int, rows: int) -> None:
        right(parameters, rows)
        cameras = ctypes.c_uint64.from_address(parameters).value
        output = ctypes.c_uint64.from_address(cameras + CAMERA.fields["output"][1]).value
        ctypes.c_uint8.from_address(output).value ^= 1

    wrong = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint)(one_bit_off)
    cuda.callbacks.append(wrong)
    cuda.library.fake_replace_kernel(KERNEL_NAME.encode(), wrong)
    _, (reason,) = _choice(cuda, bundle, tmp_path, "auto")
    assert "1 of 192 values of a trial frame differ from the NumPy reference" in reason


def test_device_does_not_start_without(cuda: FakeCuda, bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"device was asked for and cannot be: .*cannot be loaded.*preprocess: auto"):
        _choice(cuda, bundle, tmp_path, "device")
    layout = layout_for(bundle.manifest, CAMERAS)
    with pytest.raises(BackendError, match="only backend tensorrt can do that: backend onnx was asked for"):
        open_backend(BackendRequest("onnx", preprocess="device"), bundle, layout, CAMERAS)
    with pytest.raises(BundleFitError, match="unknown preprocess 'gpu'"):
        open_backend(BackendRequest("onnx", preprocess="gpu"), bundle, layout, CAMERAS)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("model: {bundle: hydra_mini, backend: onnx, preprocess: device}", "cannot prepare images on a device"),
        (
            "model: {bundle: hydra_mini}\nsecond_model: {bundle: hydra_mini, preprocess: device}",
            "a second one is given its images",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_told_with_its_line(tmp_path: Path, models: str, words: str) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(f"vehicle: {{id: car}}\n{models}\nsignals: {{sources: []}}\n")
    with pytest.raises(DocumentError, match=words):
        load_config(path)
