"""The kernel on the device: equal to NumPy, the same through a graph, and the same 10,000 ticks later."""

from __future__ import annotations

import ctypes
import time

import numpy as np

from deploy.gpu_check.outcome import FailedError, Found
from deploy.gpu_check.workload import Subject, Workload
from runtime.formats.image_spec import ImageSpec
from runtime.inference.tensorrt import libcuda
from runtime.inference.tensorrt.preprocess_block import ELEMENT_TYPES

REFERENCE_SPEC = ImageSpec(320, 192)
_SPECS = (REFERENCE_SPEC, ImageSpec(416, 416, "bgr", "letterbox"), ImageSpec(1333, 77, "rgb", "stretch", 0))


def kernel_equals_numpy(subject: Subject) -> Found:
    """Random frames, every element type, several networks' sizes, a camera left out: not one bit may differ."""
    random = np.random.default_rng(subject.seed)
    compared = 0
    cases = [("uint8", spec) for spec in _SPECS] + [(other, REFERENCE_SPEC) for other in ELEMENT_TYPES[1:]]
    for element_type, spec in cases:
        workload = Workload(subject, spec, element_type)
        for absent in (None, 3):
            workload.fill(random, absent)
            workload.run()
            wrong = workload.differences(absent)
            count = workload.output.nbytes // workload.block.element_bytes
            if wrong:
                what = f"{element_type}, {spec.width}x{spec.height} {spec.color} {spec.resize}"
                raise FailedError(f"{wrong} of {count} elements differ from NumPy ({what}, absent row {absent})")
            compared += count
        workload.free()
    return f"{compared:,} elements equal NumPy to the bit", {"elements": compared}


def graph_equals_launch(subject: Subject, replays: int = 20) -> Found:
    """A tick captured once and replayed over changing frames, addresses in the block and absent cameras."""
    random = np.random.default_rng(subject.seed)
    workload = Workload(subject, REFERENCE_SPEC, "uint8")
    workload.fill(random)
    graph = workload.capture()
    for number in range(replays):
        absent = number % 9 if number % 9 < len(workload.frames) else None
        workload.fill(random, absent)
        workload.run(graph)
        wrong = workload.differences(absent)
        if wrong:
            raise FailedError(f"replay {number} of the captured graph: {wrong} elements differ from NumPy")
    workload.free()
    return f"{replays} replays equal NumPy to the bit", {"replays": replays}


def stays_the_same(subject: Subject, launches: int) -> Found:
    """The same input through the graph many times: same output, same memory left, nothing allocated."""
    workload = Workload(subject, REFERENCE_SPEC, "uint8")
    workload.fill(np.random.default_rng(subject.seed))
    graph = workload.capture()
    workload.run(graph)
    first = workload.output.copy()
    block, free_bytes = workload.block.cameras.tobytes(), _free_device_bytes()
    started = time.perf_counter()
    for number in range(launches):
        workload.run(graph)
        if number % 100 == 0 and not np.array_equal(first, workload.output):
            raise FailedError(f"launch {number} gave another output for the same frames")
    seconds = time.perf_counter() - started
    if not np.array_equal(first, workload.output):
        raise FailedError(f"launch {launches} gave another output for the same frames")
    if workload.block.cameras.tobytes() != block:
        raise FailedError("addresses in the parameter block changed between launches")
    lost = free_bytes - _free_device_bytes()
    workload.free()
    figures = {"launches": launches, "mean_us": round(seconds / max(launches, 1) * 1e6, 1), "device_bytes_lost": lost}
    if lost > 0:
        raise FailedError(f"the device has {lost} bytes less after {launches} launches (another process's, perhaps)")
    return f"{launches:,} launches, same output and addresses; {figures['mean_us']} us each", figures


def _free_device_bytes() -> int:
    """Memory that the device has left, from the driver itself: the seam has no use for it."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    result = ctypes.CDLL(libcuda.SONAME).cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    if result != 0:
        raise FailedError(f"cuMemGetInfo_v2 says {result}")
    return free.value
