"""Which of the software is here: the CUDA driver and a device, the bindings, TensorRT, NVRTC."""

from __future__ import annotations

import importlib

from deploy.gpu_check.outcome import Found, NotRunError
from runtime.inference.tensorrt.driver import CudaDriver, NoDriverError, open_driver
from runtime.inference.tensorrt.nvrtc import NvrtcError, find_nvrtc


def opened_driver() -> CudaDriver:
    """The device through the first binding that is here. Raises NotRunError with what each said."""
    try:
        return open_driver()
    except NoDriverError as error:
        raise NotRunError(str(error)) from error


def describe(driver: CudaDriver) -> Found:
    """The device, as the driver tells it."""
    device = driver.device
    figures = {
        "device": device.name,
        "compute_capability": ".".join(map(str, device.compute_capability)),
        "driver_cuda": ".".join(map(str, device.driver_version)),
        "memory_bytes": device.memory_bytes,
        "binding": driver.binding,
    }
    return f"{device}, through {driver.binding}", figures


def module_version(name: str, install: str) -> Found:
    """That a Python module can be imported, and its version. Raises NotRunError with how to install it."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise NotRunError(f"{error}; {install}") from error
    version = str(getattr(module, "__version__", None) or getattr(module, "VERSION_TEXT", "of unknown version"))
    return version, {"version": version}


def pycuda_version(driver: CudaDriver | None) -> Found:
    """The preferred binding; others can stand in."""
    try:
        return module_version("pycuda.driver", "pip install pycuda")
    except NotRunError as error:
        if driver is None:
            raise
        return f"not needed, {driver.binding} stands in ({error})", {}


def nvrtc_version(newest_major: int | None, is_needed: bool) -> Found:
    """The vehicle's own kernel compiler: needed only where no shipped form of the kernel loads."""
    try:
        nvrtc = find_nvrtc(newest_major)
    except NvrtcError as error:
        if is_needed:
            raise NotRunError(str(error)) from error
        return f"not needed, a shipped form of the kernel loads ({error})", {}
    return f"{nvrtc.version[0]}.{nvrtc.version[1]} ({nvrtc.path})", {"version": list(nvrtc.version)}
