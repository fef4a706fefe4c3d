"""What every inference backend promises (`runtime.inference.backend`), run against each that there is.

A new backend adds itself to `BACKENDS`; nothing else here changes. Promises of states and calibration matrices are in
`test_backend_memory_contract`.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from runtime.inference.backend import Backend, BackendError, FramesetError
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.onnx_backend import OnnxBackend
from runtime.inference.rows import layout_for
from runtime.rig import Rig
from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, has_compiler
from tests.runtime.inference.gpu.fake_platform import open_for_contract, open_on_device_for_contract
from tests.runtime.inference.input_networks import (
    separate_manifest,
    separate_network,
)
from tests.runtime.inference.tiny_networks import (
    SIDE,
    FixedSignals,
    frameset_of,
    mean_manifest,
    mean_network,
    noise,
    write_bundle,
)

#: Opens the FP32 file of a bundle for these cameras, with their calibration.
Open = Callable[[ModelBundle, tuple[str, ...], Rig | None], Backend]


def _open_onnx(bundle: ModelBundle, cameras: tuple[str, ...], rig: Rig | None = None) -> Backend:
    return OnnxBackend(bundle, "fp32", layout_for(bundle.manifest, cameras), cameras, rig=rig)


def _open_tensorrt(bundle: ModelBundle, cameras: tuple[str, ...], rig: Rig | None = None) -> Backend:
    """Over a fake CUDA driver and a virtual TensorRT: everything but the GPU is what runs on a vehicle."""
    if not has_compiler():
        pytest.skip(NO_COMPILER)
    return open_for_contract(bundle, cameras, rig=rig)


def _open_tensorrt_device(bundle: ModelBundle, cameras: tuple[str, ...], rig: Rig | None = None) -> Backend:
    """Likewise, with the preprocessing kernel (its source, run on the CPU) at the head of the graph."""
    if not has_compiler():
        pytest.skip(NO_COMPILER)
    return open_on_device_for_contract(bundle, cameras, rig=rig)


BACKENDS: dict[str, Open] = {
    "onnx": _open_onnx,
    "tensorrt": _open_tensorrt,
    "tensorrt_device": _open_tensorrt_device,
}
CAMERAS = 4
NAMES = tuple(f"camera_{index}" for index in range(CAMERAS))
RUNS = 1000
SCALE, MEAN, STD = 0.5, (1.0, 2.0, 3.0), (1.0, 2.0, 4.0)
#: How a network can take its images: rows of its batch, and the type with its conversion.
NETWORKS = {
    "batch_uint8": (CAMERAS, {"dtype": "uint8"}),
    "batch_float32": (CAMERAS, {"dtype": "float32", "scale": SCALE, "mean": list(MEAN), "std": list(STD)}),
    "single_uint8": (1, {"dtype": "uint8"}),
    "single_float32": (1, {"dtype": "float32", "scale": SCALE, "mean": list(MEAN), "std": list(STD)}),
    "separate_uint8": (None, {"dtype": "uint8"}),  # an input for each camera
    "separate_float32": (None, {"dtype": "float32", "scale": SCALE, "mean": list(MEAN), "std": list(STD)}),
}


@pytest.fixture(params=sorted(NETWORKS))
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> ModelBundle:
    batch, images = NETWORKS[request.param]
    if batch is None:
        files = {"fp32": separate_network(CAMERAS, str(images["dtype"]))}
        return load_bundle(write_bundle(tmp_path / "bundle", separate_manifest(CAMERAS, **images), files))
    network = mean_network(batch, str(images["dtype"]))
    return load_bundle(write_bundle(tmp_path / "bundle", mean_manifest(batch, **images), {"fp32": network}))


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, bundle: ModelBundle) -> Iterator[Backend]:
    opened = BACKENDS[request.param](bundle, NAMES, None)
    opened.warmup()
    yield opened
    opened.close()


def _plain_run(bundle: ModelBundle, images: np.ndarray, speed_mps: float) -> dict[str, np.ndarray]:
    """What ONNX Runtime says when it is called the plain way, one row per camera."""
    session = onnxruntime.InferenceSession(str(bundle.file("fp32")), providers=["CPUExecutionProvider"])
    entry = bundle.manifest.images
    if entry.dtype == "float32":
        mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (entry.mean, entry.std))
        images = ((images.astype(np.float32) * np.float32(entry.scale)) - mean) / std
    speed = np.full((1, 1), speed_mps, np.float32)
    if bundle.manifest.has_separate_images:
        feeds = [{f"image_{row}": images[row : row + 1] for row in range(len(images))}]
    else:
        batches = [images] if entry.batch > 1 else [images[row : row + 1] for row in range(len(images))]
        feeds = [{"images": batch} for batch in batches]
    runs = [session.run(["means", "control"], {**feed, "speed_mps": speed}) for feed in feeds]
    return {"means": np.concatenate([r[0] for r in runs]), "control": np.concatenate([r[1] for r in runs])}


def test_outputs_are_those_of_a_plain_run(backend: Backend, bundle: ModelBundle) -> None:
    for seed in range(5):
        images = noise(CAMERAS, seed)
        outputs = backend.infer(frameset_of(images), FixedSignals(vehicle__speed_mps=float(seed)))
        expected = _plain_run(bundle, images, float(seed))
        np.testing.assert_allclose(outputs.tensors["means"], expected["means"], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(outputs.tensors["control"], expected["control"], rtol=1e-5, atol=1e-4)


def test_a_ring_slot_of_capture_is_read_wherever_it_lies(backend: Backend, bundle: ModelBundle) -> None:
    ring = np.stack([noise(CAMERAS, seed) for seed in range(4)])
    for instant in range(8):
        outputs = backend.infer(frameset_of(ring[instant % 4]), None)
        expected = _plain_run(bundle, ring[instant % 4], -1.0)["means"]
        np.testing.assert_allclose(outputs.tensors["means"], expected, rtol=1e-5, atol=1e-4)


def test_the_same_input_gives_the_same_bits(backend: Backend) -> None:
    frameset = frameset_of(noise(CAMERAS))
    first = {name: tensor.copy() for name, tensor in backend.infer(frameset, None).tensors.items()}
    backend.infer(frameset_of(noise(CAMERAS, 9)), None)
    again = backend.infer(frameset, None).tensors
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_a_result_stays_whole_until_the_ring_comes_round(backend: Backend) -> None:
    held = backend.infer(frameset_of(noise(CAMERAS, 1)), None).tensors["means"]
    before = held.copy()
    for seed in range(2, 1 + backend.ring_length):
        backend.infer(frameset_of(noise(CAMERAS, seed)), None)
        assert np.array_equal(held, before)
    backend.infer(frameset_of(noise(CAMERAS, 50)), None)
    assert not np.array_equal(held, before)


def test_outputs_stay_at_the_addresses_of_the_ring(backend: Backend) -> None:
    frameset = frameset_of(noise(CAMERAS))
    addresses = [backend.infer(frameset, None).tensors["means"].ctypes.data for _ in range(4 * backend.ring_length)]
    assert len(set(addresses)) == backend.ring_length
    assert addresses == addresses[: backend.ring_length] * 4


def test_infer_allocates_nothing_that_lasts(backend: Backend) -> None:
    frameset, signals = frameset_of(noise(CAMERAS)), FixedSignals(vehicle__speed_mps=3.0)
    tracemalloc.start()
    try:
        for _ in range(200):  # the interpreter's own free lists fill up first
            backend.infer(frameset, signals)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(RUNS):
            backend.infer(frameset, signals)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The smallest thing that a run could leave behind, a float, has 24 bytes; free lists breathe by a few kilobytes.
    assert after - before < RUNS * 16, f"{RUNS} runs left {after - before} bytes behind"


def test_a_missing_camera_is_told_and_leaves_no_stale_outputs(backend: Backend, bundle: ModelBundle) -> None:
    images = noise(CAMERAS)
    for _ in range(backend.ring_length):
        backend.infer(frameset_of(images), None)
    images[2] = bundle.manifest.images.pad_value  # what the batch ring holds for a camera without a frame
    outputs = backend.infer(frameset_of(images, [True, True, False, True]), None)
    assert outputs.row_present.tolist() == [True, True, False, True]
    expected = _plain_run(bundle, images, -1.0)["means"]
    if bundle.manifest.is_per_camera:
        expected[2] = 0.0
    np.testing.assert_allclose(outputs.tensors["means"], expected, rtol=1e-5, atol=1e-4)


def test_a_camera_that_comes_back_is_read_again(backend: Backend, bundle: ModelBundle) -> None:
    images = noise(CAMERAS)
    backend.infer(frameset_of(images, [False] * CAMERAS), None)
    for _ in range(backend.ring_length):
        outputs = backend.infer(frameset_of(images), None)
    np.testing.assert_allclose(
        outputs.tensors["means"], _plain_run(bundle, images, -1.0)["means"], rtol=1e-5, atol=1e-4
    )


def test_an_unknown_signal_enters_as_declared(backend: Backend) -> None:
    frameset = frameset_of(noise(CAMERAS))
    backend.infer(frameset, FixedSignals(vehicle__speed_mps=30.0))
    assert backend.infer(frameset, FixedSignals()).tensors["control"][0, 3] == -1.0
    assert backend.infer(frameset, FixedSignals(vehicle__speed_mps="fast")).tensors["control"][0, 3] == -1.0


@pytest.mark.parametrize(
    "images",
    [
        noise(CAMERAS - 1),
        noise(CAMERAS, height=SIDE * 2),
        noise(CAMERAS).astype(np.float32),
        noise(CAMERAS, width=SIDE * 2)[:, :, :, ::2],
    ],
    ids=["fewer cameras", "another size", "another type", "not in one piece"],
)
def test_a_frameset_that_does_not_fit_is_refused_and_does_no_harm(backend: Backend, images: np.ndarray) -> None:
    good = frameset_of(noise(CAMERAS))
    expected = backend.infer(good, None).tensors["means"].copy()
    with pytest.raises(FramesetError):
        backend.infer(frameset_of(images), None)
    assert np.array_equal(backend.infer(good, None).tensors["means"], expected)


def test_a_closed_backend_says_so(bundle: ModelBundle) -> None:
    for open_backend in BACKENDS.values():
        backend = open_backend(bundle, NAMES, None)
        backend.close()
        with pytest.raises(BackendError, match="closed"):
            backend.infer(frameset_of(noise(CAMERAS)), None)


def test_the_description_names_the_file_in_use(backend: Backend, bundle: ModelBundle) -> None:
    told = backend.description.as_dict()
    assert told["sha256"] == bundle.sha256("fp32")
    assert told["precision"] == "fp32"
    assert told["backend"] in BACKENDS
