"""What is shipped is what the source says, every target compiles, and the host side launches what the kernel reads."""

from __future__ import annotations

import ctypes
import hashlib
import json
import locale
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.formats.image_spec import ImageSpec
from runtime.formats.source_image import PictureFormat
from runtime.inference.tensorrt import kernel_image
from runtime.inference.tensorrt.kernel_image import KernelImageError, images, load_first, shipped_images
from runtime.inference.tensorrt.kernels import build
from runtime.inference.tensorrt.nvrtc import Nvrtc, NvrtcError, find_nvrtc
from runtime.inference.tensorrt.preprocess import PreprocessKernel
from runtime.inference.tensorrt.preprocess_block import CAMERA
from tests.host_kernel import HostKernel, new_block

RECORD = json.loads(build.RECORD.read_text())
REBUILD = "run `python -m runtime.inference.tensorrt.kernels.build` and commit what it writes"


def test_the_shipped_images_were_made_from_the_shipped_source() -> None:
    assert RECORD["source_sha256"] == build.source_sha256(), f"preprocess.cu has changed: {REBUILD}"
    for image in RECORD["images"]:
        found = hashlib.sha256((build.FOLDER / image["file"]).read_bytes()).hexdigest()
        assert found == image["sha256"], f"{image['file']} is not what images.json says: {REBUILD}"
    targets = {target for image in RECORD["images"] for target in image["targets"]}
    assert targets == {"sm_87", "sm_90", "sm_110", "compute_75", "compute_70"}


def test_every_image_is_of_the_kind_that_its_drivers_load() -> None:
    """ELF's OS ABI and ABI version (bytes 7 and 8) are what a driver of CUDA 12 refuses in nvcc 13's code."""
    cubin = (build.FOLDER / "preprocess.cuda12.sm_87.cubin").read_bytes()
    assert (cubin[:4], cubin[7:9]) == (b"\x7fELF", b"\x33\x07")
    section_headers, size, count = struct.unpack_from("<Q", cubin, 40)[0], *struct.unpack_from("<HH", cubin, 58)
    assert section_headers + size * count <= len(cubin), "the cubin was cut off"
    ptx = (build.FOLDER / "preprocess.cuda12.ptx").read_text()
    assert ".version 8.0\n" in ptx
    assert ".target sm_70\n" in ptx
    assert ".visible .entry preprocess_frames(" in ptx
    fat = (build.FOLDER / "preprocess.cuda13.fatbin").read_bytes()
    assert fat.count(b"\x7fELF\x02\x01\x01\x41\x08") == 3
    assert b".version 9.0\n" in fat


@pytest.fixture(scope="module")
def nvcc() -> str:
    found = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if found is None:
        pytest.skip("no nvcc here: the CUDA 13 toolkit compiles the kernel's shipped form")
    return found


@pytest.mark.parametrize("target", build.CUDA13_TARGETS)
def test_the_kernel_compiles_for_every_target_without_local_memory(nvcc: str, target: str) -> None:
    assert build.resources(nvcc, target)["registers"] <= 64, "256 threads of 64 registers fill an SM's file twice over"


def test_nvcc_makes_the_shipped_image_again(nvcc: str, tmp_path: Path) -> None:
    made = build.build_cuda13(nvcc, tmp_path)
    shipped = RECORD["images"][0]
    if made["toolkit"] != shipped["toolkit"]:
        pytest.skip(f"{made['toolkit']} is here, {shipped['toolkit']} made the shipped image")
    assert made == shipped


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    try:
        return find_nvrtc()
    except NvrtcError as error:
        pytest.skip(f"{error} (or `pip install nvidia-cuda-nvrtc-cu12`)")


def test_nvrtc_compiles_the_source_for_a_gpu_and_to_ptx(nvrtc: Nvrtc) -> None:
    source = build.SOURCE.read_bytes()
    encoding = locale.nl_langinfo(locale.CODESET)
    cubin = nvrtc.compile(source, "preprocess.cu", "sm_87")
    assert cubin[:4] == b"\x7fELF"
    assert b"preprocess_frames" in cubin
    assert b".entry preprocess_frames" in nvrtc.compile(source, "preprocess.cu", "compute_75")
    assert locale.nl_langinfo(locale.CODESET) == encoding, "the compiler has changed this thread's locale"


def test_nvrtc_makes_the_shipped_images_again(nvrtc: Nvrtc, tmp_path: Path) -> None:
    if nvrtc.version != (12, 0):
        pytest.skip(f"NVRTC {nvrtc.version} is here, 12.0 made the shipped images")
    assert build.build_cuda12(nvrtc, tmp_path) == RECORD["images"][1:]


def test_nvrtc_says_what_is_wrong_with_a_source(nvrtc: Nvrtc) -> None:
    with pytest.raises(NvrtcError, match=r"cannot compile wrong.cu for sm_87: (?s:.*)undefined"):
        nvrtc.compile(b"__global__ void f() { g(); }", "wrong.cu", "sm_87")


