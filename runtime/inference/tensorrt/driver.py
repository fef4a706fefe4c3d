"""The seam to CUDA: the few driver calls that a tick and its preparation need, whoever makes them.

Three bindings stand behind it, tried in this order:

    pycuda        the main one; what it lacks (graphs, priorities) comes from the shim in `libcuda`
    cuda-python   NVIDIA's own (`cuda.bindings`, 12 or newer)
    ctypes        the shim alone: needs nothing but the driver

A driver object belongs to one device and keeps its *primary* context, which TensorRT uses as well. The context is
never let go: pinned arrays that somebody still holds must stay readable until the process ends. Streams, graphs and
functions are opaque to callers. Every call that fails raises `CudaError`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

PinnedArray = NDArray[np.uint8]
#: Everything that is read or written by a device lies on such a boundary: what TensorRT asks for.
ALIGNMENT_BYTES = 256


class CudaError(RuntimeError):
    """A driver call failed. `call` is its name and `reason` the driver's, such as CUDA_ERROR_OUT_OF_MEMORY."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(f"{call}: {reason} ({_advice(reason)})")
        self.call = call
        self.reason = reason


class NoDriverError(Exception):
    """No binding can reach a device; the message says what each of them said."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What an engine depends on, and what reports say."""

    name: str
    compute_capability: tuple[int, int]
    driver_version: tuple[int, int]  # the newest CUDA that the driver knows, such as (12, 6)
    memory_bytes: int

    def __str__(self) -> str:
        major, minor = self.compute_capability
        driver = ".".join(map(str, self.driver_version))
        return f"{self.name} (sm_{major}{minor}, {self.memory_bytes / 2**30:.1f} GiB, driver for CUDA {driver})"


class CudaDriver(Protocol):
    """One device. Addresses are integers; sizes are bytes; pinned memory is a flat uint8 array."""

    binding: str  # what makes the calls, with its version
    device: DeviceFacts

    def make_current(self) -> None:
        """Let the calling thread use the device; the thread that opened the driver can already."""

    def open_stream(self) -> Any:
        """A stream of the lowest priority that does not wait for the default stream."""

    def stream_address(self, stream: Any) -> int:
        """The stream as other libraries take it: a CUstream."""

    def pinned(self, size_bytes: int) -> PinnedArray:
        """Page-locked host memory, zeroed, given back when its last view is gone."""

    def allocate(self, size_bytes: int) -> int:
        """The address of device memory, aligned to at least 256 bytes; held until `free`."""

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""

    def copy_to_device(self, address: int, source: PinnedArray, stream: Any) -> None:
        """Put a copy of pinned memory to the device into the stream."""

    def copy_to_host(self, target: PinnedArray, address: int, stream: Any) -> None:
        """Put a copy from the device to pinned memory into the stream."""

    def begin_capture(self, stream: Any) -> None:
        """From now on, what this thread puts into the stream is recorded and not run."""

    def end_capture(self, stream: Any) -> Any:
        """The recorded work, ready to be launched any number of times."""

    def abandon_capture(self, stream: Any) -> None:
        """End a capture that went wrong; never raises, since the reason is on its way already."""

    def launch_graph(self, graph: Any, stream: Any) -> None:
        """Put everything recorded into the stream, as one."""

    def free_graph(self, graph: Any) -> None:
        """Give back what `end_capture` gave."""

    def synchronise(self, stream: Any) -> None:
        """Wait for the stream; errors of what ran in it come out here."""

    def load_module(self, image: bytes) -> Any:
        """Compiled kernels: a fatbin, cubin or PTX text."""

    def get_function(self, module: Any, name: str) -> Any:
        """One kernel of a module."""

    def launch(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: bytes,
        stream: Any,
        shared_bytes: int,
    ) -> None:
        """Put a kernel into the stream; `params` are its arguments one after another, each aligned to its own size."""

    def close_stream(self, stream: Any) -> None:
        """Give back what `open_stream` gave."""


#: Module and class of each binding, the preferred one first.
BINDINGS = {
    "pycuda": ("runtime.inference.tensorrt.driver_pycuda", "PycudaDriver"),
    "cuda-python": ("runtime.inference.tensorrt.driver_cuda_python", "CudaPythonDriver"),
    "ctypes": ("runtime.inference.tensorrt.driver_ctypes", "CtypesDriver"),
}


def open_driver(bindings: Sequence[str] = tuple(BINDINGS), device_index: int = 0) -> CudaDriver:
    """The device through the first binding that is installed.

    Raises:
        NoDriverError: no binding is there, or the driver finds no device.
    """
    said = []
    for name in bindings:
        module_name, class_name = BINDINGS[name]
        try:
            opened: Callable[[int], CudaDriver] = getattr(importlib.import_module(module_name), class_name)
            return opened(device_index)
        except ImportError as error:
            said.append(f"{name} is not installed ({error})")
        except (CudaError, OSError) as error:
            # What the driver itself says is the same through every binding: the others would only repeat it.
            raise NoDriverError("; ".join([*said, f"{name}: {error}"])) from error
    raise NoDriverError("; ".join(said))


_ADVICE = {
    "OUT_OF_MEMORY": "free GPU memory: stop what else runs on the GPU, or use a smaller network",
    "NO_DEVICE": "no NVIDIA GPU is visible; in a container or a sandboxed service, let its device nodes in",
    "STUB_LIBRARY": "libcuda.so.1 is the toolkit's stub; install the GPU's driver",
    "SYSTEM_DRIVER_MISMATCH": "kernel module and libcuda.so.1 differ in version; reboot after a driver update",
    "STREAM_CAPTURE": "a library did what a CUDA graph cannot hold; report this with the network's name",
    "NO_BINARY_FOR_GPU": "these kernels or this engine were made for another GPU; build them for this one",
}


def _advice(reason: str) -> str:
    for word, advice in _ADVICE.items():
        if word in reason:
            return advice
    return "after this the device cannot be trusted: restart the process; see 'dmesg' for the driver's own words (Xid)"
