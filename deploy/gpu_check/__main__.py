"""`python -m deploy.gpu_check`: run every check that can run here, and say of every other why it cannot."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from deploy.gpu_check import contention, device_images, engine, kernel_checks, software
from deploy.gpu_check.outcome import Found, NotRunError, Outcome, exit_code, perform, print_table
from deploy.gpu_check.workload import Subject, load_kernel
from runtime.inference.tensorrt.driver import CudaDriver, CudaError
from runtime.inference.tensorrt.kernel_image import KernelImageError
from runtime.inference.tensorrt.preprocess import PreprocessKernel

_FAILURES = (CudaError, KernelImageError)


class Check:
    """All checks in order; what an early one opened, later ones use."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._driver: CudaDriver | None = None
        self._kernel: PreprocessKernel | None = None
        self.outcomes: list[Outcome] = []

    def run(self) -> list[Outcome]:
        """Perform every check."""
        options = self._options
        self._add("device", self._open_driver)
        self._add("pycuda", lambda: software.pycuda_version(self._driver))
        tensorrt = "JetPack brings it (python3-libnvinfer); elsewhere pip install tensorrt"
        self._add("tensorrt", lambda: software.module_version("tensorrt", tensorrt))
        self._add("kernel loads", self._load_kernel)
        self._add("nvrtc", self._find_nvrtc)
        self._add("kernel = NumPy", lambda: kernel_checks.kernel_equals_numpy(self._loaded()))
        self._add("graph = launch", lambda: kernel_checks.graph_equals_launch(self._loaded()))
        self._add(
            "stays the same",
            lambda: kernel_checks.stays_the_same(self._loaded(), options.launches),
        )
        self._add("steadiness", lambda: contention.steadiness(self._loaded(), options.seconds))
        self._add("engine = ONNX", lambda: engine.engine_equals_onnx(self._opened(), options.model, options.seed))
        self._add(
            "device = CPU",
            lambda: device_images.device_prepares_as_the_cpu(
                self._opened(), options.model, options.seed, options.shrink
            ),
        )
        return self.outcomes

    def _add(self, name: str, check: Callable[[], Found]) -> None:
        self.outcomes.append(perform(name, check, _FAILURES))

    def _open_driver(self) -> Found:
        self._driver = software.opened_driver()
        return software.describe(self._driver)

    def _opened(self) -> CudaDriver:
        if self._driver is None:
            raise NotRunError("no CUDA device was opened (see 'device')")
        return self._driver

    def _load_kernel(self) -> Found:
        self._kernel, name, refused = load_kernel(self._opened())
        before = f"; refused before it: {'; '.join(refused)}" if refused else ""
        return f"{name}{before}", {"image": name, "refused": list(refused)}

    def _find_nvrtc(self) -> Found:
        newest_major = None if self._driver is None else self._driver.device.driver_version[0]
        return software.nvrtc_version(newest_major, is_needed=self._kernel is None)

    def _loaded(self) -> Subject:
        driver = self._opened()
        if self._kernel is None:
            raise NotRunError("the kernel was not loaded (see 'kernel loads')")
        return Subject(driver, self._kernel, self._options.seed, self._options.shrink)


def main(arguments: list[str] | None = None) -> int:
    """Run the checks; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.gpu_check", description=__doc__)
    parser.add_argument("--model", type=Path, help="a bundle; its engine is built and compared (minutes)")
    parser.add_argument("--launches", type=int, default=10_000, help="of the captured graph, for 'stays the same'")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each half of 'steadiness'")
    parser.add_argument("--seed", type=int, default=1, help="of the frames' noise")
    parser.add_argument("--shrink", type=int, default=1, help="divide the frames' sides by this, for a quick look")
    parser.add_argument("--json", type=Path, help="write the outcomes here as well")
    options = parser.parse_args(arguments)
    outcomes = Check(options).run()
    code = exit_code(outcomes)
    print_table(outcomes, Console())
    if options.json is not None:
        checks = [{name: getattr(outcome, name) for name in Outcome.__dataclass_fields__} for outcome in outcomes]
        options.json.write_text(json.dumps({"exit_code": code, "checks": checks}, indent=2) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
