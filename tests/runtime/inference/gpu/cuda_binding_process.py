"""Run in a process of its own: the driver seam over one binding, which finds the fake as libcuda.so.1.

    python -m tests.runtime.inference.gpu.cuda_binding_process BINDING FAKE_LIBRARY BUNDLE

Prints one JSON object of what happened.
"""

from __future__ import annotations

import ctypes
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np


def main(binding: str, library: str, bundle_directory: str) -> dict[str, object]:
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)  # loaded under its soname, it is what every later dlopen gets
    from runtime.inference.bundle import load_bundle
    from runtime.inference.tensorrt.driver import CudaError, open_driver
    from runtime.inference.tensorrt.libcuda import FUNCTIONS
    from runtime.inference.tensorrt.probe import probe_tensorrt
    from tests.runtime.inference.gpu.fake_cuda import FakeCuda
    from tests.runtime.inference.gpu.fake_platform import open_backend_on
    from tests.runtime.inference.gpu.fake_tensorrt import made_for
    from tests.runtime.inference.tiny_networks import frameset_of, noise

    cuda = FakeCuda(Path(library))
    driver = open_driver([binding])
    platform = probe_tensorrt(lambda: driver, lambda _: made_for("10.3.0", cuda))
    backend = open_backend_on(platform, load_bundle(bundle_directory), ("camera_0", "camera_1"))
    backend.warmup()
    images = noise(2)
    before = cuda.counts(list(FUNCTIONS))
    means = [backend.infer(frameset_of(images), None).tensors["means"] for _ in range(10)]
    made = {name: count - before[name] for name, count in cuda.counts(list(FUNCTIONS)).items() if count != before[name]}
    is_right = all(np.allclose(each, images.mean(axis=(2, 3)), rtol=1e-5) for each in means)
    backend.close()
    return {
        "binding": driver.binding,
        "device": str(driver.device),
        "is_right": is_right,
        "calls_of_ten_ticks": made,
        "kernel_saw": _launch(driver, cuda),
        "pinned_elsewhere": _pinned_in_another_thread(driver),
        "in_capture": _refusal(driver, CudaError, in_capture=True),
        "out_of_memory": _refusal(driver, CudaError, in_capture=False),
        "streams_alive": cuda.count("cuStreamCreateWithPriority") - cuda.count("cuStreamDestroy_v2"),
    }


def _launch(driver: object, cuda: object) -> str:
    seen: list[bytes] = []
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda params: seen.append(ctypes.string_at(params, 8)))
    cuda.library.fake_register_kernel(b"kernel", kernel)
    stream = driver.open_stream()
    function = driver.get_function(driver.load_module(b"image\0"), "kernel")
    driver.launch(function, (2, 1, 1), (32, 8, 1), b"12345678", stream, 0)
    driver.synchronise(stream)
    return b"".join(seen).decode()


def _pinned_in_another_thread(driver: object) -> int:
    """As camera threads take memory for source frames."""

    def take() -> int:
        driver.make_current()
        return driver.pinned(4096).nbytes

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).result()


def _refusal(driver: object, error_type: type[Exception], in_capture: bool) -> str:
    stream = driver.open_stream()
    try:
        if in_capture:
            driver.begin_capture(stream)
        driver.allocate(64 if in_capture else 1 << 50)
    except error_type as error:
        return str(error)
    finally:
        if in_capture:
            driver.abandon_capture(stream)
    return "it was allowed"


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
