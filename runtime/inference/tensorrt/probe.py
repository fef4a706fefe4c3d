"""What this machine has of what backend `tensorrt` needs, looked at in an order in which each step tells the most.

    driver    a binding is installed, the driver loads and finds a device     (`driver.open_driver`)
    import    the package `tensorrt` imports
    version   8.6, or 10 and later, with every name that is used here
    engine    a built engine for this very network is in the cache            (`engine_cache`)

The first three are here; the fourth is asked for each bundle. Whoever falls back says the step and the reason.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from runtime.inference.tensorrt.driver import CudaDriver, NoDriverError, open_driver

OLDEST_VERSION = (8, 6)

#: What must be there whatever the version; what comes and goes with versions is asked for where it is used.
REQUIRED_NAMES = (
    "Builder.build_serialized_network",
    "Builder.create_builder_config",
    "Builder.create_network",
    "Builder.create_optimization_profile",
    "ICudaEngine.create_execution_context",
    "ICudaEngine.get_tensor_dtype",
    "ICudaEngine.get_tensor_mode",
    "ICudaEngine.get_tensor_name",
    "ICudaEngine.get_tensor_shape",
    "ICudaEngine.num_io_tensors",
    "IExecutionContext.execute_async_v3",
    "IExecutionContext.get_tensor_shape",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.set_tensor_address",
    "ILogger",
    "MemoryPoolType.WORKSPACE",
    "OnnxParser.parse",
    "Runtime.deserialize_cuda_engine",
    "TensorIOMode.INPUT",
    "nptype",
)


class TensorrtUnavailableError(Exception):
    """Backend `tensorrt` cannot run here. `step` is driver, import, version or engine."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Platform:
    """A machine that passed the first three steps."""

    driver: CudaDriver
    trt: Any  # the module tensorrt
    version: tuple[int, ...]

    @property
    def version_text(self) -> str:
        """TensorRT's version as it says it."""
        return str(self.trt.__version__)

    def __str__(self) -> str:
        return f"TensorRT {self.version_text} on {self.driver.device} through {self.driver.binding}"


def probe_tensorrt(
    opener: Callable[[], CudaDriver] = open_driver, load: Callable[[str], ModuleType] = importlib.import_module
) -> Platform:
    """Look at driver, import and version, in this order.

    Raises:
        TensorrtUnavailableError: with the first step that fails, and exactly why.
    """
    try:
        driver = opener()
    except NoDriverError as error:
        raise TensorrtUnavailableError("driver", str(error)) from error
    try:
        trt = load("tensorrt")
    except (ImportError, OSError) as error:
        fix = "on JetPack use its own package python3-libnvinfer and a venv with --system-site-packages"
        raise TensorrtUnavailableError("import", f"tensorrt does not import: {error} ({fix})") from error
    return Platform(driver, trt, _checked_version(trt))


def _checked_version(trt: Any) -> tuple[int, ...]:
    text = str(getattr(trt, "__version__", "unknown"))
    version = tuple(int(number) for number in re.findall(r"\d+", text)[:3])
    if version < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise TensorrtUnavailableError("version", f"TensorRT {text} is older than {oldest} (fix: JetPack 6 or newer)")
    lacking = [name for name in REQUIRED_NAMES if not _has(trt, name)]
    if lacking:
        raise TensorrtUnavailableError("version", f"TensorRT {text} lacks {', '.join(lacking)}")
    return version


def _has(module: Any, dotted: str) -> bool:
    found: Any = module
    for name in dotted.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True