def test_a_file_that_is_no_nvrtc_is_named(tmp_path: Path) -> None:
    path = tmp_path / "libnvrtc.so.12"
    path.write_bytes(b"no library")
    with pytest.raises(NvrtcError, match=r"libnvrtc.so.12 is no NVRTC library that can be loaded"):
        Nvrtc(str(path))


def test_each_driver_is_given_what_it_can_load() -> None:
    assert shipped_images((13, 0), (11, 0)) == ("preprocess.cuda13.fatbin", "preprocess.cuda12.ptx")
    assert shipped_images((12, 6), (8, 7)) == ("preprocess.cuda12.sm_87.cubin", "preprocess.cuda12.ptx")
    assert shipped_images((12, 2), (8, 9)) == ("preprocess.cuda12.ptx",)
    assert shipped_images((11, 4), (7, 2)) == ()
    names = [name for name, _ in images((12, 6), (8, 7))]
    assert names[-1] == "NVRTC for sm_87"


class RefusedError(Exception):
    """What a driver's binding raises."""


def test_refused_images_are_passed_over_with_their_reasons() -> None:
    def load(image: bytes) -> str:
        if image.startswith(b"\x7fELF"):
            raise RefusedError("no kernel image is available for execution on the device")
        assert image.endswith(b"\0"), "PTX without its final zero is read past its end"
        return "module"

    module, name, reasons = load_first((12, 6), (8, 7), load, (RefusedError,))
    assert (module, name) == ("module", "preprocess.cuda12.ptx")
    assert reasons == ("preprocess.cuda12.sm_87.cubin: no kernel image is available for execution on the device",)


def test_when_nothing_loads_every_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_nvrtc(newest_major: int | None = None) -> Nvrtc:
        raise NvrtcError(f"no NVRTC for CUDA {newest_major}")

    def load(image: bytes) -> str:
        raise RefusedError("refused")

    monkeypatch.setattr(kernel_image, "find_nvrtc", no_nvrtc)
    with pytest.raises(
        KernelImageError, match=r"8\.7 with a driver of CUDA 12\.6: .*cubin: refused; .*NVRTC for sm_87"
    ):
        load_first((12, 6), (8, 7), load, (RefusedError,))


class HostDriver:
    """Executes launches on the CPU: reads the packed arguments as cuLaunchKernel would."""

    def __init__(self, kernel: HostKernel) -> None:
        self._kernel = kernel
        self.launches = 0

    def load_module(self, image: bytes) -> str:
        assert image
        return "module"

    def get_function(self, module: Any, name: str) -> str:
        assert (module, name) == ("module", "preprocess_frames")
        return "function"

    def launch(self, function: Any, grid: Any, block: Any, params: bytes, stream: Any, shared_bytes: int) -> None:
        cameras, lookup, width, height, element_bytes, pad_value = struct.unpack("<QQiiii", params)
        assert (function, block, shared_bytes) == ("function", (32, 8, 1), 0)
        assert grid[0] * 32 >= width > (grid[0] - 1) * 32
        assert grid[1] * 8 >= height > (grid[1] - 1) * 8
        self._kernel.call(cameras, lookup, width, height, element_bytes, pad_value, grid[2])
        self.launches += 1


def test_one_launch_makes_the_batch_of_all_cameras(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    driver = HostDriver(HostKernel(tmp_path))
    block, output = new_block(ImageSpec(70, 45, "bgr", "letterbox", 9), 8)
    launch = PreprocessKernel(driver, b"image").bind(block, block.cameras.ctypes.data)
    pictures = []
    for row in range(8):
        width, height = 60 + 10 * row, 120 - 8 * row
        picture = PictureFormat("nv12", width, height, (width + row, width + 2))
        sizes = (height, width + row), (height // 2, width + 2)
        pictures.append([random.integers(0, 256, size, np.uint8) for size in sizes])
        block.describe(row, picture)
    block.point(3, [plane.ctypes.data for plane in pictures[3]])
    launch.enqueue("stream")
    alone = output[3].copy()
    assert (output[[0, 1, 2, 4, 5, 6, 7]] == 9).all(), "rows without a picture hold the pad value"
    for row, planes in enumerate(pictures):
        block.point(row, [plane.ctypes.data for plane in planes])
    block.leave_out(6)
    launch.enqueue("stream")
    assert driver.launches == 2
    assert np.array_equal(output[3], alone)
    assert (output[6] == 9).all()
    assert len({output[row].tobytes() for row in range(8)}) == 8


def test_the_structures_are_as_large_as_the_source_says() -> None:
    """The source asserts the same sizes when it is compiled."""
    assert (CAMERA["planes"].base.itemsize, CAMERA.itemsize) == (64, 272)
    assert ctypes.sizeof(ctypes.c_void_p) == 8
