"""A machine with TensorRT, as far as one can be had without a GPU: the fakes, and engines built on them."""

from __future__ import annotations

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
from runtime.inference.tensorrt.probe import Platform, probe_tensorrt
from runtime.inference.tensorrt.trt_backend import TensorrtBackend
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
