"""Which compiled form of the preprocessing kernel a vehicle's driver can load, in order, and what to do when none can.

A driver of CUDA 13 or later takes the fat binary of nvcc 13. One of CUDA 12 (JetPack 6 among them) cannot: the ELF's
ABI version and the PTX's version are newer than it. For it there is an image for Orin and PTX 8.0, which later drivers
take as well. Whatever else there is (CUDA 11, a damaged file) the vehicle's own NVRTC compiles from source, in less
than half a second, for exactly the GPU at hand; so nothing needs to be cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from runtime.inference.tensorrt.nvrtc import NvrtcError, find_nvrtc

FOLDER = Path(__file__).parent / "kernels"
SOURCE_NAME = "preprocess.cu"
KERNEL_NAME = "preprocess_frames"

Module = TypeVar("Module")


class KernelImageError(RuntimeError):
    """No form of the kernel could be loaded; the message says why for each."""


def shipped_images(driver_version: tuple[int, int], capability: tuple[int, int]) -> tuple[str, ...]:
    """File names to try, best first.

    Args:
        driver_version: the newest CUDA that the driver knows, (12, 6) under JetPack 6.1.
        capability: the device's compute capability, (8, 7) for Orin.
    """
    cuda12 = ("preprocess.cuda12.sm_87.cubin",) if capability == (8, 7) else ()
    if driver_version >= (13, 0):
        return ("preprocess.cuda13.fatbin", "preprocess.cuda12.ptx")
    if driver_version >= (12, 0):
        return (*cuda12, "preprocess.cuda12.ptx")
    return ()


def images(driver_version: tuple[int, int], capability: tuple[int, int]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """What to try, in order: a name for reports, and how to get the bytes (NVRTC's take a while to make)."""
    for name in shipped_images(driver_version, capability):
        yield name, partial(_shipped, name)
    architecture = f"sm_{capability[0]}{capability[1]}"

    def compiled() -> bytes:
        nvrtc = find_nvrtc(newest_major=driver_version[0])
        return nvrtc.compile((FOLDER / SOURCE_NAME).read_bytes(), SOURCE_NAME, architecture)

    yield f"NVRTC for {architecture}", compiled


def _shipped(name: str) -> bytes:
    """cuModuleLoadData knows the end of PTX by a zero; the others state their own length."""
    return (FOLDER / name).read_bytes() + (b"\0" if name.endswith(".ptx") else b"")


def load_first(
    driver_version: tuple[int, int],
    capability: tuple[int, int],
    load: Callable[[bytes], Module],
    refusals: tuple[type[Exception], ...],
) -> tuple[Module, str, tuple[str, ...]]:
    """Load the first image that the driver takes.

    Args:
        load: the driver's cuModuleLoadData.
        refusals: what `load` raises for an image that it cannot take.

    Returns:
        The module, the image's name, and why each one before it was refused.

    Raises:
        KernelImageError: none could be loaded.
    """
    reasons: list[str] = []
    refused: tuple[type[Exception], ...] = (OSError, NvrtcError, *refusals)
    for name, content in images(driver_version, capability):
        try:
            return load(content()), name, tuple(reasons)
        except refused as error:
            reasons.append(f"{name}: {error}")
    version = f"CUDA {driver_version[0]}.{driver_version[1]}"
    raise KernelImageError(
        f"the preprocessing kernel cannot be loaded on compute capability {capability[0]}.{capability[1]} with a "
        f"driver of {version}: {'; '.join(reasons)}"
    )
