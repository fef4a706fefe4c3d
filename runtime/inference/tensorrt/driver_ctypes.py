"""The driver seam over `libcuda` alone: for vehicles without pycuda and cuda-python, and for tests without a GPU."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable

import numpy as np

from runtime.inference.tensorrt import libcuda
from runtime.inference.tensorrt.driver import DeviceFacts, PinnedArray
from runtime.inference.tensorrt.libcuda import Libcuda

_NAME_BYTES = 256
#: CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE and CU_LAUNCH_PARAM_END of cuda.h.
_PARAM_BUFFER_POINTER, _PARAM_BUFFER_SIZE, _PARAM_END = 1, 2, None


class CtypesDriver:
    """See `CudaDriver`. Streams, graphs, modules and functions are the driver's own handles."""

    def __init__(self, device_index: int = 0, path: str = libcuda.SONAME) -> None:
        """Raises OSError when there is no driver library, CudaError when it finds no device."""
        self._cuda = Libcuda(path)
        self.binding = "ctypes"
        self._cuda.call("cuInit", 0)
        ordinal = self._cuda.integer("cuDeviceGet", device_index)
        self._context = self._cuda.pointer("cuDevicePrimaryCtxRetain", ordinal)
        self.make_current()
        self.device = read_device(self._cuda, ordinal)

    def make_current(self) -> None:
        self._cuda.call("cuCtxSetCurrent", self._context)

    def open_stream(self) -> int:
        priority = self._cuda.lowest_priority()
        return self._cuda.pointer("cuStreamCreateWithPriority", libcuda.STREAM_NON_BLOCKING, priority)

    def stream_address(self, stream: int) -> int:
        return stream

    def pinned(self, size_bytes: int) -> PinnedArray:
        address = self._cuda.pointer("cuMemHostAlloc", size_bytes, 0)
        return owning_array(address, size_bytes, self._free_pinned)

    def allocate(self, size_bytes: int) -> int:
        return self._cuda.pointer("cuMemAlloc_v2", size_bytes)

    def free(self, address: int) -> None:
        self._cuda.call("cuMemFree_v2", address)

    def copy_to_device(self, address: int, source: PinnedArray, stream: int) -> None:
        self._cuda.call("cuMemcpyHtoDAsync_v2", address, source.ctypes.data, source.nbytes, stream)

    def copy_to_host(self, target: PinnedArray, address: int, stream: int) -> None:
        self._cuda.call("cuMemcpyDtoHAsync_v2", target.ctypes.data, address, target.nbytes, stream)

    def begin_capture(self, stream: int) -> None:
        self._cuda.begin_capture(stream)

    def end_capture(self, stream: int) -> int:
        return self._cuda.end_capture(stream)

    def abandon_capture(self, stream: int) -> None:
        self._cuda.abandon_capture(stream)

    def launch_graph(self, graph: int, stream: int) -> None:
        self._cuda.call("cuGraphLaunch", graph, stream)

    def free_graph(self, graph: int) -> None:
        self._cuda.call("cuGraphExecDestroy", graph)

    def synchronise(self, stream: int) -> None:
        self._cuda.call("cuStreamSynchronize", stream)

    def load_module(self, image: bytes) -> int:
        return self._cuda.pointer("cuModuleLoadData", image)

    def get_function(self, module: int, name: str) -> int:
        return self._cuda.pointer("cuModuleGetFunction", module, name.encode())

    def launch(
        self,
        function: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: bytes,
        stream: int,
        shared_bytes: int,
    ) -> None:
        extra = LaunchParameters(params)
        self._cuda.call("cuLaunchKernel", function, *grid, *block, shared_bytes, stream, None, extra.address)

    def close_stream(self, stream: int) -> None:
        self._cuda.call("cuStreamDestroy_v2", stream)

    def _free_pinned(self, address: int) -> None:
        self.make_current()  # the last view may go in any thread
        self._cuda.call("cuMemFreeHost", address)


def owning_array(address: int, size_bytes: int, free: Callable[[int], None]) -> PinnedArray:
    """The memory at `address` as a zeroed array; `free` gets the address back when the last view of it is gone."""
    memory = (ctypes.c_uint8 * size_bytes).from_address(address)
    # A view keeps the ctypes array alive, and that the memory. At exit the driver frees everything by itself.
    weakref.finalize(memory, free, address).atexit = False
    array = np.frombuffer(memoryview(memory), np.uint8)
    array.fill(0)
    return array


def read_device(cuda: Libcuda, ordinal: int) -> DeviceFacts:
    """Facts of an initialised device. Raises CudaError."""
    name = ctypes.create_string_buffer(_NAME_BYTES)
    cuda.call("cuDeviceGetName", name, _NAME_BYTES, ordinal)
    version = cuda.integer("cuDriverGetVersion")
    capability = (libcuda.COMPUTE_CAPABILITY_MAJOR, libcuda.COMPUTE_CAPABILITY_MINOR)
    major, minor = (cuda.integer("cuDeviceGetAttribute", attribute, ordinal) for attribute in capability)
    return DeviceFacts(
        name=name.value.decode(errors="replace"),
        compute_capability=(major, minor),
        driver_version=(version // 1000, version % 1000 // 10),
        memory_bytes=cuda.pointer("cuDeviceTotalMem_v2", ordinal),
    )


class LaunchParameters:
    """A kernel's arguments as one block, in the form of cuLaunchKernel's `extra`; must live until the call returns."""

    def __init__(self, params: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(params, len(params))
        self._size = ctypes.c_size_t(len(params))
        block, size = ctypes.addressof(self._buffer), ctypes.addressof(self._size)
        self._extra = (ctypes.c_void_p * 5)(_PARAM_BUFFER_POINTER, block, _PARAM_BUFFER_SIZE, size, _PARAM_END)
        self.address = ctypes.addressof(self._extra)
