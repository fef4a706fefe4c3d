"""What every inference backend promises (`runtime.inference.backend`), run against each that there is.

A new backend adds itself to `BACKENDS`; nothing else here changes.
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
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.onnx_backend import OnnxBackend
from runtime.inference.rows import layout_for
from runtime.rig import Rig
from tests.runtime.inference.input_networks import (
    LEAK,
    calibrated_manifest,
    calibrated_network,
    conv_gru_manifest,
    conv_gru_network,
    leaky_manifest,
    leaky_network,
    plain_loop,
    rig_of,
    separate_manifest,
    separate_network,
)
from tests.runtime.inference.tensorrt.fake_cuda import NO_COMPILER, has_compiler
from tests.runtime.inference.tensorrt.fake_platform import open_for_contract
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


BACKENDS: dict[str, Open] = {"onnx": _open_onnx, "tensorrt": _open_tensorrt}
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


def _open(request: pytest.FixtureRequest, tmp_path: Path, manifest: dict, network: object) -> Callable[..., Backend]:
    bundle = load_bundle(write_bundle(tmp_path / "bundle", manifest, {"fp32": network}))
    opened: list[Backend] = []

    def open_backend(cameras: tuple[str, ...] = NAMES, rig: Rig | None = None) -> Backend:
        opened.append(BACKENDS[request.param](bundle, cameras, rig))
        opened[-1].warmup()
        return opened[-1]

    request.addfinalizer(lambda: [backend.close() for backend in opened])
    return open_backend


each_backend = pytest.mark.parametrize("opener", sorted(BACKENDS), indirect=True)
each_form = pytest.mark.parametrize("batch", [CAMERAS, 1], ids=["batch", "single"])


@pytest.fixture
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict, object], Callable[..., Backend]]:
    return lambda manifest, network: _open(request, tmp_path, manifest, network)


PERIOD_NS = 50_000_000


def _ticks(count: int, seed: int = 0) -> list[np.ndarray]:
    return [noise(CAMERAS, 100 * seed + tick) for tick in range(count)]


@each_backend
@each_form
def test_a_recurrent_network_says_what_a_plain_loop_says(opener: Callable, tmp_path: Path, batch: int) -> None:
    backend = opener(conv_gru_manifest(batch), conv_gru_network(batch))()
    images = _ticks(9)
    said = [
        backend.infer(frameset_of(image, time_ns=tick * PERIOD_NS), None).tensors["mean_hidden"].copy()
        for tick, image in enumerate(images)
    ]
    path, states = tmp_path / "bundle" / "fp32.onnx", {"hidden": "hidden_next"}
    initial = {"hidden": np.zeros((batch, 4, SIDE, SIDE), np.float32)}
    streams = [slice(row, row + batch) for row in range(0, CAMERAS, batch)]
    for rows in streams:
        loop = plain_loop(path, [{"images": image[rows]} for image in images], states, initial)
        for outputs, expected in zip(said, loop, strict=True):
            np.testing.assert_allclose(outputs[rows], expected["mean_hidden"], rtol=1e-5, atol=1e-5)
    assert not np.allclose(said[0], said[-1], atol=1e-3)  # it does remember


@each_backend
@each_form
def test_states_begin_anew_when_told_after_a_gap_and_when_time_runs_back(opener: Callable, batch: int) -> None:
    backend = opener(leaky_manifest(batch, reset_after_s=0.2, initial=40.0), leaky_network(batch))()
    image = noise(CAMERAS)
    fresh = 2 * (LEAK * 40.0 + (1 - LEAK) * image.mean(axis=(2, 3)))

    def is_fresh(time_ns: int) -> bool:
        outputs = backend.infer(frameset_of(image, time_ns=time_ns), None).tensors["twice"]
        return np.allclose(outputs, fresh, rtol=1e-5)

    start_ns = 7_000_000_000
    assert is_fresh(start_ns)  # neither opening nor warming up left a trace
    assert not is_fresh(start_ns + PERIOD_NS)
    assert not is_fresh(start_ns + PERIOD_NS + 200_000_000)  # as long as allowed
    assert is_fresh(start_ns + PERIOD_NS + 400_000_001)
    assert is_fresh(start_ns)
    assert not is_fresh(start_ns)  # the same instant once more is no gap
    backend.reset()
    assert is_fresh(start_ns + PERIOD_NS)


@each_backend
@each_form
def test_the_same_framesets_since_a_reset_give_the_same_bits(opener: Callable, batch: int) -> None:
    open_backend = opener(conv_gru_manifest(batch), conv_gru_network(batch))

    def drive(backend: Backend) -> list[bytes]:
        backend.reset()
        framesets = [frameset_of(image, time_ns=tick * PERIOD_NS) for tick, image in enumerate(_ticks(7, seed=3))]
        return [backend.infer(frameset, None).tensors["mean_hidden"].tobytes() for frameset in framesets]

    one, other = open_backend(), open_backend()
    for image in _ticks(4, seed=8):
        other.infer(frameset_of(image), None)  # the other has seen something else before
    assert drive(one) == drive(other) == drive(one)


@each_backend
def test_a_camera_that_misses_ticks_goes_on_from_its_own_state(opener: Callable) -> None:
    backend = opener(leaky_manifest(1), leaky_network(1))()
    images = _ticks(8)
    expected = np.zeros((CAMERAS, 3))
    for tick, image in enumerate(images):
        present = [True, tick not in (2, 3, 4), tick % 2 == 0, True]  # one for a whole ring, one every other tick
        outputs = backend.infer(frameset_of(image, present, tick * PERIOD_NS), None).tensors["twice"]
        seen = np.array(present)
        expected[seen] = LEAK * expected[seen] + (1 - LEAK) * image.mean(axis=(2, 3))[seen]
        np.testing.assert_allclose(outputs[seen], 2 * expected[seen], rtol=1e-5)
        assert not outputs[~seen].any()


@each_backend
@each_form
def test_a_state_that_a_head_reads_stays_whole_like_other_results(opener: Callable, batch: int) -> None:
    backend = opener(leaky_manifest(batch, outputs=("seen_next", "twice")), leaky_network(batch))()
    held = backend.infer(frameset_of(noise(CAMERAS, 1)), None).tensors
    before = {name: tensor.copy() for name, tensor in held.items()}
    np.testing.assert_array_equal(2 * before["seen_next"], before["twice"])
    for seed in range(2, 1 + backend.ring_length):
        backend.infer(frameset_of(noise(CAMERAS, seed)), None)
        assert all(np.array_equal(held[name], before[name]) for name in held)


@each_backend
def test_a_frameset_that_does_not_fit_leaves_the_state_alone(opener: Callable) -> None:
    backend = opener(leaky_manifest(CAMERAS), leaky_network(CAMERAS))()
    images = noise(CAMERAS)
    first = backend.infer(frameset_of(images), None).tensors["twice"].copy()
    with pytest.raises(FramesetError):
        backend.infer(frameset_of(noise(CAMERAS - 1)), None)
    second = backend.infer(frameset_of(images), None).tensors["twice"]
    np.testing.assert_allclose(second, (1 + LEAK) * first, rtol=1e-5)


@each_backend
@each_form
def test_recurrent_runs_allocate_nothing_that_lasts(opener: Callable, batch: int) -> None:
    backend = opener(leaky_manifest(batch, outputs=("seen_next", "twice")), leaky_network(batch))()
    framesets = [frameset_of(noise(CAMERAS), time_ns=tick * PERIOD_NS) for tick in range(40)]
    tracemalloc.start()
    try:
        for frameset in framesets * 5:
            backend.infer(frameset, None)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for frameset in framesets * (RUNS // 40):
            backend.infer(frameset, None)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < RUNS * 16, f"{RUNS} runs left {after - before} bytes behind"


@each_backend
@each_form
def test_matrices_of_the_rig_enter_in_the_row_of_their_camera(opener: Callable, batch: int) -> None:
    manifest = calibrated_manifest(batch)
    cameras = NAMES
    if batch > 1:
        manifest["cameras"] = ["camera_3", "camera_1", "camera_0"]  # camera_2 takes the row that is left
    backend = opener(manifest, calibrated_network(batch))(cameras, rig_of(NAMES, 160, 120))
    images = noise(CAMERAS)
    for _ in range(backend.ring_length + 1):
        tensors = backend.infer(frameset_of(images), None).tensors
    rows = [2, 1, 3, 0] if batch > 1 else [0, 1, 2, 3]
    for camera, row in zip(rig_of(NAMES, 160, 120).cameras, rows, strict=True):
        said = tensors["matrices"][row]
        intrinsics, extrinsics = said[:9].reshape(3, 3), said[9:25].reshape(4, 4)
        projection = said[25:].reshape(3, 4)
        point = np.array([12.0, 1.5, 0.4])
        small = camera.scaled(SIDE, SIDE)
        pixel, depth_m = small.project(point)
        in_camera = camera.to_camera(point)
        np.testing.assert_allclose(intrinsics @ in_camera, [*(pixel * depth_m), depth_m], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(extrinsics @ [*in_camera, 1.0], [*point, 1.0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(projection @ [*point, 1.0], [*(pixel * depth_m), depth_m], rtol=1e-4, atol=1e-3)


@each_backend
def test_a_rig_without_the_cameras_is_refused_or_takes_the_declared_fallback(opener: Callable) -> None:
    open_backend = opener(calibrated_manifest(CAMERAS), calibrated_network(CAMERAS))
    with pytest.raises(BundleFitError, match=r"no rig file.*fix"):
        open_backend(NAMES, None)
    with pytest.raises(BundleFitError, match=r"does not know camera_2, camera_3"):
        open_backend(NAMES, rig_of(NAMES[:2]))
