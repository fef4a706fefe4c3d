"""The shim: `libcuda.so.1`, the CUDA driver itself, through ctypes.

It exists for what pycuda lacks (stream priorities, capturing and launching graphs) and serves by itself where neither
pycuda nor cuda-python is installed. Names, arguments and the `_v2` suffixes are those of the CUDA Driver API reference;
all of them are in every driver since CUDA 12.0, and in JetPack 6 and 7. Structures are avoided: only integers, pointers
and text cross this border, so there is no layout to get wrong.
"""

from __future__ import annotations

import ctypes
from typing import Any

from runtime.inference.tensorrt.driver import CudaError

SONAME = "libcuda.so.1"

_Pointer = ctypes.c_void_p
_Int = ctypes.c_int
_Size = ctypes.c_size_t
_Address = ctypes.c_uint64
_Unsigned = ctypes.c_uint
_Text = ctypes.c_char_p

STREAM_NON_BLOCKING = 1
#: Only this thread's calls are judged during a capture: capture threads of cameras go on as they like.
CAPTURE_THREAD_LOCAL = 1
COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76

#: Every function that is called, with its arguments. Each returns a CUresult.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (_Unsigned,),
    "cuDriverGetVersion": (_Pointer,),
    "cuDeviceGetCount": (_Pointer,),
    "cuDeviceGet": (_Pointer, _Int),
    "cuDeviceGetName": (_Pointer, _Int, _Int),
    "cuDeviceGetAttribute": (_Pointer, _Int, _Int),
    "cuDeviceTotalMem_v2": (_Pointer, _Int),
    "cuDevicePrimaryCtxRetain": (_Pointer, _Int),
    "cuCtxSetCurrent": (_Pointer,),
    "cuCtxGetStreamPriorityRange": (_Pointer, _Pointer),
    "cuStreamCreateWithPriority": (_Pointer, _Unsigned, _Int),
    "cuStreamGetPriority": (_Pointer, _Pointer),
    "cuStreamDestroy_v2": (_Pointer,),
    "cuStreamSynchronize": (_Pointer,),
    "cuMemHostAlloc": (_Pointer, _Size, _Unsigned),
    "cuMemFreeHost": (_Pointer,),
    "cuMemAlloc_v2": (_Pointer, _Size),
    "cuMemFree_v2": (_Address,),
    "cuMemcpyHtoDAsync_v2": (_Address, _Pointer, _Size, _Pointer),
    "cuMemcpyDtoHAsync_v2": (_Pointer, _Address, _Size, _Pointer),
    "cuStreamBeginCapture_v2": (_Pointer, _Int),
    "cuStreamEndCapture": (_Pointer, _Pointer),
    "cuGraphInstantiateWithFlags": (_Pointer, _Pointer, ctypes.c_ulonglong),
    "cuGraphUpload": (_Pointer, _Pointer),
    "cuGraphLaunch": (_Pointer, _Pointer),
    "cuGraphDestroy": (_Pointer,),
    "cuGraphExecDestroy": (_Pointer,),
    "cuModuleLoadData": (_Pointer, _Text),
    "cuModuleGetFunction": (_Pointer, _Pointer, _Text),
    "cuLaunchKernel": (_Pointer, *(_Unsigned,) * 7, _Pointer, _Pointer, _Pointer),
}


class Libcuda:
    """The driver's functions, each checked. `call("cuInit", 0)` raises CudaError when the driver says no."""

    def __init__(self, path: str = SONAME) -> None:
        """Raises OSError when the library is not there, CudaError when it is too old."""
        self._library = ctypes.CDLL(path)
        self._functions: dict[str, Any] = {}
        for name, arguments in FUNCTIONS.items():
            try:
                function = getattr(self._library, name)
            except AttributeError as error:
                raise CudaError(name, f"is not in {path}: the driver is older than CUDA 12.0") from error
            function.argtypes, function.restype = arguments, ctypes.c_int
            self._functions[name] = function

    def call(self, name: str, *arguments: Any) -> None:
        """Make one call. Raises CudaError."""
        code = self._functions[name](*arguments)
        if code != 0:
            raise CudaError(name, self.reason(code))

    def reason(self, code: int) -> str:
        """The driver's name and words for a result code."""
        words = []
        for function in (self._library.cuGetErrorName, self._library.cuGetErrorString):
            text = ctypes.c_char_p()
            if function(ctypes.c_int(code), ctypes.byref(text)) == 0 and text.value:
                words.append(text.value.decode(errors="replace"))
        return ": ".join(words) or f"unknown result code {code}"

    def integer(self, name: str, *arguments: Any) -> int:
        """The int that a call writes to its first argument."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def pointer(self, name: str, *arguments: Any) -> int:
        """The pointer, handle or size that a call writes to its first argument."""
        value = ctypes.c_void_p()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value or 0

    def lowest_priority(self) -> int:
        """The priority that yields to every other; numbers grow towards less important."""
        least, greatest = ctypes.c_int(), ctypes.c_int()
        self.call("cuCtxGetStreamPriorityRange", ctypes.byref(least), ctypes.byref(greatest))
        return least.value

    def stream_priority(self, stream: int) -> int:
        """The priority that a stream has."""
        priority = ctypes.c_int()
        self.call("cuStreamGetPriority", stream, ctypes.byref(priority))
        return priority.value

    def begin_capture(self, stream: int) -> None:
        """Record what this thread puts into the stream from now on."""
        self.call("cuStreamBeginCapture_v2", stream, CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """What was recorded, instantiated and already on the device, as a CUgraphExec."""
        graph = ctypes.c_void_p()
        self.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        try:
            executable = self.pointer("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self.call("cuGraphDestroy", graph)
        self.call("cuGraphUpload", executable, stream)
        self.call("cuStreamSynchronize", stream)
        return executable

    def abandon_capture(self, stream: int) -> None:
        """End a capture whatever its state; a graph that comes of it is thrown away."""
        graph = ctypes.c_void_p()
        if self._functions["cuStreamEndCapture"](stream, ctypes.byref(graph)) == 0 and graph.value:
            self._functions["cuGraphDestroy"](graph)
