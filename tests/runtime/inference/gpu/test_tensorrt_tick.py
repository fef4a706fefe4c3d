"""What a tick of backend `tensorrt` asks of the driver, counted by a driver that only pretends to have a GPU."""

from __future__ import annotations

import ctypes
import gc
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from runtime.inference.backend import BackendError
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.tensorrt.driver import CudaError
from runtime.inference.tensorrt.engine import Engine
from runtime.inference.tensorrt.libcuda import FUNCTIONS
from runtime.inference.tensorrt.tick_graphs import TickGraphs
from tests.runtime.inference.gpu.fake_cuda import NO_COMPILER, FakeCuda, has_compiler
from tests.runtime.inference.gpu.fake_platform import fake_platform, fresh_cuda, open_backend_on
from tests.runtime.inference.input_networks import leaky_manifest, leaky_network
from tests.runtime.inference.tiny_networks import (
    FixedSignals,
    frameset_of,
    mean_manifest,
    mean_network,
    noise,
    write_bundle,
)

pytestmark = pytest.mark.skipif(not has_compiler(), reason=NO_COMPILER)

CAMERAS = 4
NAMES = tuple(f"camera_{index}" for index in range(CAMERAS))
TICKS = 1000
ILLEGAL_ADDRESS, OUT_OF_MEMORY, LAUNCH_FAILED = 700, 2, 719
BLOCK = 256
IMAGE_BYTES = 3 * 8 * 8
ALLOCATIONS = ("cuMemAlloc_v2", "cuMemHostAlloc", "cuMemFree_v2", "cuMemFreeHost", "cuStreamCreateWithPriority")


@pytest.fixture
def cuda(tmp_path: Path) -> FakeCuda:
    return fresh_cuda(tmp_path)


def _bundle(folder: Path, batch: int = CAMERAS) -> ModelBundle:
    return load_bundle(write_bundle(folder / "bundle", mean_manifest(batch), {"fp32": mean_network(batch)}))


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK) * BLOCK


def test_a_tick_is_one_launch_and_one_wait_and_nothing_else(cuda: FakeCuda, tmp_path: Path) -> None:
    backend = open_backend_on(fake_platform(cuda), _bundle(tmp_path), NAMES)
    backend.warmup()
    frameset, signals = frameset_of(noise(CAMERAS)), FixedSignals(vehicle__speed_mps=3.0)
    before = cuda.counts(list(FUNCTIONS))
    addresses = {backend.infer(frameset, signals).tensors["means"].ctypes.data for _ in range(TICKS)}
    assert len(addresses) == backend.ring_length
    made = {name: count - before[name] for name, count in cuda.counts(list(FUNCTIONS)).items() if count != before[name]}
    assert made == {"cuGraphLaunch": TICKS, "cuStreamSynchronize": TICKS}
    backend.close()


def test_a_network_run_per_camera_launches_for_those_that_are_there_and_waits_once(
    cuda: FakeCuda, tmp_path: Path
) -> None:
    backend = open_backend_on(fake_platform(cuda), _bundle(tmp_path, batch=1), NAMES)
    backend.warmup()
    frameset = frameset_of(noise(CAMERAS), [True, False, True, True])
    before = cuda.counts(["cuGraphLaunch", "cuStreamSynchronize"])
    backend.infer(frameset, None)
    after = cuda.counts(["cuGraphLaunch", "cuStreamSynchronize"])
    assert after["cuGraphLaunch"] - before["cuGraphLaunch"] == 3
    assert after["cuStreamSynchronize"] - before["cuStreamSynchronize"] == 1
    backend.close()


