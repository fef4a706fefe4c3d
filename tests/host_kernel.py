"""The preprocessing kernel's own source, compiled for the host with the machine's C++ compiler, and pictures for it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.formats.image_spec import ImageSpec
from runtime.formats.source_image import PictureFormat, picture_format_of
from runtime.inference.tensorrt.preprocess_block import ParameterBlock, lookup_table

SOURCE = Path(__file__).parents[1] / "runtime/inference/tensorrt/kernels/preprocess.cu"


class HostKernel:
    """Runs the kernel's source on the CPU over a parameter block."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("no g++ here to compile the preprocessing kernel's source for the host")
        library = folder / "preprocess_host.so"
        options = ["-O2", "-Wall", "-Wextra", "-Werror", "-std=c++17", "-shared", "-fPIC", "-DSHADOWRIG_HOST_BUILD"]
        subprocess.run([compiler, *options, "-x", "c++", str(SOURCE), "-o", str(library)], check=True)
        self._function = ctypes.CDLL(str(library)).preprocess_frames

    def run(self, block: ParameterBlock) -> None:
        """One launch."""
        spec = block.spec
        addresses = block.cameras.ctypes.data, block.lookup.ctypes.data
        self.call(*addresses, spec.width, spec.height, block.element_bytes, spec.pad_value, block.rows)

    def call(self, cameras: int, lookup: int, *sizes: int) -> None:
        """The kernel's own arguments, and the rows of its grid."""
        self._function(ctypes.c_void_p(cameras), ctypes.c_void_p(lookup), *sizes)


def host_libcuda(folder: Path, kernel: Path = SOURCE) -> Path:
    """A libcuda.so.1 that executes `kernel`'s source on the CPU; see host_libcuda.cpp."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here to compile a driver that runs the kernel's source on the CPU")
    definitions = [f'-DKERNEL_SOURCE="{kernel}"', "-DHOST_DRIVER_VERSION=12060"]
    options = ["-O2", "-Wall", "-Werror", "-std=c++17", "-shared", "-fPIC", *definitions]
    library = folder / "libcuda.so.1"
    source = Path(__file__).with_name("host_libcuda.cpp")
    subprocess.run([compiler, *options, str(source), "-o", str(library)], check=True)
    return library


def new_block(
    spec: ImageSpec, rows: int, element_type: str = "uint8", lookup: NDArray[np.uint32] | None = None
) -> tuple[ParameterBlock, NDArray[np.generic]]:
    """A block in ordinary memory, and the output `[rows, 3, height, width]` that its rows point to."""
    memory = np.zeros(ParameterBlock.size_bytes(rows), np.uint8)
    table = lookup_table(element_type) if lookup is None else lookup
    block = ParameterBlock(memory, spec, rows, element_type, table)
    output = np.full((rows, *spec.plane_shape), 77).astype(element_type)
    block.place_batch(output.ctypes.data)
    return block, output


def colour_planes(picture: PictureFormat, memory: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Y, U, V or R, G, B as arrays, from a picture's planes in memory (`[rows, pitch]`)."""
    return [
        memory[plane.memory_plane][: plane.height, plane.first_byte :: plane.step_bytes][:, : plane.width]
        for plane in picture.colour_planes()
    ]


def of_frame(frame: av.VideoFrame, chroma_site: str) -> tuple[PictureFormat, list[NDArray[np.uint8]]]:
    """The format of FFmpeg's picture and its planes in memory, in place."""
    pitches = tuple(plane.line_size for plane in frame.planes)
    picture = picture_format_of(
        frame.format.name,
        frame.width,
        frame.height,
        pitches,
        colorspace=int(frame.colorspace),
        color_range=int(frame.color_range),
        chroma_site=chroma_site,
    )
    return picture, [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in frame.planes]
