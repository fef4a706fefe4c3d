"""What every inference backend promises of states and calibration matrices, for those in `test_backend_contract`."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from runtime.inference.backend import Backend, FramesetError
from runtime.inference.bundle import load_bundle
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.inputs import STATE_TYPES
from runtime.rig import Rig
from tests.contract.test_backend_contract import BACKENDS, CAMERAS, NAMES, RUNS
from tests.runtime.inference.input_networks import (
    LEAK,
    calibrated_manifest,
    calibrated_network,
    conv_gru_manifest,
    conv_gru_network,
    flag_network,
    leaky_manifest,
    leaky_network,
    plain_loop,
    recurrent_manifest,
    rig_of,
)
from tests.runtime.inference.tiny_networks import SIDE, frameset_of, noise, write_bundle


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
@pytest.mark.parametrize("dtype", STATE_TYPES)
def test_a_state_may_be_of_any_type(opener: Callable, dtype: str) -> None:
    manifest = recurrent_manifest(
        CAMERAS, {"name": "state", "output": "state_next", "shape": [3], "dtype": dtype, "initial": 1.0}, ["shown"]
    )
    backend = opener(manifest, flag_network(CAMERAS, dtype))()
    frameset = frameset_of(noise(CAMERAS))
    said = [backend.infer(frameset, None).tensors["shown"].tolist() for _ in range(3)]
    assert said == [[1.0] * 3, [0.0] * 3, [1.0] * 3]


@each_backend
@each_form
def test_recurrent_runs_allocate_nothing_that_lasts(opener: Callable, batch: int) -> None:
    backend = opener(leaky_manifest(batch, outputs=("seen_next", "twice")), leaky_network(batch))()
    framesets = [frameset_of(noise(CAMERAS), time_ns=tick * PERIOD_NS) for tick in range(40)]
    held_bytes = []
    tracemalloc.start()
    try:
        for runs in (5, RUNS // 40, RUNS // 40):
            for frameset in framesets * runs:
                backend.infer(frameset, None)
            gc.collect()
            held_bytes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # What a run leaves behind is left in both spells; what Python makes once for itself is in one of them at most.
    left = min(later - earlier for earlier, later in pairwise(held_bytes))
    assert left < RUNS * 16, f"{RUNS} runs left {left} bytes behind"


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
