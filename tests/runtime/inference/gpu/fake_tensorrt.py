"""A virtual `tensorrt`: the classes and names that the backend uses, over ONNX Runtime and the fake CUDA driver.

What it keeps of the real one: an engine is bytes that only the same version and device load; enqueueing puts work into
a CUDA stream (with cuLaunchHostFunc, so a capture records it and a launch runs it), reads inputs and writes outputs at
the addresses given, and fails when an address was never given. What it does not: speed, INT8 arithmetic of its own, and
kernels. `made_for(version)` gives the names as 8.6, 10 and 11 have them.
"""

from __future__ import annotations

import ctypes
import json
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from runtime.inference.graph import tensor_spec
from tests.runtime.inference.gpu.fake_cuda import FakeCuda

HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Severity:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = _Severity


class _Flag(int):
    pass


def made_for(version: str, cuda: FakeCuda, device: str = "Fake Orin") -> ModuleType:
    """A module `tensorrt` of this version on this device."""
    module = ModuleType("tensorrt")
    major = int(version.split(".")[0])
    creation = {"EXPLICIT_BATCH": 0} if major < 11 else {}
    creation |= {"STRONGLY_TYPED": 1} if major >= 10 else {}
    flags = {"TF32": 7} | ({"FP16": 0, "INT8": 1} if major < 11 else {})
    module.__dict__.update(
        __version__=version,
        ILogger=ILogger,
        NetworkDefinitionCreationFlag=SimpleNamespace(**creation),
        BuilderFlag=SimpleNamespace(**flags),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        nptype=np.dtype,
        fails=set(),  # a test puts "parse", "build", "load" or "context" here
        builds=[],  # (network flags, config) of every build
        cuda=cuda,
        device=device,
    )
    for kind in (Builder, OnnxParser, Runtime, ICudaEngine, IExecutionContext):
        setattr(module, kind.__name__, type(kind.__name__, (kind,), {"trt": module}))
    return module


class _Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.model: onnx.ModelProto | None = None

    @property
    def num_inputs(self) -> int:
        return len(self._specs())

    def get_input(self, index: int) -> Any:
        spec = self._specs()[index]
        return SimpleNamespace(name=spec.name, shape=tuple(-1 if size is None else size for size in spec.shape))

    def _specs(self) -> list[Any]:
        assert self.model is not None
        return [tensor_spec(value) for value in self.model.graph.input]


class _Config:
    def __init__(self) -> None:
        self.flags: set[int] = set()
        self.cleared: set[int] = set()
        self.pools: dict[str, int] = {}
        self.profiles: list[Any] = []
        self.max_aux_streams = -1

    def set_flag(self, flag: int) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: int) -> None:
        self.cleared.add(flag)

    def set_memory_pool_limit(self, pool: str, size_bytes: int) -> None:
        self.pools[pool] = size_bytes

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_shape(self, name: str, low: tuple[int, ...], best: tuple[int, ...], high: tuple[int, ...]) -> None:
        assert low == best == high
        self.shapes[name] = best


class Builder:
    trt: Any

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int = 0) -> _Network:
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        self.trt.builds.append((network.flags, config))
        if "build" in self.trt.fails:
            self.logger.log(_Severity.ERROR, "Could not find any implementation for node conv_7")
            return None
        assert network.model is not None
        stamp = {"version": self.trt.__version__, "device": self.trt.device}
        return b"fake engine" + json.dumps(stamp).encode() + b"\0" + network.model.SerializeToString()


class OnnxParser:
    trt: Any

    def __init__(self, network: _Network, logger: ILogger) -> None:
        self.network = network
        self.num_errors = 0

    def parse(self, data: bytes) -> bool:
        if "parse" in self.trt.fails:
            self.num_errors = 1
            return False
        self.network.model = onnx.load_model_from_string(data)
        return True

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(node=lambda: 4, desc=lambda: "Q/DQ zero point must be 0")


class Runtime:
    trt: Any

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        stamp, _, model = data.partition(b"\0")
        expected = {"version": self.trt.__version__, "device": self.trt.device}
        if not stamp.startswith(b"fake engine") or json.loads(stamp[11:]) != expected or "load" in self.trt.fails:
            self.logger.log(_Severity.ERROR, "Serialization assertion stdVersionRead == serializationVersion failed")
            return None
        return self.trt.ICudaEngine(model, self.logger)


class ICudaEngine:
    trt: Any
    num_io_tensors = 0

    def __init__(self, model: bytes, logger: ILogger) -> None:
        self.logger = logger
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        graph = onnx.load_model_from_string(model).graph
        self.specs = {value.name: tensor_spec(value) for value in (*graph.input, *graph.output)}
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]
        self.num_io_tensors = len(self.specs)

    def get_tensor_name(self, index: int) -> str:
        return list(self.specs)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if size is None else size for size in self.specs[name].shape)

    def get_tensor_dtype(self, name: str) -> str:
        return str(self.specs[name].dtype)

    def create_execution_context(self) -> Any:
        if "context" in self.trt.fails:
            self.logger.log(_Severity.ERROR, "Requested amount of GPU memory (1073741824 bytes) could not be allocated")
            return None
        return self.trt.IExecutionContext(self)


class IExecutionContext:
    trt: Any

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.set_shapes: dict[str, tuple[int, ...]] = {}
        self.callbacks: list[Any] = []  # recorded graphs call them for as long as they live
        self.errors: list[BaseException] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.set_shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.set_shapes:
            return self.set_shapes[name]
        shape = self.engine.get_tensor_shape(name)
        if name in self.engine.inputs or -1 not in shape:
            return shape
        batch = next(iter(self.set_shapes.values()))[0]
        return tuple(batch if size == -1 else size for size in shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.specs and address % 256 == 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        arrays = {name: self._array(name) for name in self.engine.specs}

        def run(_: Any) -> None:
            try:
                feeds = {name: arrays[name] for name in self.engine.inputs}
                values = self.engine.session.run(self.engine.outputs, feeds)
                for name, value in zip(self.engine.outputs, values, strict=True):
                    arrays[name][...] = value
            except BaseException as error:  # an exception cannot cross C; a test looks here
                self.errors.append(error)

        self.callbacks.append(HostFunction(run))
        function = self.trt.cuda.library.cuLaunchHostFunc
        function.argtypes = [ctypes.c_void_p, HostFunction, ctypes.c_void_p]
        return bool(function(stream_handle, self.callbacks[-1], None) == 0)

    def _array(self, name: str) -> np.ndarray:
        shape, dtype = self.get_tensor_shape(name), np.dtype(self.engine.get_tensor_dtype(name))
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_uint8 * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)
