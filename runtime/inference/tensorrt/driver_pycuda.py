"""The driver seam over pycuda, with the shim of `libcuda` for graphs and for threads.

pycuda makes contexts, device memory, streams, copies, modules and launches. It knows no graphs, so capture and launch
go through the shim with the stream's handle. It knows no priorities either: its streams have the default priority,
which is the lowest there is; that is checked, not believed.

pycuda keeps a stack of contexts for each thread and ends the process with an abort when one is not empty at the end.
Hence only the thread that opens the driver pushes, once, and pops at exit; other threads get the context by the shim.
"""

from __future__ import annotations

import atexit
from typing import Any

import pycuda
import pycuda.driver as cuda

from runtime.inference.tensorrt.driver import CudaError, DeviceFacts, PinnedArray
from runtime.inference.tensorrt.driver_ctypes import owning_array
from runtime.inference.tensorrt.libcuda import SONAME, STREAM_NON_BLOCKING, Libcuda

#: pycuda.driver.Error is the base of its own errors; its MemoryError is none of Python's.
_ERRORS = (cuda.Error,)


class PycudaDriver:
    """See `CudaDriver`."""

    def __init__(self, device_index: int = 0, path: str = SONAME) -> None:
        """Raises OSError when there is no driver library, CudaError when it finds no device."""
        self._shim = Libcuda(path)
        self.binding = f"pycuda {pycuda.VERSION_TEXT}"
        try:
            cuda.init()
            device = cuda.Device(device_index)
            self._context = device.retain_primary_context()
            self._context.push()
        except _ERRORS as error:
            raise _translated("open the device", error) from error
        atexit.register(self._context.pop)
        version = cuda.get_driver_version()
        self.device = DeviceFacts(
            name=device.name(),
            compute_capability=tuple(device.compute_capability()),
            driver_version=(version // 1000, version % 1000 // 10),
            memory_bytes=device.total_memory(),
        )
        self._allocations: dict[int, Any] = {}

    def make_current(self) -> None:
        self._shim.call("cuCtxSetCurrent", self._context.handle)

    def open_stream(self) -> Any:
        try:
            stream = cuda.Stream(STREAM_NON_BLOCKING)
        except _ERRORS as error:
            raise _translated("cuStreamCreate", error) from error
        priority, lowest = self._shim.stream_priority(stream.handle), self._shim.lowest_priority()
        if priority != lowest:
            raise CudaError("cuStreamCreate", f"gave a stream of priority {priority}, the lowest is {lowest}")
        return stream

    def stream_address(self, stream: Any) -> int:
        return int(stream.handle)

    def pinned(self, size_bytes: int) -> PinnedArray:
        # By the shim: pycuda gives memory only to threads on whose own stack there is a context, and camera threads
        # take some as well.
        address = self._shim.pointer("cuMemHostAlloc", size_bytes, 0)
        return owning_array(address, size_bytes, self._free_pinned)

    def allocate(self, size_bytes: int) -> int:
        try:
            allocation = cuda.mem_alloc(size_bytes)
        except _ERRORS as error:
            raise _translated("cuMemAlloc", error) from error
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        try:
            self._allocations.pop(address).free()
        except _ERRORS as error:
            raise _translated("cuMemFree", error) from error

    def copy_to_device(self, address: int, source: PinnedArray, stream: Any) -> None:
        try:
            cuda.memcpy_htod_async(address, source, stream)
        except _ERRORS as error:
            raise _translated("cuMemcpyHtoDAsync", error) from error

    def copy_to_host(self, target: PinnedArray, address: int, stream: Any) -> None:
        try:
            cuda.memcpy_dtoh_async(target, address, stream)
        except _ERRORS as error:
            raise _translated("cuMemcpyDtoHAsync", error) from error

    def begin_capture(self, stream: Any) -> None:
        self._shim.begin_capture(stream.handle)

    def end_capture(self, stream: Any) -> int:
        return self._shim.end_capture(stream.handle)

    def abandon_capture(self, stream: Any) -> None:
        self._shim.abandon_capture(stream.handle)

    def launch_graph(self, graph: int, stream: Any) -> None:
        self._shim.call("cuGraphLaunch", graph, stream.handle)

    def free_graph(self, graph: int) -> None:
        self._shim.call("cuGraphExecDestroy", graph)

    def synchronise(self, stream: Any) -> None:
        try:
            stream.synchronize()
        except _ERRORS as error:
            raise _translated("cuStreamSynchronize", error) from error

    def load_module(self, image: bytes) -> Any:
        try:
            return cuda.module_from_buffer(image)
        except _ERRORS as error:
            raise _translated("cuModuleLoadData", error) from error

    def get_function(self, module: Any, name: str) -> Any:
        try:
            return module.get_function(name)
        except _ERRORS as error:
            raise _translated("cuModuleGetFunction", error) from error

    def launch(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: bytes,
        stream: Any,
        shared_bytes: int,
    ) -> None:
        try:
            function._launch_kernel(grid, block, params, shared_bytes, stream)  # what its public calls end in
        except _ERRORS as error:
            raise _translated("cuLaunchKernel", error) from error

    def close_stream(self, stream: Any) -> None:
        """pycuda gives a stream back with its last reference."""

    def _free_pinned(self, address: int) -> None:
        self.make_current()  # the last view may go in any thread
        self._shim.call("cuMemFreeHost", address)


def _translated(call: str, error: Exception) -> CudaError:
    """pycuda writes `call failed: words`; the name of a result code is not kept, so the class must do."""
    kind = "OUT_OF_MEMORY" if isinstance(error, cuda.MemoryError) else type(error).__name__
    return CudaError(call, f"{kind}: {error}")