def test_a_tick_moves_what_goes_in_and_what_heads_read(cuda: FakeCuda, tmp_path: Path) -> None:
    backend = open_backend_on(fake_platform(cuda), _bundle(tmp_path), NAMES)
    backend.warmup()
    to_device, to_host = cuda.moved_bytes
    backend.infer(frameset_of(noise(CAMERAS)), None)
    moved = cuda.moved_bytes
    assert moved[0] - to_device == _aligned(CAMERAS * IMAGE_BYTES) + _aligned(4)  # images, speed
    assert moved[1] - to_host == _aligned(CAMERAS * 3 * 4) + _aligned(4 * 4)  # means, control; not the planes
    backend.close()


def test_nothing_is_allocated_or_waited_for_in_a_capture(
    cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = fake_platform(cuda)
    seen: list[tuple[int, int]] = []
    begin, end = platform.driver.begin_capture, platform.driver.end_capture
    forbidden = (*ALLOCATIONS, "cuStreamSynchronize", "cuModuleLoadData")

    def begin_and_count(stream: int) -> None:
        begin(stream)
        seen.append((cuda.count(*forbidden), -1))

    def count_and_end(stream: int) -> int:
        seen[-1] = (seen[-1][0], cuda.count(*forbidden))
        return end(stream)

    monkeypatch.setattr(platform.driver, "begin_capture", begin_and_count)
    monkeypatch.setattr(platform.driver, "end_capture", count_and_end)
    backend = open_backend_on(platform, _bundle(tmp_path), NAMES)
    assert len(seen) == backend.ring_length  # one graph for each slot of the ring
    assert all(first == last for first, last in seen)
    backend.close()


def test_a_library_that_allocates_in_a_capture_is_found_out(
    cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = fake_platform(cuda)
    enqueue, runs = Engine.enqueue, [0]

    def allocate_too(engine: Engine, stream: int) -> None:
        runs[0] += 1
        if runs[0] > 1:  # the first run comes before the captures, as TensorRT's lazy loading does
            platform.driver.allocate(256)
        enqueue(engine, stream)

    monkeypatch.setattr(Engine, "enqueue", allocate_too)
    with pytest.raises(BackendError, match="STREAM_CAPTURE_UNSUPPORTED"):
        open_backend_on(platform, _bundle(tmp_path), NAMES)
    assert cuda.count("cuStreamEndCapture") == 1  # the capture was ended, the stream can be used again


def test_the_stream_has_the_lowest_priority(cuda: FakeCuda) -> None:
    driver = fake_platform(cuda).driver
    stream = driver.open_stream()
    assert cuda.library.cuStreamGetPriority  # as the driver itself sees it
    assert driver._cuda.stream_priority(stream) == driver._cuda.lowest_priority() == 0
    driver.close_stream(stream)


def test_everything_on_the_device_is_given_back(cuda: FakeCuda, tmp_path: Path) -> None:
    backend = open_backend_on(fake_platform(cuda), _bundle(tmp_path), NAMES)
    held = backend.infer(frameset_of(noise(CAMERAS)), None).tensors["means"]
    before = held.copy()
    backend.close()
    assert np.array_equal(held, before)  # pinned memory lives on while someone looks at it
    assert cuda.count("cuMemFree_v2") == cuda.count("cuMemAlloc_v2")
    assert cuda.count("cuGraphExecDestroy") == cuda.count("cuGraphInstantiateWithFlags")
    del held, backend
    assert cuda.allocated_bytes == 0


@pytest.mark.parametrize(
    ("call", "after"),
    [("cuMemAlloc_v2", 0), ("cuMemAlloc_v2", 2), ("cuMemHostAlloc", 1), ("cuGraphInstantiateWithFlags", 2)],
)
def test_too_little_memory_is_told_and_leaves_nothing_behind(
    cuda: FakeCuda, tmp_path: Path, call: str, after: int
) -> None:
    platform = fake_platform(cuda)
    cuda.fail(call, OUT_OF_MEMORY, after)
    with pytest.raises(BackendError, match=r"OUT_OF_MEMORY.*free GPU memory"):
        open_backend_on(platform, _bundle(tmp_path), NAMES)
    cuda.fail(call, 0)
    gc.collect()  # the traceback held the backend that was never made
    assert cuda.allocated_bytes == 0


@pytest.mark.parametrize(("call", "code"), [("cuGraphLaunch", LAUNCH_FAILED), ("cuStreamSynchronize", ILLEGAL_ADDRESS)])
def test_a_gpu_that_fails_on_the_way_is_told_with_what_to_do(
    cuda: FakeCuda, tmp_path: Path, call: str, code: int
) -> None:
    backend = open_backend_on(fake_platform(cuda), _bundle(tmp_path), NAMES)
    frameset = frameset_of(noise(CAMERAS))
    backend.infer(frameset, None)
    cuda.fail(call, code)
    with pytest.raises(BackendError, match=rf"{call}.*restart the process.*Xid"):
        backend.infer(frameset, None)
    cuda.fail(call, 0)
    with pytest.raises(BackendError, match="context is lost"):  # a lost context never comes back by itself
        backend.infer(frameset, None)
    backend.close()


def test_the_tick_may_run_in_another_thread_than_the_opening(cuda: FakeCuda, tmp_path: Path) -> None:
    backend = open_backend_on(fake_platform(cuda), _bundle(tmp_path), NAMES)
    images = noise(CAMERAS)
    said: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: said.append(backend.infer(frameset_of(images), None).tensors["means"]))
    thread.start()
    thread.join(timeout=10)
    np.testing.assert_allclose(said[0], images.mean(axis=(2, 3)), rtol=1e-5)
    backend.close()


def test_states_stay_on_the_device(cuda: FakeCuda, tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", leaky_manifest(CAMERAS), {"fp32": leaky_network(CAMERAS)}))
    backend = open_backend_on(fake_platform(cuda), bundle, NAMES)
    backend.warmup()
    backend.infer(frameset_of(noise(CAMERAS), time_ns=0), None)  # begins anew: its states are written once
    before = cuda.moved_bytes
    backend.infer(frameset_of(noise(CAMERAS), time_ns=50_000_000), None)
    inputs = bundle.manifest.image_inputs + bundle.manifest.signals
    sizes = [int(np.prod(entry.shape)) * np.dtype(entry.dtype).itemsize for entry in inputs]
    assert cuda.moved_bytes[0] - before[0] == sum(map(_aligned, sizes))
    backend.close()


def test_memory_that_is_not_ours_is_refused_by_the_fake(cuda: FakeCuda) -> None:
    driver = fake_platform(cuda).driver
    stream = driver.open_stream()
    with pytest.raises(CudaError, match=re.escape("CUDA_ERROR_INVALID_VALUE")):
        driver.copy_to_device(driver.allocate(64), np.zeros(64, np.uint8), stream)  # pageable, so never truly async


def test_work_in_front_of_the_network_is_part_of_its_graph(cuda: FakeCuda, tmp_path: Path) -> None:
    platform = fake_platform(cuda)
    driver = platform.driver
    backend = open_backend_on(platform, _bundle(tmp_path), NAMES)
    target = backend._memory.streams[0].input_addresses["images"]
    fill = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: ctypes.memset(target, 9, CAMERAS * IMAGE_BYTES))
    cuda.library.fake_register_kernel(b"fill", fill)
    function = driver.get_function(driver.load_module(b"image"), "fill")

    def before(stream: int) -> None:
        driver.launch(function, (1, 1, 1), (32, 8, 1), b"", stream, 0)

    graphs = TickGraphs(driver, backend._stream, backend._engine, backend._memory, backend._manifest, [before])
    assert cuda.library.fake_kernel_runs() == 1  # the run before the captures; captures run nothing
    graphs.launch(1, 0, 0)
    driver.synchronise(backend._stream)
    assert np.all(backend._memory.slot_tensors(1)["means"] == 9.0)
    assert cuda.library.fake_kernel_runs() == 2
    graphs.free()
    backend.close()
