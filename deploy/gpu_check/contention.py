"""How steady a tick's GPU work is alone, and beside a process that keeps the GPU busy.

The graph is replayed at the tick's rate, as on the road (back to back would hide what waiting costs). The contender
(`python -m deploy.gpu_check.contention`) is a process of its own with a context of its own, as a controller's network
would be: it runs the same kernel on a larger image without a pause until it is told to stop.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from deploy.gpu_check.kernel_checks import REFERENCE_SPEC
from deploy.gpu_check.outcome import FailedError, Found
from deploy.gpu_check.workload import Subject, Workload, load_kernel
from runtime.formats.image_spec import ImageSpec
from runtime.inference.tensorrt.driver import open_driver

RATE_HZ = 36
READY_WITHIN_S = 60.0
_CONTENDER_SIDES_PX = (1920, 1080)


def steadiness(subject: Subject, seconds: float) -> Found:
    """p50, p99 and p99.9 of one tick's graph, from its launch to its end, in microseconds."""
    workload = Workload(subject, REFERENCE_SPEC, "uint8")
    workload.fill(np.random.default_rng(0))
    graph = workload.capture()

    def measure() -> dict[str, float]:
        for _ in range(20):
            workload.run(graph)
        count = max(10, round(seconds * RATE_HZ))
        times_us = np.zeros(count)
        due = time.perf_counter()
        for number in range(count):
            due += 1 / RATE_HZ
            time.sleep(max(0.0, due - time.perf_counter()))
            started = time.perf_counter()
            workload.run(graph)
            times_us[number] = (time.perf_counter() - started) * 1e6
        p50, p99, p99_9 = np.percentile(times_us, (50, 99, 99.9))
        numbers = {"p50_us": p50, "p99_us": p99, "p99_9_us": p99_9, "p99_9_over_p50": p99_9 / p50}
        return {name: round(float(value), 2) for name, value in numbers.items()}

    alone = measure()
    with contender(subject.shrink):
        contended = measure()
    ratios = f"p99.9/p50 {alone['p99_9_over_p50']} alone, {contended['p99_9_over_p50']} contended"
    detail = f"{ratios}; p50 {alone['p50_us']} us alone, {contended['p50_us']} us contended"
    return detail, {"rate_hz": RATE_HZ, "seconds": seconds, "alone": alone, "contended": contended}


@contextmanager
def contender(shrink: int) -> Iterator[None]:
    """A busy process beside this one, at work before the body begins. Raises FailedError when it cannot start."""
    command = [sys.executable, "-m", "deploy.gpu_check.contention", str(shrink)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            is_heard, _, _ = select.select([process.stdout], [], [], READY_WITHIN_S)
            if not is_heard or process.stdout.readline().strip() != "busy":
                raise FailedError(f"the contending process was not busy within {READY_WITHIN_S:g} s, or ended before")
            yield
            if process.poll() is not None:
                raise FailedError(f"the contending process ended with {process.returncode} during the measurement")
        finally:
            process.kill()


def contend(shrink: int) -> None:
    """Keep the GPU busy until this process is killed, or its parent has ended."""
    driver = open_driver()
    kernel, _, _ = load_kernel(driver)
    width, height = _CONTENDER_SIDES_PX
    spec = ImageSpec(width // shrink, height // shrink)
    workload = Workload(Subject(driver, kernel, 1, shrink), spec, "float32")
    workload.fill(np.random.default_rng(1))
    graph = workload.capture()
    workload.run(graph)
    print("busy", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        workload.run(graph)


if __name__ == "__main__":
    contend(int(sys.argv[1]))
