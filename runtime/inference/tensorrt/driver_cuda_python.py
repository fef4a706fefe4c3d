"""The driver seam over cuda-python (`cuda.bindings.driver`, 12 or newer).

Every function there gives a tuple that begins with a CUresult. Handles are small objects that turn into integers.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from cuda.bindings import driver as cuda

from runtime.inference.tensorrt.driver import CudaError, DeviceFacts, PinnedArray
from runtime.inference.tensorrt.driver_ctypes import LaunchParameters, owning_array

_NAME_BYTES = 256


class CudaPythonDriver:
    """See `CudaDriver`."""

    def __init__(self, device_index: int = 0) -> None:
        """Raises CudaError when the driver is missing or finds no device."""
        self.binding = f"cuda-python {metadata.version('cuda-bindings')}"
        _call(cuda.cuInit, 0)
        ordinal = _call(cuda.cuDeviceGet, device_index)
        self._context = _call(cuda.cuDevicePrimaryCtxRetain, ordinal)
        self.make_current()
        self.device = _read_device(ordinal)

    def make_current(self) -> None:
        _call(cuda.cuCtxSetCurrent, self._context)

    def open_stream(self) -> Any:
        least, _ = _call(cuda.cuCtxGetStreamPriorityRange)
        return _call(cuda.cuStreamCreateWithPriority, cuda.CUstream_flags.CU_STREAM_NON_BLOCKING, least)

    def stream_address(self, stream: Any) -> int:
        return int(stream)

    def pinned(self, size_bytes: int) -> PinnedArray:
        address = int(_call(cuda.cuMemHostAlloc, size_bytes, 0))
        return owning_array(address, size_bytes, self._free_pinned)

    def allocate(self, size_bytes: int) -> int:
        return int(_call(cuda.cuMemAlloc, size_bytes))

    def free(self, address: int) -> None:
        _call(cuda.cuMemFree, address)

    def copy_to_device(self, address: int, source: PinnedArray, stream: Any) -> None:
        _call(cuda.cuMemcpyHtoDAsync, address, source.ctypes.data, source.nbytes, stream)

    def copy_to_host(self, target: PinnedArray, address: int, stream: Any) -> None:
        _call(cuda.cuMemcpyDtoHAsync, target.ctypes.data, address, target.nbytes, stream)

    def begin_capture(self, stream: Any) -> None:
        _call(cuda.cuStreamBeginCapture, stream, cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self, stream: Any) -> Any:
        graph = _call(cuda.cuStreamEndCapture, stream)
        try:
            executable = _call(cuda.cuGraphInstantiate, graph, 0)
        finally:
            _call(cuda.cuGraphDestroy, graph)
        _call(cuda.cuGraphUpload, executable, stream)
        _call(cuda.cuStreamSynchronize, stream)
        return executable

    def abandon_capture(self, stream: Any) -> None:
        result, graph = cuda.cuStreamEndCapture(stream)
        if result == cuda.CUresult.CUDA_SUCCESS and int(graph):
            cuda.cuGraphDestroy(graph)

    def launch_graph(self, graph: Any, stream: Any) -> None:
        # Once a tick, and so without the detour over `_call`.
        (result,) = cuda.cuGraphLaunch(graph, stream)
        if result != cuda.CUresult.CUDA_SUCCESS:
            raise CudaError("cuGraphLaunch", _reason(result))

    def free_graph(self, graph: Any) -> None:
        _call(cuda.cuGraphExecDestroy, graph)

    def synchronise(self, stream: Any) -> None:
        (result,) = cuda.cuStreamSynchronize(stream)
        if result != cuda.CUresult.CUDA_SUCCESS:
            raise CudaError("cuStreamSynchronize", _reason(result))

    def load_module(self, image: bytes) -> Any:
        return _call(cuda.cuModuleLoadData, image)

    def get_function(self, module: Any, name: str) -> Any:
        return _call(cuda.cuModuleGetFunction, module, name.encode())

    def launch(
        self,
        function: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: bytes,
        stream: Any,
        shared_bytes: int,
    ) -> None:
        extra = LaunchParameters(params)
        _call(cuda.cuLaunchKernel, function, *grid, *block, shared_bytes, stream, 0, extra.address)

    def close_stream(self, stream: Any) -> None:
        _call(cuda.cuStreamDestroy, stream)

    def _free_pinned(self, address: int) -> None:
        self.make_current()  # the last view may go in any thread
        _call(cuda.cuMemFreeHost, address)


def _read_device(ordinal: Any) -> DeviceFacts:
    version = int(_call(cuda.cuDriverGetVersion))
    attributes = cuda.CUdevice_attribute
    major = _call(cuda.cuDeviceGetAttribute, attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, ordinal)
    minor = _call(cuda.cuDeviceGetAttribute, attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, ordinal)
    return DeviceFacts(
        name=_call(cuda.cuDeviceGetName, _NAME_BYTES, ordinal).split(b"\0")[0].decode(errors="replace"),
        compute_capability=(int(major), int(minor)),
        driver_version=(version // 1000, version % 1000 // 10),
        memory_bytes=int(_call(cuda.cuDeviceTotalMem, ordinal)),
    )


def _call(function: Any, *arguments: Any) -> Any:
    """What the call gives beside its result code: nothing, one value, or a tuple. Raises CudaError."""
    try:
        result, *values = function(*arguments)
    except RuntimeError as error:  # cuda-python finds no libcuda.so.1, or not this function in it
        raise CudaError(function.__name__, str(error)) from error
    if result != cuda.CUresult.CUDA_SUCCESS:
        raise CudaError(function.__name__, _reason(result))
    return values[0] if len(values) == 1 else tuple(values) or None


def _reason(result: Any) -> str:
    words = []
    for function in (cuda.cuGetErrorName, cuda.cuGetErrorString):
        code, text = function(result)
        if code == cuda.CUresult.CUDA_SUCCESS and text:
            words.append(text.decode(errors="replace"))
    return ": ".join(words) or str(result)
