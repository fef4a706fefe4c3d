"""A machine with TensorRT, as far as one can be had without a GPU: the fakes, and engines built on them."""

from __future__ import annotations

import ctypes
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.inference.bundle import ModelBundle
from runtime.inference.rows import layout_for
from runtime.inference.tensorrt.driver_ctypes import CtypesDriver
from runtime.inference.tensorrt.engine_builder import build_engine
from runtime.inference.tensorrt.engine_recipe import EngineRecipe, make_recipe
from runtime.inference.tensorrt.kernel_image import KERNEL_NAME
from runtime.inference.tensorrt.preprocess import ARGUMENTS
from runtime.inference.tensorrt.probe import Platform, probe_tensorrt
from runtime.inference.tensorrt.trt_backend import TensorrtBackend
from tests.host_kernel import HostKernel
from tests.runtime.inference.gpu.fake_cuda import FakeCuda, compile_fake
from tests.runtime.inference.gpu.fake_tensorrt import made_for

VERSION = "10.3.0"


@functools.cache
def _compiled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return compile_fake(Path(folder)).read_bytes()


def fresh_cuda(folder: Path) -> FakeCuda:
    """A fake driver with counters at zero, of its own."""
    path = folder / "libfakecuda.so"
    path.write_bytes(_compiled())
    return FakeCuda(path)


def fake_platform(cuda: FakeCuda, version: str = VERSION) -> Platform:
    return probe_tensorrt(lambda: CtypesDriver(path=str(cuda.path)), lambda name: made_for(version, cuda))


@functools.cache
def _host_kernel() -> HostKernel:
    _folders.append(tempfile.TemporaryDirectory())
    return HostKernel(Path(_folders[-1].name))


def with_kernel(cuda: FakeCuda) -> FakeCuda:
    """The same fake, which runs the preprocessing kernel's own source on the CPU whenever that is launched."""
    kernel = _host_kernel()

    def run(parameters: int, rows: int) -> None:
        cameras, lookup, *sizes = ARGUMENTS.unpack(ctypes.string_at(parameters, ARGUMENTS.size))
        kernel.call(cameras, lookup, *sizes, rows)

    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint)(run)
    cuda.callbacks.append(callback)
    cuda.library.fake_register_kernel(KERNEL_NAME.encode(), callback)
    return cuda


def built(platform: Platform, bundle: ModelBundle, precision: str = "fp32") -> tuple[bytes, EngineRecipe]:
    recipe = make_recipe(bundle, precision, platform)
    return build_engine(platform.trt, bundle.file(recipe.role), recipe), recipe


def open_backend_on(
    platform: Platform, bundle: ModelBundle, cameras: Sequence[str], precision: str = "fp32", **arguments: Any
) -> TensorrtBackend:
    data, recipe = built(platform, bundle, precision)
    layout = layout_for(bundle.manifest, cameras)
    return TensorrtBackend(platform, data, recipe, bundle, layout, cameras, **arguments)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def open_for_contract(bundle: ModelBundle, cameras: Sequence[str], **arguments: Any) -> TensorrtBackend:
    """What the contract suite of all backends opens."""
    _folders.append(tempfile.TemporaryDirectory())
    return open_backend_on(fake_platform(fresh_cuda(Path(_folders[-1].name))), bundle, cameras, **arguments)


def open_on_device_for_contract(bundle: ModelBundle, cameras: Sequence[str], **arguments: Any) -> TensorrtBackend:
    """The same with images prepared on the device."""
    _folders.append(tempfile.TemporaryDirectory())
    platform = fake_platform(with_kernel(fresh_cuda(Path(_folders[-1].name))))
    return open_backend_on(platform, bundle, cameras, preprocess="device", **arguments)
